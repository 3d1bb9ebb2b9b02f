"""Room on the disk of a store: asked before a run, and told when writing fails."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slt_notebook.errors import StoreError, say
from slt_notebook.results.integrity.words import remedy


def free_bytes(path: Path) -> int | None:
    """Bytes that are free on the disk of `path`, which need not exist; None where nobody knows."""
    for folder in (path, *path.absolute().parents):
        try:
            return shutil.disk_usage(folder).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def check_space(path: Path, needed: int) -> None:
    """Refuses a run whose store would not fit on its disk.

    Args:
        path: of the store; what is there already counts as room.
        needed: bytes of the finished store, before compression.

    Raises:
        StoreError: with what is needed and what is free.
    """
    free = free_bytes(path)
    if free is None or needed <= free:
        return
    here = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else 0
    if needed <= free + here:
        return
    raise StoreError(
        say(
            f"a run whose store needs about {_size(needed)} (before compression) at {str(path)!r}, "
            f"where {_size(free)} are free",
            "a store that fits",
            "pass store=... on another disk, fewer draws, chains or probes, or free some space",
        )
    )


@contextmanager
def writing(path: Path, needed: int = 0) -> Iterator[None]:
    """Tells a failure of what is written within in the kit's words.

    Args:
        path: of the store.
        needed: bytes that are written, before compression; 0 if that is not known.

    Raises:
        StoreError: with the number of the error in `errno`; what is free, what is kept, and how to
            go on.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as cause:
        error = StoreError(_message(path, needed, cause))
        error.errno = cause.errno
        raise error from cause


def _message(path: Path, needed: int, cause: OSError) -> str:
    free = free_bytes(path)
    known = [f"{_size(needed)} to be written"] if needed else []
    known += [f"{_size(free)} free"] if free is not None else []
    why = cause.strerror or str(cause)
    return say(
        f"{str(path)!r}, where writing failed: {why} ({', '.join(known) or 'room unknown'})",
        "a disk that takes what the run writes",
        f"{remedy(cause.errno)}, then call slt.sample again with this store and the same settings: "
        "every draw up to the last checkpoint is kept, and it goes on from there",
    )


def _size(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.3g} {unit}"
    return f"{count} bytes"
