"""The chunk files of a run: which there are, and which there must be.

Zarr reads a chunk file that is missing as NaN.  What the cursor of the checkpoint says is done must
therefore be there.  Stores written before there were checksums left out chunks of nothing but NaN;
of these only the losses are looked for.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from slt_notebook import names
from slt_notebook.results.integrity.file_store import ReadStore
from slt_notebook.results.integrity.sealed import META, has_checksums, read_metadata, read_sealed

CURSOR = "cursor"
"""The array of the checkpoint that says how far each chain is."""
SEAL = "seal"
"""The array of the checkpoint with a checksum of each state, see `states.py`."""


@dataclass(frozen=True)
class Loss:
    """One thing that is lost.

    Attributes:
        array: The array, or the group, within the run.
        chunk: Index of the chunk; empty where the metadata is lost.
        chain: Label of the chain, or None where the array has none.
        unit: "draw" or "step", or "" where the array has neither.
        first: First draw or step in the chunk.
        last: The last one.
        reason: What is wrong with it.
    """

    array: str
    chunk: tuple[int, ...] = ()
    chain: int | None = None
    unit: str = ""
    first: int = -1
    last: int = -1
    reason: str = ""

    def __str__(self) -> str:
        where = [] if self.chain is None else [f"chain {self.chain}"]
        where += [f"{self.unit}s {self.first} to {self.last}"] if self.unit else []
        chunk = f" chunk {'/'.join(map(str, self.chunk))}" if self.chunk else ""
        within = f" ({', '.join(where)})" if where else ""
        return f"{self.array}{chunk}{within}: {self.reason}"


@dataclass(frozen=True)
class Stored:
    """An array of a run, as its metadata describes it."""

    path: str
    folder: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dims: tuple[str, ...]

    @property
    def unit(self) -> str:
        """The dim of the second axis of an array that grows while the run is sampled, or ""."""
        match self.dims:
            case (names.CHAIN, (names.STEP | names.DRAW) as unit, *_):
                return unit
        return ""

    def counts(self) -> tuple[int, ...]:
        """Return the number of chunks along each axis."""
        return tuple(-(-s // c) for s, c in zip(self.shape, self.chunks, strict=True))

    def present(self) -> set[tuple[int, ...]]:
        """Return the indices of the chunks whose files are there."""
        top, found = self.folder / "c", set()
        for folder, _, files in os.walk(top):
            parts = Path(folder).relative_to(top).parts
            for name in files:
                index = (*parts, name)
                if len(index) == len(self.shape) and all(p.isdigit() for p in index):
                    found.add(tuple(map(int, index)))
        return found

    def key(self, chunk: Sequence[int]) -> str:
        """Return the path of the file of a chunk within the run."""
        return "/".join((self.path, "c", *map(str, chunk)))

    def file(self, chunk: Sequence[int]) -> Path:
        """Return the file of a chunk."""
        return self.folder.joinpath("c", *map(str, chunk))

    def window(self, chunk: Sequence[int]) -> tuple[slice, ...]:
        """Return the part of the array that a chunk holds."""
        return tuple(
            slice(i * c, min((i + 1) * c, s))
            for i, c, s in zip(chunk, self.chunks, self.shape, strict=True)
        )

    def loss(self, chunk: tuple[int, ...], reason: str, chains: Sequence[int]) -> Loss:
        """Return what is lost with a chunk."""
        chain = None
        if self.dims[:1] == (names.CHAIN,) and len(self.dims) and self.shape[0] == len(chains):
            chain = chains[chunk[0] * self.chunks[0]]
        if not self.unit:
            return Loss(self.path, chunk, chain, reason=reason)
        window = self.window(chunk)[1]
        return Loss(self.path, chunk, chain, self.unit, window.start, window.stop - 1, reason)


def stored(root: Path, path: str, sealed: bool) -> Stored:
    """Return the description of an array.

    Raises:
        ValueError: Its metadata is missing, damaged or changed; the message says which.
    """
    doc = (read_sealed if sealed else read_metadata)(root / path)
    try:
        shape = tuple(int(s) for s in doc["shape"])
        chunks = tuple(int(c) for c in doc["chunk_grid"]["configuration"]["chunk_shape"])
        dims = tuple(str(d) for d in doc.get("dimension_names") or ("",) * len(shape))
    except (KeyError, TypeError, ValueError) as cause:
        raise ValueError(f"its {META} holds something else") from cause
    if len(shape) != len(chunks) or len(dims) != len(shape) or min(chunks, default=1) < 1:
        raise ValueError(f"its {META} holds something else")
    return Stored(path, root / path, shape, chunks, dims)


@dataclass(frozen=True)
class Done:
    """How far the chains of a run are.

    Attributes:
        chains: Their labels.
        cursor: Steps of the two checkpoints of each chain `[chain, slot]`, -1 where there is none;
            None where the checkpoints were taken out or their cursor cannot be read.
        burnin: Steps before the first draw.
        thin: Steps per draw.
        draws: Draws that the task asks for.
    """

    chains: tuple[int, ...]
    cursor: np.ndarray | None
    burnin: int
    thin: int
    draws: int

    @property
    def extents(self) -> dict[str, int]:
        """Steps and draws that the task asks for."""
        return {names.STEP: self.burnin + self.draws * self.thin, names.DRAW: self.draws}

    def extent(self, row: int, unit: str) -> int:
        """Return the steps or draws of a chain that are done."""
        assert self.cursor is not None
        steps = int(self.cursor[row].max())
        return max(0, steps if unit == names.STEP else (steps - self.burnin) // self.thin)


def done_of(root: Path, attrs: Mapping[str, Any]) -> Done:
    """Return how far the chains of the run at `root` are.

    Raises:
        ValueError: Its task cannot be read.
        OSError: The disk does not answer.
    """
    try:
        task = json.loads(attrs[names.A_TASK])
        chains = tuple(int(c) for c in task["chains"])
        burnin, thin = int(task["burnin"]), max(1, int(task["thin"]))
        draws = int(task["draws"])
    except (KeyError, TypeError, ValueError) as cause:
        raise ValueError("its task cannot be read") from cause
    try:
        cursor = values_at(root, f"{names.CHECKPOINT}/{CURSOR}")
    except FileNotFoundError:
        cursor = None  # taken out
    except OSError:  # the disk does not answer
        raise
    except Exception:  # damaged: what a reader sees of the run is judged without it
        cursor = None
    if cursor is not None and cursor.shape != (len(chains), 2):
        cursor = None
    if cursor is not None and not has_checksums(attrs):
        # Chunks of nothing but NaN, as after a divergence, were not written then.
        try:
            at = values_at(root, f"{names.SAMPLING}/{names.STATUS_STEP}")
        except OSError:
            raise
        except Exception as cause:
            raise ValueError("its status cannot be read") from cause
        cursor = np.where(at[:, None] < 0, cursor, np.minimum(cursor, at[:, None]))
    return Done(chains, cursor, burnin, thin, draws)


def values_at(root: Path, path: str) -> np.ndarray:
    """Return the values of an array of the run at `root`.

    Raises:
        OSError: It is not there, or the disk does not answer.
        ValueError, RuntimeError: It is damaged.
    """
    return np.asarray(array_at(root, path)[...])


def array_at(root: Path, path: str) -> zarr.Array:
    """Return an array of the run at `root`, for reading.

    Raises:
        OSError: It is not there, or the disk does not answer.
        ValueError: Its metadata is damaged.
    """
    return zarr.open_array(ReadStore(root), path=path, mode="r")


def required(
    arrays: Sequence[Stored], done: Done, sealed: bool
) -> Iterator[tuple[Stored, tuple[int, ...], bool]]:
    """Yield the chunks that must be there: array, index, and whether it is there.

    Args:
        arrays: Of one group.
        done: How far the chains are.
        sealed: Whether the store carries checksums, and so writes chunks of NaN as well.
    """
    present = {a.path: a.present() for a in arrays}
    for array in arrays:
        if not sealed and (done.cursor is None or not _is_loss(array)):
            continue
        for chunk in _required(array, arrays, present, done):
            # Asked again: a folder that is being written may be listed without a file in it.
            yield array, chunk, chunk in present[array.path] or array.file(chunk).exists()


def _is_loss(array: Stored) -> bool:
    return bool(array.unit) and array.path.rsplit("/", 1)[-1] == names.LOSS


def _required(
    array: Stored, group: Sequence[Stored], present: Mapping[str, set], done: Done
) -> Iterator[tuple[int, ...]]:
    counts = array.counts()
    if array.dims[:2] == (names.CHAIN, "slot"):  # states
        if array.path.endswith(f"/{CURSOR}") or done.cursor is None:
            yield from itertools.product(*map(range, counts)) if done.cursor is not None else ()
            return
        for row, slot in np.argwhere(done.cursor >= 0):
            yield from itertools.product([int(row)], [int(slot)], *map(range, counts[2:]))
        return
    if not array.unit:
        yield from itertools.product(*map(range, counts))
        return
    for row in range(array.shape[0]):
        if done.cursor is not None:
            extent = min(done.extent(row, array.unit), array.shape[1])
            count = -(-extent // array.chunks[1])
        else:  # as many as the longest array beside it has
            alike = [
                present[a.path] for a in group if (a.unit, a.chunks) == (array.unit, array.chunks)
            ]
            count = 1 + max((c[1] for found in alike for c in found if c[0] == row), default=-1)
        yield from itertools.product(
            [row // array.chunks[0]], range(count), *map(range, counts[2:])
        )
