"""The store of a run: one Zarr group, written while the run is sampled.

One chunk holds one chain, so workers that own chains write without locks.  Results are durable
before the checkpoint that follows them says so (`results/integrity/files.py` says what that
guarantees).  A run that ends at any moment therefore resumes from a whole state, and writes the
same numbers again.

`layout.py` says which arrays there are, `checkpoint.py` how states are kept.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from filelock import FileLock, Timeout

from slt_notebook import names
from slt_notebook.errors import StoreError, say
from slt_notebook.models.probes import Probe
from slt_notebook.parsing import store_path
from slt_notebook.results.integrity.chunks import CURSOR
from slt_notebook.results.integrity.file_store import FileStore
from slt_notebook.results.integrity.files import Files, beside, make_folders
from slt_notebook.results.integrity.recovery import recover
from slt_notebook.results.integrity.sealed import META, has_checksums, read_metadata
from slt_notebook.results.integrity.verify import verify
from slt_notebook.results.integrity.words import reading
from slt_notebook.runs.plan.settings import Task
from slt_notebook.runs.plan.task import compare
from slt_notebook.runs.store import checkpoint, layout
from slt_notebook.runs.store.arrays import (
    array_of,
    chunk_keys,
    group_of,
    store_of,
    unreadable,
    values_of,
)
from slt_notebook.runs.store.space import writing

SMALL = 1 << 20
"""Bytes of the rows of all chains that are written in one call, which Zarr copies first."""


@dataclass(frozen=True)
class Part:
    """What some chains have made since the last part, and the state that they go on from.

    Attributes:
        rows: places of the chains.
        step: number of the first step in it.
        draw: number of the first draw in it.
        per_step: arrays of `sampling` by name, `[chain, step]`.
        per_draw: arrays of `sampling` by name, `[chain, draw]`.
        probes: losses by the name of the probe, `[chain, draw, example[, token]]`.
        status: codes of the chains, int8 `[chain]`.
        status_step: the steps at which they diverged, -1 where they have not.
        steps: how many steps they have made.
        state: leaves of the kernel's state, the position first, each `[chain, ...]`.
        last: whether the task asks for no further step.
    """

    rows: tuple[int, ...]
    step: int
    draw: int
    per_step: Mapping[str, np.ndarray]
    per_draw: Mapping[str, np.ndarray]
    probes: Mapping[str, np.ndarray]
    status: np.ndarray
    status_step: np.ndarray
    steps: int
    state: Sequence[np.ndarray]
    last: bool


class RunStore:
    """The Zarr group of a run, and the lock that keeps a second run off it.

    Attributes:
        path: folder of the store.
    """

    def __init__(self, path: str | Path, sync: bool = True):
        """Return the store at `path`, not open yet.

        Args:
            path: its folder.
            sync: whether what is committed is durable; not needed of a run in memory.
        """
        self.path, self.sync = store_path(path), sync
        self._lock: FileLock | None = None
        self._group: zarr.Group | None = None
        self._written: dict[tuple[str, int], bytes] = {}

    @property
    def group(self) -> zarr.Group:
        """The root group of a store that is open."""
        assert self._group is not None, "the store is not open"
        return self._group

    # Opening ------------------------------------------------------------------------------------

    def open(
        self,
        task: Task,
        probes: Sequence[Probe],
        init: Mapping[str, np.ndarray],
        dim: int,
        notes: Sequence[str] = (),
        needed: int = 0,
    ) -> str:
        """Create the store, or find out what to do with the one that is there.

        Args:
            task: what is sampled.
            probes: what is recorded.
            init: losses at w* of each probe, by its name.
            dim: number of sampled coordinates.
            notes: what a reader of the run should know, kept in a new store.
            needed: bytes of the finished store, before compression; 0 if that is not known.

        Returns:
            `"new"`, `"same"` or `"more"`.

        Raises:
            StoreError: a folder that is no run, a newer schema, a damaged store, a store in use, a
                full or read-only disk.
            StoreMismatch: the store holds another task.
        """
        if self.path.exists() and not self.path.is_dir():
            got = f"{str(self.path)!r}, which is a file"
            raise StoreError(say(got, "an empty place or a run", "pass another store=..."))
        self.acquire()
        try:
            with writing(self.path, needed):
                if self.path.exists() and any(self.path.iterdir()):
                    return self._reopen(task)
                layout.create(self.path, task, probes, init, dim, notes, self.sync)
                self._group = self._open_group()
            return "new"
        except BaseException:
            self.close()
            raise

    def _open_group(self) -> zarr.Group:
        files = Files(self.path, self.sync)
        seal = has_checksums(read_metadata(self.path).get("attributes", {}))
        group = zarr.open_group(FileStore(files, seal), mode="r+")
        store = store_of(group)
        if not seal:
            return group  # of before: chunks of nothing but the fill value are not there
        if names.CHECKPOINT in group:
            store.needed.update(chunk_keys(array_of(group, f"{names.CHECKPOINT}/{CURSOR}")))
        for name in (names.STATUS, names.STATUS_STEP):
            store.needed.update(chunk_keys(array_of(group, f"{names.SAMPLING}/{name}")))
        return group

    def acquire(self) -> None:
        """Take the lock of the store.

        Raises:
            StoreError: another run has it, or nothing can be written there.
        """
        with writing(self.path):
            make_folders(self.path.parent, self.sync)
            # Beside the store, since Zarr takes a foreign file within it amiss; and never removed:
            # a lock that is unlinked can be held twice.
            lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
            try:
                lock.acquire()
            except Timeout as cause:
                raise StoreError(
                    say(
                        f"the store {str(self.path)!r}, which another run is writing",
                        "a store that no run is writing",
                        "wait for that run, stop it, or pass another store=...",
                    )
                ) from cause
            self._lock = lock

    def _reopen(self, task: Task) -> str:
        if not (self.path / META).exists() and beside(self.path / META).exists():
            recover(self.path, True)
        try:
            attrs = read_metadata(self.path).get("attributes", {})
            schema, stored = int(str(attrs[names.A_SCHEMA])), str(attrs[names.A_TASK])
            json.loads(stored)
        except (KeyError, ValueError) as cause:
            raise StoreError(
                say(
                    f"{str(self.path)!r}, which holds something else or a damaged store",
                    "an empty place or a run of this kit",
                    "pass another store=..., or move what is there",
                )
            ) from cause
        if schema > names.SCHEMA:
            raise StoreError(
                say(
                    f"a store of schema {schema}",
                    f"schema {names.SCHEMA} or older",
                    "update slt-notebook",
                )
            )
        relation = compare(stored, task)
        recover(self.path, has_checksums(attrs))
        verify(self.path, checkpoint=True)
        group = self._open_group()
        if relation == "more" or layout.is_shorter(group, task):
            layout.extend(group, task)
            group = self._open_group()
        if names.CHECKPOINT in group:
            checkpoint.seal_old_states(group)
        self._group = group
        return relation

    def close(self) -> None:
        """Lets go of the lock.  May be called twice."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # Writing ------------------------------------------------------------------------------------

    def write(self, part: Part) -> None:
        """Write what chains made since the last time, and then that they have made it."""
        for name, values in part.probes.items():
            self.write_rows(f"{names.PROBE}/{name}", names.LOSS, part.rows, part.draw, values)
        for name, values in part.per_step.items():
            self.write_rows(names.SAMPLING, name, part.rows, part.step, values)
        for name, values in part.per_draw.items():
            self.write_rows(names.SAMPLING, name, part.rows, part.draw, values)
        self.write_chain(names.STATUS_STEP, part.rows, part.status_step)
        self.write_chain(names.STATUS, part.rows, part.status)
        if part.last:
            self._drop_controls(part.rows)
        self.write_checkpoint(part.rows, part.steps, part.state)

    def write_rows(
        self, group: str, name: str, rows: Sequence[int], start: int, values: np.ndarray
    ) -> None:
        """Write `values` `[chain, count, ...]` of the chains in `rows`, from `start` on axis 1."""
        array = array_of(group_of(self.group, group), name)
        stop = start + values.shape[1]
        if stop == start:
            return
        store = store_of(self.group)
        if (
            store.seal and start % array.chunks[1]
        ):  # a part of the first chunk is there, and is read before
            for row in rows:
                window = slice(row, row + 1), slice(start, start + 1)
                store.needed.update(chunk_keys(array, *window))
        try:
            if values.nbytes < SMALL and list(rows) == list(range(rows[0], rows[-1] + 1)):
                array[rows[0] : rows[-1] + 1, start:stop] = values
                return
            for row, value in zip(rows, values, strict=True):  # Zarr copies what it is given
                array[row, start:stop] = value
        except (ValueError, RuntimeError) as cause:
            raise unreadable(group_of(self.group, group), name, cause) from cause

    def write_chain(self, name: str, rows: Sequence[int], values: np.ndarray) -> None:
        """Write one value (or row of values) per chain, in `sampling`; not what is there."""
        array = array_of(group_of(self.group, names.SAMPLING), name)
        for row, value in zip(rows, values, strict=True):
            if self._written.get((name, row)) != value.tobytes():
                array[row] = value
                self._written[name, row] = value.tobytes()

    def write_controls(self, rows: Sequence[int], init_loss: np.ndarray, loss: np.ndarray) -> None:
        """Write the losses `[chain, control]` at control positions, and at w*."""
        self.write_chain(names.CONTROL_INIT_LOSS, rows, init_loss)
        self.commit()
        self.write_chain(names.CONTROL_LOSS, rows, loss)  # the last that a run writes
        self.commit()

    def _drop_controls(self, rows: Sequence[int]) -> None:
        """Drop the controls of a run that was shorter: with them it would count as complete."""
        there = values_of(group_of(self.group, names.SAMPLING), names.CONTROL_LOSS)[list(rows)]
        if not np.isnan(there).all():
            self.write_chain(names.CONTROL_LOSS, rows, np.full_like(there, np.nan))

    def write_checkpoint(
        self, rows: Sequence[int], steps: int, state: Sequence[np.ndarray]
    ) -> None:
        """Write the kernel state of the chains in `rows` after `steps` steps.

        Afterwards it is durable, with all that was written before.
        """
        checkpoint.write_checkpoint(self.group, rows, steps, state)

    def commit(self) -> None:
        """Make durable what was written."""
        store_of(self.group).files.commit()

    # Reading back -------------------------------------------------------------------------------

    def together(self, rows: Sequence[int]) -> list[tuple[int, ...]]:
        """Divide chains into those that can go on together: all in `rows`, if they share a step."""
        self._check_states()
        with reading(self.path):
            return checkpoint.together(self.group, rows)

    def resume_point(self, rows: Sequence[int]) -> tuple[int, list[np.ndarray] | None]:
        """Return the latest step for which every chain in `rows` has a whole state, and that state.

        Raises:
            StoreError: the kernel state was taken out of the store.
        """
        self._check_states()
        with reading(self.path):
            return checkpoint.read_checkpoint(self.group, rows)

    def forget_later(self, rows: Sequence[int], steps: int) -> None:
        """Drop the states after `steps`, from which the chains in `rows` do not go on."""
        with writing(self.path):
            checkpoint.forget_later(self.group, rows, steps)

    def _check_states(self) -> None:
        if names.CHECKPOINT not in self.group:
            raise StoreError(
                say(
                    f"{str(self.path)!r}, from which the kernel state was taken out",
                    "a store with a checkpoint",
                    "read it with slt.open_run; to sample, pass another store=...",
                )
            )

    def status(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Status codes of the chains in `rows`, and the steps at which they diverged (or -1)."""
        with reading(self.path):
            group, places = group_of(self.group, names.SAMPLING), list(rows)
            codes, since = values_of(group, names.STATUS), values_of(group, names.STATUS_STEP)
        return codes[places], since[places]
