"""What is lost of a run, as far as that shows without reading values.

Chunks carry a crc32c of their own, which Zarr compares when it reads them.  Two things are not
covered by that.  The metadata: see `sealed.py`.  Chunk files that are missing: Zarr reads them as
NaN, see `chunks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slt_notebook import names
from slt_notebook.errors import StoreError, say
from slt_notebook.results.integrity.chunks import Loss, done_of, missing, stored
from slt_notebook.results.integrity.sealed import (
    array_paths,
    has_checksums,
    read_metadata,
    read_sealed,
)

_SHOWN = 3  # losses that an error names
REPAIR = (
    "copy the run again, or run `slt-notebook check --repair {}` and sample again with this store"
)


def losses(root: Path, checkpoint: bool = False) -> list[Loss]:
    """Return what is lost of a run, without reading values.

    Args:
        root: Folder of the run.
        checkpoint: Look at the states that a run continues from, too.
    """
    try:
        attrs = read_metadata(root).get("attributes", {})
        sealed = has_checksums(attrs)
        if sealed:
            read_sealed(root)
        elif names.A_TASK not in attrs:
            return []  # not written by the sampler
        done = done_of(root, attrs)
    except ValueError as cause:
        return [Loss("the run", reason=str(cause))]
    found, groups = [], {}
    if checkpoint and done.cursor is None and (root / names.CHECKPOINT).is_dir():
        found.append(Loss(f"{names.CHECKPOINT}/cursor", reason="it cannot be read"))
    for path in array_paths(root, attrs, checkpoint):
        try:
            groups.setdefault(path.rsplit("/", 1)[0], []).append(stored(root, path, sealed))
        except ValueError as cause:
            found.append(Loss(path, reason=str(cause)))
    for path, arrays in groups.items():
        if sealed:
            try:
                read_sealed(root / path)
            except ValueError as cause:
                found.append(Loss(path, reason=str(cause)))
        found += missing(arrays, done, sealed)
    return found


def verify(root: Path, checkpoint: bool = False) -> None:
    """Refuse a run of which something is lost, as far as that shows without reading values.

    Raises:
        StoreError: What is lost, and what to do.
    """
    found = losses(root, checkpoint)
    if not _is_sealed(root):
        found = [loss for loss in found if loss.chunk]  # the rest shows when it is opened
    refuse(root, found)


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
