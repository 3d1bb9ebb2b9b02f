"""Zarr stores over the files of a run: one to read it, one to write it through `Files`."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from slt_notebook import names
from slt_notebook.results.integrity.files import Files, read
from slt_notebook.results.integrity.sealed import META, encode

_NOTHING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class ReadStore(LocalStore):
    """The Zarr store of a run that is read.

    Zarr takes a file that is not there for one that was never written, and reads its fill value.
    Here that holds for files of which nobody knows better.

    Attributes:
        needed: paths of files that must be there.
        extent: lengths of dims at which arrays are cut, see `verify.Verified`.
    """

    def __init__(
        self,
        root: Path,
        needed: AbstractSet[str] = frozenset(),
        extent: Mapping[str, int] = MappingProxyType({}),
        read_only: bool = True,
    ):
        super().__init__(root, read_only=read_only)
        self.needed, self.extent = needed, dict(extent)

    def with_read_only(self, read_only: bool = False) -> Self:
        """See `zarr.storage.LocalStore`."""
        return type(self)(self.root, self.needed, self.extent, read_only)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """See `zarr.storage.LocalStore`.

        Raises:
            FileNotFoundError: A file that must be there is not.
        """
        assert byte_range is None, "parts of files are not read"
        data = await asyncio.to_thread(self._read, key)
        if data is None:
            if key in self.needed:
                path = str(self.root / key)
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return None
        if self.extent and key.rsplit("/", 1)[-1] == META:
            data = self._cut(data)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(bytes(data))

    def _read(self, key: str) -> Any:
        try:
            return read(self.root / key)
        except _NOTHING:
            return None

    def _cut(self, data: bytes) -> bytes:
        """Return metadata with what is ahead of the task cut off."""
        doc = json.loads(data)
        for axis, dim in enumerate(doc.get("dimension_names") or ()):
            doc["shape"][axis] = min(doc["shape"][axis], self.extent.get(dim, doc["shape"][axis]))
        if names.A_DRAWS in doc.get("attributes", {}):
            doc["attributes"][names.A_DRAWS] = self.extent[names.DRAW]
        return json.dumps(doc).encode()


class FileStore(ReadStore):
    """The Zarr store of a run that is written; what it is given is in place at `files.commit`.

    Attributes:
        files: of the run.
        seal: whether its metadata carries digests, as that of every run since there are any.
        needed: paths of files that must be there; what is added stays.
        arrays: those that were opened, by path.
    """

    needed: set[str]

    def __init__(self, files: Files, seal: bool = True, read_only: bool = False):
        super().__init__(files.root, set(), read_only=read_only)
        self.files, self.seal = files, seal
        self.arrays: dict[str, zarr.Array] = {}

    def with_read_only(self, read_only: bool = False) -> Self:
        """See `zarr.storage.LocalStore`."""
        return type(self)(self.files, self.seal, read_only)

    def _read(self, key: str) -> Any:
        staged = self.files.staged(self.root / key)
        return super()._read(key) if staged is None else staged

    async def set(self, key: str, value: Buffer) -> None:
        """See `zarr.storage.LocalStore`."""
        self._check_writable()
        data: Any = value.as_buffer_like()
        if key.rsplit("/", 1)[-1] == META:
            data = encode(json.loads(bytes(data)), self.seal)
        await asyncio.to_thread(self.files.stage, self.root / key, data)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """See `zarr.storage.LocalStore`."""
        if not await self.exists(key):
            await self.set(key, value)

    async def delete(self, key: str) -> None:
        """See `zarr.storage.LocalStore`."""
        self._check_writable()
        self.files.remove(self.root / key)

    async def exists(self, key: str) -> bool:
        """See `zarr.storage.LocalStore`."""
        return self.files.staged(self.root / key) is not None or await super().exists(key)
