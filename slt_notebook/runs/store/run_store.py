"""The store of a run: one Zarr group, written while the run is sampled.

One chunk holds one chain, so workers that own chains write without locks.  Every file is replaced
atomically by Zarr; results are written before the checkpoint that follows them.  A run that is
killed at any moment therefore resumes from a whole state, and writes the same numbers again.

`layout.py` says which arrays there are, `checkpoint.py` how states are kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import zarr
from filelock import FileLock, Timeout

from slt_notebook import names
from slt_notebook.errors import StoreError, say
from slt_notebook.models.probes import Probe
from slt_notebook.parsing import store_path
from slt_notebook.results.integrity.verify import verify
from slt_notebook.runs.plan.settings import Task
from slt_notebook.runs.plan.task import compare
from slt_notebook.runs.store import checkpoint, layout
from slt_notebook.runs.store.arrays import array_of, group_of, unreadable, values_of
from slt_notebook.runs.store.space import writing


class RunStore:
    """The Zarr group of a run, and the lock that keeps a second run off it.

    Attributes:
        path: folder of the store.
    """

    def __init__(self, path: str | Path):
        self.path = store_path(path)
        self._lock: FileLock | None = None
        self._group: zarr.Group | None = None

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
    ) -> str:
        """Create the store, or find out what to do with the one that is there.

        Args:
            task: what is sampled.
            probes: what is recorded.
            init: losses at w* of each probe, by its name.
            dim: number of sampled coordinates.
            notes: what a reader of the run should know, kept in a new store.

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
            if self.path.exists() and any(self.path.iterdir()):
                return self._reopen(task, probes)
            with writing(self.path):
                layout.create(self.path, task, probes, init, dim, notes)
            self._group = zarr.open_group(str(self.path), mode="r+")
            return "new"
        except BaseException:
            self.close()
            raise

    def acquire(self) -> None:
        """Take the lock of the store.

        Raises:
            StoreError: another run has it, or nothing can be written there.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Beside the store, since Zarr takes a foreign file within it amiss; and never removed:
            # a lock that is unlinked can be held twice.
            self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
            self._lock.acquire()
        except Timeout as cause:
            self._lock = None
            raise StoreError(
                say(
                    f"the store {str(self.path)!r}, which another run is writing",
                    "a store that no run is writing",
                    "wait for that run, stop it, or pass another store=...",
                )
            ) from cause
        except OSError as cause:
            self._lock = None
            raise StoreError(
                say(
                    f"{str(self.path)!r}, where nothing can be written ({cause})",
                    "a folder that can be written",
                    "pass another store=...",
                )
            ) from cause

    def _reopen(self, task: Task, probes: Sequence[Probe]) -> str:
        try:
            group = zarr.open_group(str(self.path), mode="r+")
            attrs = dict(group.attrs)
            schema, stored = attrs[names.A_SCHEMA], attrs[names.A_TASK]
        except Exception as cause:
            raise StoreError(
                say(
                    f"{str(self.path)!r}, which holds something else or a damaged store",
                    "an empty place or a run of this kit",
                    "pass another store=..., or move what is there",
                )
            ) from cause
        if int(str(schema)) > names.SCHEMA:
            raise StoreError(
                say(
                    f"a store of schema {schema}",
                    f"schema {names.SCHEMA} or older",
                    "update slt-notebook",
                )
            )
        relation = compare(str(stored), task)
        verify(self.path, checkpoint=True)
        if relation == "more":
            with writing(self.path):
                layout.extend(group, task, probes)
            group = zarr.open_group(str(self.path), mode="r+")
        self._group = group
        return relation

    def close(self) -> None:
        """Lets go of the lock.  May be called twice."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # Writing ------------------------------------------------------------------------------------

    def write_rows(
        self, group: str, name: str, rows: Sequence[int], start: int, values: np.ndarray
    ) -> None:
        """Write `values` `[chain, count, ...]` of the chains in `rows`, from `start` on axis 1."""
        array = array_of(group_of(self.group, group), name)
        for row, value in zip(rows, values, strict=True):
            if len(value):
                try:
                    array[row, start : start + len(value)] = value
                except (ValueError, RuntimeError) as cause:  # a part of a chunk is read first
                    raise unreadable(group_of(self.group, group), name, cause) from cause

    def write_chain(self, name: str, rows: Sequence[int], values: np.ndarray) -> None:
        """Write one value (or row of values) per chain, in `sampling`."""
        array = array_of(group_of(self.group, names.SAMPLING), name)
        for row, value in zip(rows, values, strict=True):
            array[row] = value

    def write_checkpoint(
        self, rows: Sequence[int], steps: int, state: Sequence[np.ndarray]
    ) -> None:
        """Write the kernel state of the chains in `rows` after `steps` steps."""
        checkpoint.write_checkpoint(self.group, rows, steps, state)

    # Reading back -------------------------------------------------------------------------------

    def resume_point(self, rows: Sequence[int]) -> tuple[int, list[np.ndarray] | None]:
        """Return the latest step for which every chain in `rows` has a whole state, and that state.

        Raises:
            StoreError: the kernel state was taken out of the store.
        """
        if names.CHECKPOINT not in self.group:
            raise StoreError(
                say(
                    f"{str(self.path)!r}, from which the kernel state was taken out",
                    "a store with a checkpoint",
                    "read it with slt.open_run; to sample, pass another store=...",
                )
            )
        return checkpoint.read_checkpoint(self.group, rows)

    def status(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Status codes of the chains in `rows`, and the steps at which they diverged (or -1)."""
        group, places = group_of(self.group, names.SAMPLING), list(rows)
        return values_of(group, names.STATUS)[places], values_of(group, names.STATUS_STEP)[places]
