"""Errors of the disk in the kit's words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slt_notebook.errors import StoreError, say

FULL = (errno.ENOSPC, errno.EDQUOT)
_STALE = (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENODEV)
_GONE = (errno.ENOENT, errno.ENOTDIR)
_FILES = (errno.EMFILE, errno.ENFILE)
_LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)

TRANSIENT = (*_STALE, *_FILES, *_LOCKED, errno.ENOMEM, errno.EAGAIN, errno.EINTR)
"""Errors that say nothing about a file: it may be whole."""


def remedy(number: int | None, write: bool = True) -> str:
    """Return what to do about an error of the disk.

    Args:
        number: Of the error, as in `errno`.
        write: Whether it came when something was written.
    """
    if number in FULL:
        return "free some space (with a quota: of your own files)"
    if number in _LOCKED:
        return "make the folder writable" if write else "make its files readable"
    if number in _FILES:
        return "close other files, or raise the limit (ulimit -n)"
    if number == errno.EFBIG:
        return "raise the limit on the size of files (ulimit -f)"
    if number in _STALE:
        return "mount the network folder again"
    if number in _GONE:
        return "put the folder back where it was, or mount its disk again"
    return "see to the disk, whose log may say more"


def cannot_read(root: Path, cause: OSError, what: str = "") -> StoreError:
    """Return the error for a run whose disk does not answer.

    Args:
        root: Folder of the run.
        cause: The error of the disk.
        what: What cannot be read, in words; the run if it is left out.
    """
    why = cause.strerror or str(cause)
    error = StoreError(
        say(
            f"{what + ' of ' if what else ''}'{root}', where reading failed: {why}",
            "a disk that answers",
            f"{remedy(cause.errno, write=False)}, and read it again: nothing was changed",
        )
    )
    error.errno = cause.errno
    return error


@contextmanager
def reading(root: Path) -> Iterator[None]:
    """Tell a failure of the disk while something of a run is read.

    Raises:
        StoreError: With the number of the error in `errno`, and how to go on.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as cause:
        raise cannot_read(root, cause) from cause
