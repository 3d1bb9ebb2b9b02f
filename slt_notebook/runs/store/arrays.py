"""Zarr arrays and groups by name, and how this kit makes them.

Every chunk ends with a crc32c of what was compressed, and chunks of nothing but the fill value are
written as well: a chunk file that is not there was lost, or its draws are not made yet.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from slt_notebook.errors import StoreError, say
from slt_notebook.results.integrity import sealed
from slt_notebook.results.integrity.verify import REPAIR

COMPRESSED = (ZstdCodec(level=0), Crc32cCodec())
RAW = (Crc32cCodec(),)


def array_of(group: zarr.Group, name: str) -> zarr.Array:
    """Return the array `name` of `group`.

    Raises:
        KeyError: there is none.
    """
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise KeyError(name)
    return found.with_config({"write_empty_chunks": True})


def folder_of(group: zarr.Group, name: str = "") -> Path:
    """Return the folder of a group in a local store, or of what is called `name` within it."""
    assert isinstance(group.store, LocalStore)
    return Path(group.store.root) / group.path / name


def group_of(group: zarr.Group, name: str) -> zarr.Group:
    """Return the group `name` within `group`.

    Raises:
        KeyError: there is none.
    """
    found = group[name]
    if not isinstance(found, zarr.Group):
        raise KeyError(name)
    return found


def values_of(group: zarr.Group, name: str) -> np.ndarray:
    """All values of the array `name` of `group`.

    Raises:
        StoreError: they do not match their checksum.
    """
    array = array_of(group, name)
    try:
        return np.asarray(array[:])
    except (ValueError, RuntimeError, OSError) as cause:
        raise unreadable(group, name, cause) from cause


def unreadable(group: zarr.Group, name: str, cause: Exception) -> StoreError:
    """Return the error for an array of which a chunk cannot be read."""
    root = str(group.store).removeprefix("file://")
    return StoreError(
        say(
            f"{group.path}/{name} of {root!r}, which cannot be read ({cause})",
            "chunks that match their checksums",
            REPAIR.format(root),
        )
    )


def new_array(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    chunks: Sequence[int],
    dims: Sequence[str],
    dtype: Any = "f4",
    fill: float = np.nan,
    raw: bool = False,
    filled: bool = False,
) -> zarr.Array:
    """Return a new array of the value `fill`.

    Args:
        group: where it is made.
        name: its name.
        shape: its shape.
        chunks: shape of a chunk, at most.
        dims: names of its axes.
        dtype: of its values.
        fill: the value of what is not written.
        raw: not compressed.
        filled: write `fill` to all its chunks at once, so that they are never missing.
    """
    chunks = tuple(max(1, min(c, s)) for c, s in zip(chunks, shape, strict=True))
    array = _create(
        group, name, RAW if raw else COMPRESSED, shape=tuple(shape), chunks=chunks, dtype=dtype,
        fill_value=fill, dimension_names=tuple(dims),
    )  # fmt: skip
    if filled:
        array[...] = fill
    return array


def new_coordinate(
    group: zarr.Group, name: str, values: np.ndarray, dims: Sequence[str] | None = None
) -> None:
    """A new array of known `values` in one chunk, over the dim `name` unless `dims` are given."""
    dtype: Any = "str" if values.dtype == object else values.dtype
    array = _create(
        group, name, COMPRESSED, shape=values.shape, chunks=values.shape, dtype=dtype,
        dimension_names=tuple(dims or (name,)),
    )  # fmt: skip
    array[...] = values


def _create(group: zarr.Group, name: str, codecs: Sequence[Any], **how: Any) -> zarr.Array:
    """A new array whose metadata is sealed from the start, also if the process is killed here."""
    made: dict[str, Any] = {}
    zarr.create_array(made, compressors=codecs, **how)
    sealed.write_metadata(folder_of(group, name), json.loads(made[sealed.META].to_bytes()))
    return array_of(group, name)
