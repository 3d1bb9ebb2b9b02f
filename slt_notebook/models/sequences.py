"""Read token sequences as tokenizers and datasets give them: ids, masks, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slt_notebook.errors import InputError, say

_MASKS = ("completion_mask", "assistant_masks", "assistant_mask")
_LOOSE = ("prompt", "completion", "messages", "text")  # columns that are not tokenized yet


def as_array(value: Any) -> np.ndarray:
    """Return anything like an array as one of numpy; bfloat16, which it lacks, as float32."""
    if not isinstance(value, Tensor):
        return np.asarray(value)
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def read_sequences(token_ids: Any) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Return the ids of each sequence without padding, and which of them count (None: all).

    Args:
        token_ids: sequences of ids; or columns, by a mapping or a dataset: see `slt.token_probe`.

    Raises:
        InputError: columns that are missing, or masks and labels that do not fit.
    """
    columns = _columns(token_ids)
    if columns is None:
        return [as_array(row) for row in token_ids], None
    rows = [as_array(row) for row in columns["input_ids"]]
    seen = _masks(columns, "attention_mask", rows)
    counted = _counted(columns, rows)
    kept = [] if counted is not None else None
    for number, (row, mask) in enumerate(zip(rows, seen, strict=True)):
        places = np.flatnonzero(mask)
        if len(places) and np.ptp(places) >= len(places):
            got = f"the attention mask of sequence {number}: {mask.astype(int).tolist()}"
            expected = f"{len(row)} of 0 and 1, with all padding at the ends"
            raise InputError(say(got, expected, "pass the mask that the tokenizer gave"))
        rows[number] = row[mask]
        if kept is not None and counted is not None:
            kept.append(counted[number][mask].astype(np.int64))
    return rows, kept


def _columns(token_ids: Any) -> Mapping[str, Any] | None:
    """Return the columns of a mapping or a dataset, or None for plain sequences."""
    names = getattr(token_ids, "column_names", None)
    if names is None and hasattr(token_ids, "keys"):
        names = list(token_ids.keys())
    if not isinstance(names, list):
        return None
    if "input_ids" not in names:
        do = "pass what a tokenizer returns"
        if any(name in names for name in _LOOSE):
            do = "tokenize them first, with the prompt's part masked: labels of -100"
        raise InputError(say(f"the columns {sorted(map(str, names))}", "'input_ids'", do))
    known = ("input_ids", "attention_mask", "labels", *_MASKS)
    return {name: token_ids[name] for name in known if name in names}


def _masks(columns: Mapping[str, Any], name: str, rows: list[np.ndarray]) -> list[np.ndarray]:
    if name not in columns:
        return [np.ones(row.shape, bool) for row in rows]
    masks = [as_array(mask) != 0 for mask in columns[name]]
    words = name.replace("_", " ")
    for number, row in enumerate(rows):
        if number >= len(masks) or masks[number].shape != row.shape:
            shape = masks[number].shape if number < len(masks) else "none"
            got = f"the {words} of sequence {number}: shape {shape}"
            raise InputError(say(got, f"{row.shape}, one for each token", "pass one for each"))
    return masks


def _counted(columns: Mapping[str, Any], rows: list[np.ndarray]) -> list[np.ndarray] | None:
    """Return which tokens count, by all that says so; None where nothing does."""
    found = [_masks(columns, name, rows) for name in _MASKS if name in columns]
    if "labels" in columns:
        labels = [as_array(row) for row in columns["labels"]]
        for number, row in enumerate(rows):
            if number >= len(labels) or labels[number].shape != row.shape:
                got = f"labels of sequence {number} that are not one for each token"
                raise InputError(say(got, f"shape {row.shape}", "pass labels beside input_ids"))
            other = (labels[number] != -100) & (labels[number] != row)
            if other.any():
                place = int(np.flatnonzero(other)[0])
                got = f"label {int(labels[number][place])} of token {int(row[place])} at position "
                got += f"{place} of sequence {number}"
                expected = "the token itself, or -100 (labels are not shifted, as in transformers)"
                raise InputError(say(got, expected, "for other targets use slt.token_classifier"))
        found.append([row != -100 for row in labels])
    if not found:
        return None
    return [np.logical_and.reduce(masks) for masks in zip(*found, strict=True)]
