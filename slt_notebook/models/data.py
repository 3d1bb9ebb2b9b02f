"""Probes from what users have: datasets, data loaders, arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate
from torch.utils.data import Dataset as TorchDataset

from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe, array_probe, token_probe

_INPUTS = ("inputs", "pixel_values", "input_values", "input_features", "image", "x")
_TARGETS = ("targets", "labels", "label", "target", "y")
_ROWS = 256  # examples that are collated at once


def as_probe(data: Any, name: str, kind: str) -> Probe:
    """Return data of any kind as a probe.

    Examples keep the order of the dataset; a loader's collate function is used, and its shuffling
    is not: batches of a run are functions of (seed, chain, step).

    Args:
        data: a probe; a Hugging Face `datasets.Dataset`; a torch `Dataset` or `DataLoader` of
            (input, target) or of dicts; a pair (inputs, targets) of arrays; for text, token ids.
        name: of the probe in the store.
        kind: of the loss that reads it, `"text"` or `"array"`.

    Raises:
        InputError: something else, or a stream without a length.
    """
    if isinstance(data, Probe):
        return data
    names = getattr(data, "column_names", None)
    if isinstance(names, list) and hasattr(data, "__len__"):
        return _from_columns({n: data[n] for n in names}, name, kind)
    loader = data if isinstance(data, DataLoader) else None
    dataset: Any = data if loader is None else loader.dataset
    if isinstance(dataset, IterableDataset) or (names is not None or _is_stream(dataset)):
        got = f"a {type(dataset).__name__}, which has no length and no places"
        do = "take a part of it that fits: list(itertools.islice(data, 1000)), tokenized"
        raise InputError(say(got, "examples that can be read again by their index", do))
    if isinstance(dataset, TorchDataset):
        collate = default_collate if loader is None else (loader.collate_fn or default_collate)
        return _from_columns(_collated(dataset, collate), name, kind)
    if isinstance(data, Mapping) and not isinstance(data, Probe):
        return _from_columns(data, name, kind)
    if kind == "array" and isinstance(data, tuple) and len(data) == 2:
        return array_probe(name, *data)
    if kind == "text" and _is_ids(data):
        return token_probe(name, data)
    expected = "a Probe, a dataset, a data loader, or " + (
        "token ids [example, position]" if kind == "text" else "a pair (inputs, targets)"
    )
    do = "make it with slt.text_probe, slt.token_probe or slt.array_probe"
    raise InputError(say(f"data of type {type(data).__name__}", expected, do))


def _is_stream(data: Any) -> bool:
    return hasattr(data, "__iter__") and not hasattr(data, "__getitem__")


def _is_ids(data: Any) -> bool:
    if not isinstance(data, np.ndarray | torch.Tensor | list | tuple) or not len(data):
        return False
    first = data[0]
    return hasattr(first, "__len__") and not isinstance(first, str)


def _collated(dataset: Any, collate: Any) -> dict[str, Any]:
    """Return the fields of all examples, in the order of the dataset."""
    if not len(dataset):
        raise InputError(say("a dataset of no examples", "at least one", "check how it is made"))
    parts = list(_parts(dataset, collate))
    return {key: _joined([part[key] for part in parts]) for key in parts[0]}


def _parts(dataset: Any, collate: Any) -> Iterator[dict[str, Any]]:
    for start in range(0, len(dataset), _ROWS):
        rows = [dataset[i] for i in range(start, min(start + _ROWS, len(dataset)))]
        batch = collate(rows)
        if isinstance(batch, Mapping):
            yield dict(batch)
        elif isinstance(batch, Sequence) and len(batch) == 2:
            yield {"inputs": batch[0], "targets": batch[1]}
        else:
            got = f"examples that collate to a {type(batch).__name__}"
            do = "return a pair or a dict from the dataset, or pass a collate_fn to the loader"
            raise InputError(say(got, "(inputs, targets), or a dict of fields", do))


def _joined(values: list[Any]) -> Any:
    """Return the rows of all parts: one array where their shapes agree, else a list of rows."""
    if all(isinstance(v, torch.Tensor) for v in values):
        shapes = {tuple(v.shape[1:]) for v in values}
        if len(shapes) == 1:
            return torch.cat(values)
    return [row for value in values for row in value]


def _from_columns(columns: Mapping[str, Any], name: str, kind: str) -> Probe:
    if kind == "text":
        return token_probe(name, columns)
    inputs = [k for k in _INPUTS if k in columns]
    targets = [k for k in _TARGETS if k in columns]
    if not inputs or not targets:
        expected = (
            f"inputs (one of {', '.join(_INPUTS)}) and targets (one of {', '.join(_TARGETS)})"
        )
        do = "rename them, or make the data with slt.array_probe"
        raise InputError(say(f"the columns {sorted(map(str, columns))}", expected, do))
    return array_probe(name, _stacked(columns[inputs[0]]), _stacked(columns[targets[0]]))


def _stacked(column: Any) -> Any:
    if isinstance(column, torch.Tensor | np.ndarray):
        return column
    return np.stack([np.asarray(row) for row in column])
