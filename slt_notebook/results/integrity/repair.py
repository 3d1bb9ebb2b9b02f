"""Cut a damaged run, or a damaged notes file, back to what is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock, Timeout

from slt_notebook import names
from slt_notebook.errors import StoreError, say
from slt_notebook.results.integrity.check import check_run, document_of, path_of, runs_at
from slt_notebook.results.integrity.chunks import (
    CURSOR,
    Done,
    Loss,
    Stored,
    array_at,
    done_of,
    stored,
)
from slt_notebook.results.integrity.documents import NOTES, check_document, repair_notes
from slt_notebook.results.integrity.file_store import FileStore
from slt_notebook.results.integrity.files import Files
from slt_notebook.results.integrity.recovery import recover
from slt_notebook.results.integrity.sealed import array_paths, attributes, has_checksums
from slt_notebook.results.integrity.words import reading


def repair(run: Any) -> list[str]:
    """Cut a run, or the runs of a sweep, back to what is whole, so that sampling can go on.

    What is lost of a chain is cut off: its draws from the first lost one on, and the states that
    came later.  `slt.sample` with the same store then samples these draws again, bit by bit as they
    were; where no earlier state is left, from the first step on.

    Args:
        run: As for `check`; no run may be writing it.

    Returns:
        What was done, in sentences; empty where nothing was lost.

    Raises:
        StoreError: Something is lost that cannot be made again from the rest (metadata, labels),
            or another run is writing the store.  Nothing is changed of that run then.
    """
    if file := document_of(run):
        if file.name.endswith(NOTES):
            return repair_notes(file)
        if not check_document(file).lost:
            return []
        got = f"'{file}', a page that is damaged"
        raise StoreError(say(got, "a run or a notes file", "export the page again"))
    done = []
    for root in runs_at(path_of(run)):
        found = check_run(root)[0]
        if found:
            with _locked(root), reading(root):
                recover(root, has_checksums(attributes(root)))
                for _ in range(_ROUNDS):
                    found = check_run(root)[0]
                    done += _repair_run(root, found) if found else []
    return done


_ROUNDS = 3
"""What a damaged cursor hid shows when the cursor is made again."""


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    lock = FileLock(root.with_name(f".{root.name}.lock"), timeout=0)  # that of the sampler
    try:
        with lock:
            yield
    except Timeout as cause:
        got = f"'{root}', which a run is writing"
        raise StoreError(say(got, "a store that no run is writing", "stop that run")) from cause


def _repair_run(root: Path, found: list[Loss]) -> list[str]:
    attrs = attributes(root)
    sealed = has_checksums(attrs)
    try:
        done = done_of(root, attrs)
        arrays = {path: stored(root, path, sealed) for path in array_paths(root, attrs, True)}
    except ValueError:
        done, arrays = None, {}
    hopeless = [x for x in found if not x.chunk or not _can_be_made(arrays.get(x.array))]
    if done is None or hopeless or f"{names.CHECKPOINT}/{CURSOR}" not in arrays:
        what = "; ".join(map(str, hopeless[:3] or found[:3]))
        got = f"'{root}', of which something is lost that the rest does not tell: {what}"
        do = "copy that file from where it is whole, or sample into another store"
        raise StoreError(say(got, "lost draws or states", do))
    cursor = _whole_cursors(root, len(done.chains))
    first: dict[int, int] = {}
    for loss in found:
        array, row = arrays[loss.array], loss.chunk[0]
        name = loss.array.rsplit("/", 1)[1]
        if loss.array == f"{names.CHECKPOINT}/{CURSOR}":
            cursor[row] = -1
        elif array.dims[:2] == (names.CHAIN, "slot"):
            cursor[row, loss.chunk[1]] = -1
        elif array.unit:
            step = loss.first if array.unit == names.STEP else done.burnin + loss.first * done.thin
            first[row] = min(first.get(row, step), step)
        elif name in (names.STATUS, names.STATUS_STEP):
            first[row] = 0
    for row, step in first.items():
        cursor[row] = np.where(cursor[row] > step, -1, cursor[row])
    # In this order, each step durable before the next: a run of which a part is repaired is still
    # one that is known as damaged.
    files = Files(root)
    store = FileStore(files, sealed)
    _open(store, arrays[f"{names.CHECKPOINT}/{CURSOR}"])[...] = cursor
    files.commit()
    for row, step in first.items():
        for array in arrays.values():
            _cut(store, array, row, step, done)
    files.commit()
    for loss in found:
        array = arrays[loss.array]
        if array.path != f"{names.CHECKPOINT}/{CURSOR}":
            files.remove(array.file(loss.chunk))
            _fill(store, array, loss.chunk, done)
    files.commit()
    sentences = [f"{root.name}: cut off {loss}" for loss in found]
    for chain, slots in zip(done.chains, cursor, strict=True):
        at = int(slots.max())
        start = f"from step {at}" if at >= 0 else "from the first step"
        sentences.append(f"{root.name}: chain {chain} goes on {start}")
    return sentences


def _whole_cursors(root: Path, count: int) -> np.ndarray:
    """Return the cursor `[chain, slot]`, with -1 for chains of which it is damaged."""
    array = array_at(root, f"{names.CHECKPOINT}/{CURSOR}")
    cursor = np.full((count, 2), -1)
    for row in range(count):
        try:
            cursor[row] = array[row]
        except (ValueError, RuntimeError):
            pass
    return cursor


def _can_be_made(array: Stored | None) -> bool:
    """Whether the sampler, or the task, can make again what is lost of an array."""
    if array is None:
        return False
    group, name = array.path.split("/")[0], array.path.rsplit("/", 1)[1]
    return bool(array.unit) or group == names.CHECKPOINT or name in _KNOWN


_KNOWN = (
    names.CHAIN, names.STEP, names.DRAW, names.STATUS, names.STATUS_STEP, names.CONTROL_LOSS,
    names.CONTROL_INIT_LOSS,
)  # fmt: skip


def _open(store: FileStore, array: Stored) -> zarr.Array:
    found = zarr.open_array(store, path=array.path, mode="r+")
    return found.with_config({"write_empty_chunks": True})


def _fill(store: FileStore, array: Stored, chunk: tuple[int, ...], done: Done) -> None:
    """Write a chunk whose file must be there: labels as they were, else the fill value."""
    if array.unit or array.dims[:2] == (names.CHAIN, "slot"):
        return
    values, window = _open(store, array), array.window(chunk)
    name = array.path.rsplit("/", 1)[1]
    if name == names.CHAIN:
        values[window] = np.array(done.chains)[window]
    elif name in (names.STEP, names.DRAW):
        values[window] = np.arange(array.shape[0])[window]
    else:
        values[window] = values.fill_value


def _cut(store: FileStore, array: Stored, row: int, step: int, done: Done) -> None:
    """Make the rows of a chain that come from `step` on those of steps that are not made yet."""
    if not array.unit:
        return
    at = step if array.unit == names.STEP else max(0, (step - done.burnin) // done.thin)
    for chunk in sorted(array.present()):
        window = array.window(chunk)
        if window[0].start != row or window[1].stop <= at:
            continue
        if window[1].start >= at:
            store.files.remove(array.file(chunk))
        else:
            inner = slice(at, window[1].stop)
            _open(store, array)[(window[0], inner, *window[2:])] = np.nan
