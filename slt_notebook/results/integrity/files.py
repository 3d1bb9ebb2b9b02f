"""How the files of a run are written and read: each whole or not at all, and durable in order.

**What is guaranteed.**  A run may end at any moment: it is killed, the machine loses power, the
disk is full or gone.  Then

- a file holds what it held before or what was to be written, never a part of it: it is written
  beside its place (`.NAME.new`), synced, and renamed into its place;
- what was committed stays: `Files.commit` returns when contents and names (the folders that hold
  them) are on the disk.  `runs/store` commits the draws and the state of a checkpoint before the
  cursor that points at them, and the cursor before anything else.  So whatever the cursor says is
  there, and sampling goes on from the last checkpoint bit by bit as if nothing had happened;
- a folder that is moved, removed or replaced while a run writes to it is an error, and nothing is
  made in its place.

On a file system whose rename is not atomic (the old file is gone before the new one is there),
`recovery.py` finishes the rename the next time the run is sampled or repaired.  All of this holds
as far as the disk tells the truth about a sync; where it does not, or files are copied while a run
writes them, checksums, digests and the seals of states (`states.py`) turn a wrong file into an
error.  Runs without a `store=` are not synced.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

STAGED = 16 << 20
"""Bytes that wait in memory before they are written."""
SYNCING = 8
"""Files that are synced at the same time: one after the other takes five times as long on ext4."""
_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)


def read(path: str | Path) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags)) as file:
        return file.read()


def write(path: Path, data: bytes) -> None:
    """Write one file, whole or not at all and durable; its folder is there."""
    files = Files(path.parent)
    files.stage(path, data)
    files.commit()


class Files:
    """The files of one run while it is written.  Methods may be called from any thread.

    Attributes:
        root: folder of the run, which is there.
        sync: whether a commit makes files durable.
    """

    def __init__(self, root: Path, sync: bool = True):
        self.root, self.sync = root, sync
        self._staged: dict[Path, memoryview] = {}
        self._size = 0
        self._folders: set[Path] = set()
        self._lock = threading.RLock()
        self._identity = self._find_identity()

    def staged(self, path: Path) -> memoryview | None:
        """Return what is to be written to `path` and is not yet there."""
        with self._lock:
            return self._staged.get(path)

    def stage(self, path: Path, data: Any) -> None:
        """Take the bytes of a file, which are written when there are many, or at the commit."""
        with self._lock:
            view = memoryview(data)
            view = view.cast("B") if view.nbytes else memoryview(b"")
            self._size += view.nbytes
            self._staged[path] = view
            if self._size > STAGED:
                self._place()

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        with self._lock:
            self._staged.pop(path, None)
            try:
                os.unlink(path)
            except FileNotFoundError:
                return
            self._folders.add(path.parent)

    def commit(self) -> None:
        """Write what was staged; afterwards it is durable, and so is what was removed.

        Raises:
            OSError: no room, no such folder, ...: what was staged is given up.
        """
        with self._lock:
            self._place()
            folders, self._folders = sorted(self._folders), set()
            if self.sync:
                _at_once(_sync_folder, folders)
            if self._find_identity() != self._identity:
                raise FileNotFoundError(errno.ENOENT, "another folder is in its place", self.root)

    def discard(self) -> None:
        """Give up what was staged."""
        with self._lock:
            self._staged, self._size = {}, 0

    def _find_identity(self) -> tuple[int, int]:
        found = os.stat(self.root)
        return found.st_dev, found.st_ino

    def _place(self) -> None:
        """Write what was staged, all of it before the first file is renamed into its place."""
        staged, self._staged, self._size = list(self._staged.items()), {}, 0
        try:
            for folder in sorted({path.parent for path, _ in staged}):  # the outer ones first
                self.make_folder(folder)
            put = lambda item: _put(beside(item[0]), item[1], self.sync)
            if self.sync:
                _at_once(put, staged)
            else:
                for item in staged:
                    put(item)
            for path, _ in staged:
                os.replace(beside(path), path)
                self._folders.add(path.parent)
        except BaseException:
            for path, _ in staged:  # room for others, where the disk is full
                _try_unlink(beside(path))
            raise

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those between it and the array or group that is there."""
        try:
            os.mkdir(folder)
        except FileExistsError:
            return
        except FileNotFoundError:
            # The numbered folders of chunks, and `c` above them.  What lies above was made with the
            # run: if it is gone, the run was moved or removed.
            if not (folder.name.isdigit() and self.root in folder.parents):
                raise
            self.make_folder(folder.parent)
            self.make_folder(folder)
            return
        self._folders.add(folder.parent)


def make_folders(path: Path, sync: bool = True) -> None:
    """Make a folder and all above it that are not there."""
    if path.is_dir():
        return
    make_folders(path.parent, sync)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not path.is_dir():
            raise
    if sync:
        _sync_folder(path.parent)


def move(old: Path, new: Path, sync: bool = True) -> None:
    """Give a folder another name within the same folder; what has that name must be empty."""
    os.replace(old, new)
    if sync:
        _sync_folder(new.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder and what is in it, as far as that is possible."""
    shutil.rmtree(path, ignore_errors=True)


def beside(path: Path) -> Path:
    """Return where the file of `path` is written before it is renamed into its place."""
    return path.with_name(f".{path.name}.new")


def _put(path: Path, data: memoryview, sync: bool) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
    try:
        while data:
            data = data[os.write(handle, data) :]
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # which has no such thing
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def _try_unlink(path: Path) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _at_once(do: Callable[[T], None], items: Iterable[T]) -> None:
    """Call `do` on every item, several at a time; raise the first error once all have ended."""
    items = list(items)
    if len(items) < 2 or SYNCING < 2:
        for item in items:
            do(item)
        return
    with ThreadPoolExecutor(min(SYNCING, len(items)), "slt-sync") as pool:
        started = []
        for item in items:
            try:
                started.append(pool.submit(do, item))
            except RuntimeError:  # the interpreter ends, and starts no thread
                do(item)
    for future in started:
        future.result()
