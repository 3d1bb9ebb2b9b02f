"""Zarr arrays and groups by name, and how this kit makes them.

Every chunk ends with a crc32c of what was compressed, and chunks of nothing but the fill value are
written as well: a chunk file that is not there was lost, or its draws are not made yet.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from slt_notebook.errors import StoreError, say
from slt_notebook.results.integrity.file_store import FileStore
from slt_notebook.results.integrity.sealed import META, encode
from slt_notebook.results.integrity.verify import REPAIR

COMPRESSED = (ZstdCodec(level=0), Crc32cCodec())
RAW = (Crc32cCodec(),)


def array_of(group: zarr.Group, name: str) -> zarr.Array:
    """Return the array `name` of `group`.

    Raises:
        KeyError: there is none.
    """
    known = store_of(group).arrays
    path = f"{group.path}/{name}"
    if path not in known:
        found = group[name]
        if not isinstance(found, zarr.Array):
            raise KeyError(name)
        known[path] = found.with_config({"write_empty_chunks": True})
    return known[path]


def store_of(group: zarr.Group) -> FileStore:
    """Return the store in which a group is."""
    assert isinstance(group.store, FileStore)
    return group.store


def chunk_keys(array: zarr.Array, *window: slice) -> Iterator[str]:
    """Yield the paths of the files of an array, or of those that a window of its axes touches."""
    counts = [-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)]
    axes = [range(count) for count in counts]
    for axis, part in enumerate(window):
        chunk = array.chunks[axis]
        axes[axis] = range(part.start // chunk, -(-part.stop // chunk))
    for index in itertools.product(*axes):
        yield "/".join((array.path, "c", *map(str, index)))


def group_of(group: zarr.Group, name: str) -> zarr.Group:
    """Return the group `name` within `group`.

    Raises:
        KeyError: there is none.
    """
    found = group[name]
    if not isinstance(found, zarr.Group):
        raise KeyError(name)
    return found


def encoded(values: np.ndarray, **how: Any) -> dict[str, Any]:
    """Return the files of an array with `values`, by their paths within its folder."""
    files: dict[str, Any] = {}
    array = zarr.create_array(files, shape=values.shape, **how)
    array.with_config({"write_empty_chunks": True})[...] = values
    return {key: buffer.to_bytes() for key, buffer in files.items()}


def stage(group: zarr.Group, name: str, files: Mapping[str, bytes]) -> None:
    """Write files of the array `name`, by their paths within its folder; committed later."""
    store = store_of(group)
    for key, data in files.items():
        if key == META:
            data = encode(json.loads(data), store.seal)
        store.files.stage(store.root / group.path / name / key, data)


def values_of(group: zarr.Group, name: str) -> np.ndarray:
    """All values of the array `name` of `group`.

    Raises:
        StoreError: they do not match their checksum.
    """
    array = array_of(group, name)
    try:
        return np.asarray(array[:])
    except (ValueError, RuntimeError) as cause:
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
    """Return a new array."""
    group.create_array(name, compressors=codecs, **how)
    return array_of(group, name)
