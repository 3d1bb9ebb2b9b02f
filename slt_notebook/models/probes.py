"""Probes: fixed examples with names, ids and strings, which a run samples on or measures.

The data that is sampled on and the data that is only measured have one type.  Text is padded on the
right; the padding is never counted, and because attention is causal no counted token depends on it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slt_notebook.errors import InputError, say
from slt_notebook.models.sequences import as_array, read_sequences
from slt_notebook.models.token_strings import readable, strings_of


@dataclass(frozen=True, eq=False)
class Probe:
    """A fixed set of examples.

    Attributes:
        name: what the probe is called in the store.
        fields: field name to array, all with the same first axis.
        examples: a unique id for each example.
        labels: a label for each example (its domain or class), or None.
        kind: `"text"` (fields `input_ids`, `attention_mask`) or `"array"`.
        strings: for text: token id to what it shows, for the ids that occur.
        exact: fields that were given in float64, as they were given: for float64 networks.
    """

    name: str
    fields: Mapping[str, np.ndarray]
    examples: tuple[str, ...]
    kind: str
    labels: tuple[str, ...] | None = None
    strings: Mapping[int, str] | None = None
    exact: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{k}{list(v.shape)}" for k, v in self.fields.items())
        return f"Probe({self.name!r}, {len(self)} examples, {shapes})"

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change when any example or field does."""
        digest = hashlib.sha256(repr((self.examples, self.kind)).encode())
        for name in sorted(self.fields):
            value = np.ascontiguousarray(self.fields[name])
            digest.update(f"{name}{value.shape}{value.dtype}".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()[:16]

    @property
    def tokens(self) -> int:
        """How many losses an example has (1 for arrays)."""
        return self.fields["input_ids"].shape[1] - 1 if self.kind == "text" else 1

    def tensors(
        self, device: torch.device | str, dtype: torch.dtype = torch.float32
    ) -> dict[str, Tensor]:
        """Return the fields on `device`, with numbers in float64 for `dtype=torch.float64`."""
        out = {}
        for name, value in self.fields.items():
            if dtype == torch.float64 and value.dtype.kind == "f":
                value = np.asarray(self.exact.get(name, value), np.float64)
            out[name] = torch.from_numpy(value).to(device)
        return out

    def take(self, count: int) -> "Probe":
        """Return the first `count` examples under the same name."""
        return Probe(
            self.name,
            {k: v[:count] for k, v in self.fields.items()},
            self.examples[:count],
            self.kind,
            None if self.labels is None else self.labels[:count],
            self.strings,
            {k: v[:count] for k, v in self.exact.items()},
        )


LONGEST_NAME = 200
"""Bytes of a probe's name: file systems allow 255 for the name of a folder."""


COUNTED = "counted"
"""Field of a text probe of whose tokens not all count: 1 where they do, `[example, position]`."""


def counted_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """Return which predicted tokens of a batch of text count: bool `[example, token]`."""
    return batch.get(COUNTED, batch["attention_mask"])[:, 1:] > 0


def _checked_name(name: str) -> str:
    if (
        not isinstance(name, str)
        or not name
        or not name.replace("_", "").replace("-", "").isalnum()
    ):
        raise InputError(
            say(f"the probe name {name!r}", "letters, digits, - and _", "pass name='train'")
        )
    if len(name.encode()) > LONGEST_NAME:
        got = f"a probe name of {len(name.encode())} bytes"
        raise InputError(say(got, f"at most {LONGEST_NAME}: a folder has it", "shorten it"))
    return name


def array_probe(name: str, inputs: Any, targets: Any, labels: Sequence[Any] | None = None) -> Probe:
    """Examples for `slt.supervised`: a batch has the fields `inputs` and `targets`.

    Args:
        name: of the probe in the store.
        inputs: `[example, ...]` array or tensor.
        targets: `[example, ...]`.
        labels: one per example, kept as a coordinate.

    Raises:
        InputError: different lengths, nothing in them, values that are not finite.

    >>> array_probe("train", np.zeros((4, 3)), np.zeros(4))
    Probe('train', 4 examples, inputs[4, 3], targets[4])
    """
    given = {"inputs": inputs, "targets": targets}
    fields = {k: _array(v) for k, v in given.items()}
    exact = {k: as_array(v) for k, v in given.items() if as_array(v).dtype == np.float64}
    sizes = {k: len(v) if v.ndim else -1 for k, v in fields.items()}
    if len(set(sizes.values())) != 1 or min(sizes.values()) < 1:
        raise InputError(
            say(f"lengths {sizes}", "equal lengths of at least 1", "pair inputs with targets")
        )
    for key, value in fields.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int((~np.isfinite(value)).sum())
            raise InputError(
                say(f"{bad} NaN or infinite values in {key}", "finite data", "drop those examples")
            )
    if labels is not None and len(labels) != sizes["inputs"]:
        raise InputError(
            say(f"{len(labels)} labels", f"{sizes['inputs']}", "pass a label for each example")
        )
    ids = tuple(f"{_checked_name(name)}/{i}" for i in range(sizes["inputs"]))
    text = None if labels is None else tuple(readable(str(label)) for label in labels)
    return Probe(name, fields, ids, "array", text, exact=exact)


def _array(value: Any) -> np.ndarray:
    """Return an array with numbers in float32: half precision and float64 are turned into it."""
    array = as_array(value)
    return array.astype(np.float32) if array.dtype in (np.float64, np.float16) else array


def token_probe(
    name: str, token_ids: Any, tokenizer: Any = None, labels: Sequence[Any] | None = None
) -> Probe:
    """Examples that are already tokenized.

    Args:
        name: of the probe in the store.
        token_ids: `[example, position]` integers, or a list of lists of any lengths (padded here,
            on the right, and the padding not counted); or a mapping or a Hugging Face dataset with
            `input_ids` and what belongs to them: `attention_mask` (padding on either side), and
            which tokens count: `labels` (-100 where they do not), `completion_mask` or
            `assistant_masks`.
        tokenizer: for the strings; without one a token shows as its number.
        labels: one per example, kept as a coordinate.

    Returns:
        A probe; tokens that do not count are read and shown, and have no loss.

    Raises:
        InputError: an empty probe, sequences shorter than 2, negative or non-integer ids, masks
            that do not fit.

    >>> token_probe("train", [[5, 1, 2], [3, 4]])
    Probe('train', 2 examples, input_ids[2, 3], attention_mask[2, 3])
    """
    rows, counted = read_sequences(token_ids)
    if not rows:
        raise InputError(say("no sequences", "at least one", "pass a list of lists of ids"))
    for number, row in enumerate(rows):
        if row.ndim != 1 or len(row) < 2:
            raise InputError(
                say(
                    f"sequence {number} of shape {row.shape}",
                    "at least 2 tokens: the first one predicts the second",
                    "drop short sequences",
                )
            )
        if row.dtype.kind not in "iu" or row.min() < 0:
            raise InputError(
                say(
                    f"sequence {number} with dtype {row.dtype} and minimum {row.min()}",
                    "token ids: integers from 0",
                    "pass the tokenizer's `input_ids`; leave padding out",
                )
            )
    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    strings = strings_of(tokenizer, np.unique(ids[mask == 1]).tolist())
    names = tuple(f"{_checked_name(name)}/{i}" for i in range(len(rows)))
    text = None if labels is None else tuple(readable(str(label)) for label in labels)
    if text is not None and len(text) != len(rows):
        raise InputError(
            say(f"{len(text)} labels", f"{len(rows)}", "pass a label for each example")
        )
    fields = {"input_ids": ids, "attention_mask": mask}
    if counted is not None:
        fields[COUNTED] = np.zeros_like(mask)
        for i, row in enumerate(counted):
            fields[COUNTED][i, : len(row)] = row
        if not fields[COUNTED][:, 1:].any():
            do = "check labels and masks; the first token of a sequence is never predicted"
            raise InputError(say("masks by which no token counts", "at least one that does", do))
    return Probe(name, fields, names, "text", text, strings)


def text_probe(
    name: str,
    texts: Sequence[str] | Mapping[str, str | Sequence[str]],
    tokenizer: Any,
    length: int = 128,
    limit: int | None = None,
) -> Probe:
    """Examples from text: every text is cut into windows of at most `length` tokens.

    Args:
        name: of the probe in the store.
        texts: strings, or `{label: string or strings}` (the label of an example, its domain say,
            becomes a coordinate).
        tokenizer: a Hugging Face tokenizer.
        length: tokens per window, at least 2.
        limit: windows kept per label (or in all, without labels); None keeps every window.

    Raises:
        InputError: no text, a text that is not a string, nothing of at least 2 tokens.
    """
    if length < 2:
        raise InputError(say(f"length={length}", "at least 2", "pass length=128"))
    if isinstance(texts, str):
        texts = [texts]
    groups = texts if isinstance(texts, Mapping) else {None: texts}
    rows, labels = [], []
    for label, group in groups.items():
        kept = 0
        for text in [group] if isinstance(group, str) else group:
            if not isinstance(text, str):
                raise InputError(
                    say(f"a {type(text).__name__} among the texts", "str", "pass strings")
                )
            ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            for start in range(0, len(ids), length):
                window = ids[start : start + length]
                if len(window) >= 2 and (limit is None or kept < limit):
                    rows.append(window)
                    labels.append(label)
                    kept += 1
    if not rows:
        raise InputError(
            say(
                "no text of at least 2 tokens",
                "at least one",
                "pass longer texts; shorter ones have no token to predict",
            )
        )
    return token_probe(name, rows, tokenizer, None if None in groups else labels)
