"""Probes of (source, target), for encoder-decoder models."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe, token_probe
from slt_notebook.models.sequences import read_sequences

SOURCE_IDS, SOURCE_MASK = "source_ids", "source_mask"
"""Fields of a probe of pairs: what the encoder reads, and which of it is no padding."""


def pair_probe(
    name: str,
    sources: Any,
    targets: Any,
    tokenizer: Any = None,
    *,
    start: int = 0,
    labels: Sequence[Any] | None = None,
) -> Probe:
    """Examples of (source, target) for `slt.seq2seq_lm`.

    Args:
        name: of the probe in the store.
        sources: texts, or token ids as for `token_probe`: what the encoder reads.
        targets: texts, or token ids without the start token: what is predicted.  Padding and -100
            do not count.
        tokenizer: for texts, and for the strings of tokens.
        start: the token that the decoder begins with: `model.config.decoder_start_token_id`.
        labels: one per example, kept as a coordinate.

    Returns:
        A probe whose tokens are those of the targets, after the start token.

    Raises:
        InputError: texts without a tokenizer, unequal numbers, or empty targets.

    >>> pair_probe("train", [[5, 6, 7], [8, 9]], [[1, 2], [3]])
    Probe('train', 2 examples, input_ids[2, 3], attention_mask[2, 3], source_ids[2, 3], \
source_mask[2, 3])
    """
    sources, targets = (_ids_of(v, tokenizer) for v in (sources, targets))
    if len(sources) != len(targets):
        raise InputError(
            say(f"{len(sources)} sources and {len(targets)} targets", "equal numbers", "pair them")
        )
    begun = [np.concatenate([[start], _counted(row, i)]) for i, row in enumerate(targets)]
    made = token_probe(name, begun, tokenizer, labels)
    read = token_probe(name, [_at_least_two(np.asarray(row)) for row in sources])
    mask = read.fields["attention_mask"]
    for i, row in enumerate(sources):
        mask[i, len(row) :] = 0
    fields = {**made.fields, SOURCE_IDS: read.fields["input_ids"], SOURCE_MASK: mask}
    return Probe(name, fields, made.examples, "text", made.labels, made.strings)


def _counted(row: np.ndarray, number: int) -> np.ndarray:
    """Return a target without the -100 at its end."""
    row = np.asarray(row)
    kept = row[row != -100]
    if (row[: len(kept)] == -100).any():
        got = f"target {number}, with -100 before tokens that count"
        do = "pass the tokens themselves: a decoder reads all that come before"
        raise InputError(say(got, "-100 at the end alone, as padding", do))
    return kept


def _at_least_two(row: np.ndarray) -> np.ndarray:
    return row if len(row) > 1 else np.concatenate([row, np.zeros(2 - len(row), np.int64)])


def _ids_of(given: Any, tokenizer: Any) -> list[np.ndarray]:
    """Return the ids of texts, or ids as they are, without padding."""
    texts = [given] if isinstance(given, str) else given
    if not hasattr(texts, "keys") and len(texts) and isinstance(texts[0], str):
        if tokenizer is None:
            do = "pass tokenizer=..., or token ids"
            raise InputError(say("texts without a tokenizer", "a tokenizer", do))
        return [np.asarray(tokenizer(text, verbose=False)["input_ids"]) for text in texts]
    return read_sequences(texts)[0]
