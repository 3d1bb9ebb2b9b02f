"""One variable of many runs as one lazily read array with the leading dims of a sweep."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from slt_notebook import names
from slt_notebook.errors import StoreError, say
from slt_notebook.results.integrity.damage import damage_of
from slt_notebook.results.integrity.file_store import ReadStore
from slt_notebook.results.integrity.files import read
from slt_notebook.results.integrity.verify import refuse
from slt_notebook.results.integrity.words import TRANSIENT, cannot_read

LEADING = (names.DATASET, names.CHECKPOINT_DIM, names.COMPONENT)


class Stacked(BackendArray):
    """One variable of many stores with leading axes, read where it is indexed."""

    def __init__(
        self,
        places: Mapping[tuple, ReadStore],
        leading: tuple[int, ...],
        inner: tuple,
        dtype,
        group: str,
        name: str,
    ):
        self.places, self.leading, self.inner, self.group = places, leading, inner, group
        self.shape, self.dtype, self.name = (*leading, *inner), np.dtype(dtype), name

    def __getitem__(self, key: indexing.ExplicitIndexer):
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple) -> np.ndarray:
        count = len(self.leading)
        outer = [
            [k] if isinstance(k, int | np.integer) else list(range(size))[k]
            for k, size in zip(key[:count], self.leading, strict=True)
        ]
        parts = [self._one(place, key[count:]) for place in itertools.product(*outer)]
        shape = [
            len(o)
            for o, k in zip(outer, key[:count], strict=True)
            if not isinstance(k, int | np.integer)
        ]
        one = np.shape(parts[0]) if parts else ()
        return np.asarray(parts, self.dtype).reshape(*shape, *one)

    def _one(self, place: tuple, key: tuple) -> np.ndarray:
        store = self.places.get(place)
        path = f"{self.group}/{self.name}"
        try:
            return self._values(store, path, key)
        except (MemoryError, StoreError):
            raise
        except Exception as cause:
            if store is not None:
                refuse(store.root, damage_of(store.root, path), cause)
                if isinstance(cause, OSError):
                    raise cannot_read(store.root, cause, path) from cause
            raise

    def _values(self, store: ReadStore | None, path: str, key: tuple) -> np.ndarray:
        whole = np.full(self.inner, np.nan if self.dtype.kind == "f" else 0, self.dtype)
        if store is None:  # not begun
            return whole[key]
        try:
            array = zarr.open_array(store, path=path, mode="r")
        except FileNotFoundError:
            if not store.root.is_dir():
                raise
            return whole[key]  # an older run may lack it
        if array.shape == self.inner:
            return np.asarray(array[key])
        # A run that has more or fewer draws than the longest.
        window = tuple(slice(0, min(a, b)) for a, b in zip(array.shape, self.inner, strict=True))
        whole[window] = array[window]
        return whole[key]


def stack(
    group: xr.Dataset, path: str, labels, stores: Mapping[tuple, ReadStore], most
) -> xr.Dataset:
    """Return the Dataset of one group with the leading dims of a sweep.

    Args:
        group: The group in one of the runs, as an example of the others.
        path: Of the group within a run.
        labels: Of every leading dim, in order.
        stores: Of each run that has begun, by its labels.
        most: Largest number of steps and draws of a run.
    """
    leading = [d for d in LEADING if d != names.DATASET or labels[d] != [""]]
    sizes = {d: len(labels[d]) for d in leading}
    index = {d: {label: i for i, label in enumerate(labels[d])} for d in LEADING}
    places, by_checkpoint = {}, {}
    for key, store in stores.items():
        where = tuple(index[d][key[i]] for i, d in enumerate(LEADING) if d in sizes)
        places[where] = store
        by_checkpoint.setdefault((index[names.CHECKPOINT_DIM][key[1]],), store)
    variables: dict[str, Any] = {}
    fixed = {}
    for name, variable in group.variables.items():
        dims = tuple(map(str, variable.dims))
        moving = names.CHAIN in dims and name not in group.coords
        per_point = name == names.INIT_LOSS and names.CHAIN not in dims
        if not moving and not per_point:
            fixed[name] = (dims, variable.values)
            continue
        inner = tuple(most.get(d, variable.sizes[d]) for d in dims)
        lead = leading if moving else [names.CHECKPOINT_DIM]
        stacked = Stacked(
            places if moving else by_checkpoint,
            tuple(sizes[d] for d in lead),
            inner,
            variable.dtype,
            path,
            str(name),
        )
        data = indexing.LazilyIndexedArray(stacked)
        variables[str(name)] = xr.Variable((*lead, *dims), data, variable.attrs)
    coords = {k: v for k, v in fixed.items() if k in group.coords}
    for dim in (names.STEP, names.DRAW):
        if dim in coords:
            coords[dim] = ((dim,), np.arange(most[dim]))
    coords |= {d: ((d,), np.asarray(labels[d], dtype=object).astype(str)) for d in leading}
    steps = [re.fullmatch(r"\D*(\d+)", str(c)) for c in labels[names.CHECKPOINT_DIM]]
    if all(steps):
        numbers = [int(s[1]) for s in steps if s]
        coords[names.TRAINING_STEP] = ((names.CHECKPOINT_DIM,), numbers)
    if path == names.SAMPLING:
        dims = {key[2]: _space_dim(store.root) for key, store in stores.items()}
        sized = [dims.get(c, 0) for c in labels[names.COMPONENT]]
        coords[names.A_SPACE_DIM] = ((names.COMPONENT,), sized)
    rest = {k: v for k, v in fixed.items() if k not in group.coords}
    attrs = {
        k: v for k, v in group.attrs.items() if k not in (names.A_COMPONENT, names.A_SPACE_DIM)
    }
    return xr.Dataset({**rest, **variables}, coords, attrs)


def run_attrs(path: Path) -> dict[str, Any]:
    """Return the attributes of a run or of one of its groups, without opening it.

    Raises:
        StoreError: They cannot be read.
    """
    try:
        return dict(json.loads(read(path / "zarr.json"))["attributes"])
    except (OSError, ValueError, KeyError) as cause:
        if isinstance(cause, OSError) and cause.errno in TRANSIENT:
            raise cannot_read(path, cause) from cause
        raise StoreError(
            say(f"the run {path.name!r}, which is damaged", "a run", "sample it again")
        ) from cause


def _space_dim(store: Path) -> int:
    return int(run_attrs(store / names.SAMPLING).get(names.A_SPACE_DIM, 0))
