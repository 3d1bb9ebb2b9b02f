"""Read the chunks of a run to find those that are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import zarr

from slt_notebook.results.integrity.chunks import Loss, Stored, done_of, stored
from slt_notebook.results.integrity.file_store import ReadStore
from slt_notebook.results.integrity.sealed import array_paths, attributes, has_checksums
from slt_notebook.results.integrity.words import TRANSIENT, reading


def damage_of(root: Path, path: str) -> list[Loss]:
    """Return the damaged chunks of one array of a run, or of all arrays of one group.

    Args:
        root: Folder of the run.
        path: Of the array or group within it.

    Raises:
        StoreError: The disk does not answer.
    """
    with reading(root):
        return _damage_of(root, path)


def _damage_of(root: Path, path: str) -> list[Loss]:
    attrs = attributes(root)
    try:
        chains = done_of(root, attrs).chains
    except ValueError:
        chains = ()
    found = []
    for name in array_paths(root, attrs, checkpoint=True) if attrs else []:
        if name == path or name.startswith(f"{path}/"):
            try:
                array = stored(root, name, has_checksums(attrs))
            except ValueError:
                continue  # an error of its own, on opening
            found += [array.loss(c, why, chains) for c, why in _damaged_chunks(array)]
    return found


def _damaged_chunks(array: Stored) -> Iterator[tuple[tuple[int, ...], str]]:
    try:
        values = zarr.open_array(ReadStore(array.folder), mode="r")
    except ValueError:  # an error of its own, on opening
        return
    for chunk in sorted(array.present()):
        try:
            values[array.window(chunk)]
        except MemoryError:
            raise
        except Exception as cause:
            if isinstance(cause, OSError) and cause.errno in TRANSIENT:
                raise
            yield chunk, _reason(cause)


def _reason(cause: Exception) -> str:
    if "checksum" in str(cause):
        return "does not match its checksum"
    return f"cannot be read ({type(cause).__name__}: {cause})"
