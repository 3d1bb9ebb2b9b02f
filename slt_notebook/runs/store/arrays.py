"""Zarr arrays and groups by name, and how this kit makes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr


def array_of(group: zarr.Group, name: str) -> zarr.Array:
    """The array `name` of `group`.

    Raises:
        KeyError: there is none.
    """
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise KeyError(name)
    return found


def group_of(group: zarr.Group, name: str) -> zarr.Group:
    """The group `name` within `group`.

    Raises:
        KeyError: there is none.
    """
    found = group[name]
    if not isinstance(found, zarr.Group):
        raise KeyError(name)
    return found


def values_of(group: zarr.Group, name: str) -> np.ndarray:
    """All values of the array `name` of `group`."""
    return np.asarray(array_of(group, name)[:])


def new_array(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    chunks: Sequence[int],
    dims: Sequence[str],
    dtype: Any = "f4",
    fill: float = np.nan,
    raw: bool = False,
) -> zarr.Array:
    """A new array filled with `fill`; a `raw` one is neither compressed nor searched for `fill`."""
    how: dict[str, Any] = {}
    if raw:
        how = {"compressors": None, "config": {"write_empty_chunks": True}}
    return group.create_array(
        name,
        shape=tuple(shape),
        chunks=tuple(max(1, min(c, s)) for c, s in zip(chunks, shape, strict=True)),
        dtype=dtype,
        fill_value=fill,
        dimension_names=tuple(dims),
        **how,
    )


def new_coordinate(
    group: zarr.Group, name: str, values: np.ndarray, dims: Sequence[str] | None = None
) -> None:
    """A new array of known `values` in one chunk, over the dim `name` unless `dims` are given."""
    dtype: Any = "str" if values.dtype == object else values.dtype
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=dtype,
        dimension_names=tuple(dims or (name,)),
    )
    array[...] = values
