"""What is lost of a run, as far as that shows without reading values.

Chunks carry a crc32c of their own, which Zarr compares when it reads them.  Two things are not
covered by that.  The metadata: see `sealed.py`.  Chunk files that are missing: Zarr reads them as
NaN, see `chunks.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slt_notebook import names
from slt_notebook.errors import StoreError, say
from slt_notebook.results.integrity.chunks import CURSOR, Done, Loss, done_of, required, stored
from slt_notebook.results.integrity.sealed import (
    array_paths,
    has_checksums,
    read_metadata,
    read_sealed,
)
from slt_notebook.results.integrity.words import cannot_read

_SHOWN = 3  # losses that an error names
REPAIR = (
    "copy the run again, or run `slt-notebook check --repair {}` and sample again with this store"
)


@dataclass(frozen=True)
class Verified:
    """What was found out about a run without reading values.

    Attributes:
        found: What is lost.
        done: How far its chains are; None where it was not written by the sampler.
        needed: Chunk files that must be there, as paths within the run.
        extent: Number of steps and of draws that its task asks for, by dim.  While a run is made
            longer its arrays may be ahead of its task.
    """

    found: tuple[Loss, ...] = ()
    done: Done | None = None
    needed: frozenset[str] = frozenset()
    extent: Mapping[str, int] = field(default_factory=dict)


def inspect(root: Path, checkpoint: bool = False) -> Verified:
    """Return what is lost of a run, and what must be there, without reading values.

    Args:
        root: Folder of the run.
        checkpoint: Look at the states that a run continues from, too.

    Raises:
        StoreError: The disk does not answer.
    """
    try:
        return _inspect(root, checkpoint)
    except StoreError:
        raise
    except OSError as cause:
        raise cannot_read(root, cause) from cause


def _inspect(root: Path, checkpoint: bool) -> Verified:
    try:
        attrs = read_metadata(root).get("attributes", {})
        sealed = has_checksums(attrs)
        if sealed:
            read_sealed(root)
        elif names.A_TASK not in attrs:
            return Verified()  # not written by the sampler
        done = done_of(root, attrs)
    except ValueError as cause:
        return Verified((Loss("the run", reason=str(cause)),))
    found, groups = [], {}
    if checkpoint and done.cursor is None and (root / names.CHECKPOINT).is_dir():
        found.append(Loss(f"{names.CHECKPOINT}/{CURSOR}", reason="it cannot be read"))
    paths = array_paths(root, attrs, checkpoint)
    position = f"{names.CHECKPOINT}/{names.POSITION}"
    if checkpoint and done.cursor is not None and done.cursor.max() >= 0 and position not in paths:
        found.append(Loss(position, reason="it is missing"))
    for path in paths:
        try:
            groups.setdefault(path.rsplit("/", 1)[0], []).append(stored(root, path, sealed))
        except ValueError as cause:
            found.append(Loss(path, reason=str(cause)))
    needed = set()
    for path, arrays in groups.items():
        if sealed:
            try:
                read_sealed(root / path)
            except ValueError as cause:
                found.append(Loss(path, reason=str(cause)))
        for array, chunk, there in required(arrays, done, sealed):
            needed.add(array.key(chunk))
            if not there:
                found.append(array.loss(chunk, "its file is missing", done.chains))
    sampled = sealed or (root / names.CHECKPOINT).is_dir()
    return Verified(tuple(found), done, frozenset(needed), done.extents if sampled else {})


def verify(root: Path, checkpoint: bool = False) -> Verified:
    """Refuse a run of which something is lost, as far as that shows without reading values.

    Raises:
        StoreError: What is lost, and what to do; or the disk does not answer.
    """
    state = inspect(root, checkpoint)
    found = state.found
    if not _is_sealed(root):
        found = [loss for loss in found if loss.chunk]  # the rest shows when it is opened
    refuse(root, found)
    return state


def _is_sealed(root: Path) -> bool:
    try:
        return has_checksums(read_metadata(root).get("attributes", {}))
    except ValueError:
        return True


def refuse(
    root: Path, found: Sequence[Loss], cause: BaseException | None = None, what: str = ""
) -> None:
    """Raise the error that names what is lost, if anything is.

    Args:
        root: Folder of the run.
        found: What is lost of it.
        cause: The error by which that was noticed.
        what: What cannot be read, in words; the run if it is left out.

    Raises:
        StoreError: What is lost, and what to do.
    """
    if not found:
        return
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    lost = "; ".join(map(str, found[:_SHOWN])) + more
    got = f"{what} of '{root}'" if what else f"'{root}', which is damaged"
    raise StoreError(say(f"{got}: {lost}", "a complete run", REPAIR.format(root))) from cause
