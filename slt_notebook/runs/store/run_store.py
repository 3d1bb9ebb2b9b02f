"""Where do tensors become labelled arrays?  Here: one Zarr group a run, written while it goes on.

    sampling/      loss init_loss virial (chain, step); grad_norm distance accept (chain, draw); ...
    probe/<name>/  loss (chain, draw, example[, token]), init_loss, token_id, token_text, ...
    checkpoint/    two slots of the kernel state per chain, and a cursor that says which is whole

One chunk holds one chain, so workers that own chains write without locks.  Every file is replaced
atomically by Zarr; a slot of the checkpoint is written before the cursor that points at it, and
results before both.  A run that is killed at any moment therefore resumes from a whole state, and
writes the same numbers again.
"""

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock, Timeout

import slt_notebook
from slt_notebook import names
from slt_notebook.errors import StoreError, say
from slt_notebook.models.probes import Probe
from slt_notebook.runs.plan.task import CONTROLS, Task, compare

CHUNK_BYTES = 8 << 20
STEP_CHUNK = 4096
STATE_CHUNK = 1 << 24
"""Coordinates of a kernel state in one chunk."""
CURSOR = "cursor"


def _write_row(array, row: int, slot: int, values: np.ndarray) -> None:
    """Writes `[row, slot]`, a chunk at a time.

    Zarr takes the values of exactly one chunk as they are; of more it first makes copies, all at
    once: a large model's row a second time.
    """
    if not values.ndim:  # one number a chain
        array[row, slot] = values
        return
    width = array.chunks[-1]
    array = array.with_config({"write_empty_chunks": True})  # else it looks whether all is NaN
    for start in range(0, values.shape[-1], width):
        cut = slice(start, min(start + width, values.shape[-1]))
        array[row : row + 1, slot : slot + 1, ..., cut] = values[None, None, ..., cut]


def versions() -> dict[str, str]:
    """Versions of what decides about numbers, for the attributes of a store."""
    out = {"slt_notebook": slt_notebook.__version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "xarray", "zarr", "numpy"):
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            out[package] = "not installed"
    return out


class RunStore:
    """The Zarr group of a run, and the lock that keeps a second run off it."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self._lock = None
        self.group: zarr.Group | None = None

    # Opening ------------------------------------------------------------------------------------

    def open(self, task: Task, probes: Sequence[Probe], init: Mapping[str, np.ndarray]) -> str:
        """Creates the store, or finds out what to do with the one that is there.

        Args:
            init: losses at w* of each probe.

        Returns:
            `"new"`, `"same"` or `"more"`.

        Raises:
            StoreError: a folder that is no run, a newer schema, a store in use, a full or
                read-only disk.
            StoreMismatch: the store holds another task.
        """
        self._acquire()
        try:
            if self.path.exists() and any(self.path.iterdir()):
                return self._reopen(task, probes)
            self._create(task, probes, init)
            return "new"
        except BaseException:
            self.close()
            raise

    def _acquire(self) -> None:
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
                    "a store that nobody writes",
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
        if schema > names.SCHEMA:
            raise StoreError(
                say(
                    f"a store of schema {schema}",
                    f"schema {names.SCHEMA} or older",
                    "update slt-notebook",
                )
            )
        relation = compare(stored, task)
        self.group = group
        if relation == "more":
            self._extend(task, probes)
        return relation

    def _create(self, task: Task, probes: Sequence[Probe], init) -> None:
        # Made beside its place and moved there whole: a run killed here leaves no half store.
        new = self.path.with_name(f".{self.path.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        root = zarr.open_group(str(new), mode="w")
        chains = len(task.chains)
        sampling = root.create_group(names.SAMPLING)
        for name in (names.LOSS, names.INIT_LOSS, names.VIRIAL):
            _array(sampling, name, (chains, task.steps), (1, STEP_CHUNK), (names.CHAIN, names.STEP))
        for name in (names.GRAD_NORM, names.DISTANCE, names.ACCEPT):
            _array(sampling, name, (chains, task.draws), (1, STEP_CHUNK), (names.CHAIN, names.DRAW))
        for name in (names.CONTROL_LOSS, names.CONTROL_INIT_LOSS):
            dims = (names.CHAIN, names.CONTROL)
            _array(sampling, name, (chains, CONTROLS), (1, CONTROLS), dims)
        _array(sampling, names.STATUS, (chains,), (1,), (names.CHAIN,), "i1", 0)
        _array(sampling, names.STATUS_STEP, (chains,), (1,), (names.CHAIN,), "i4", -1)
        _coordinate(sampling, names.CHAIN, np.array(task.chains))
        _coordinate(sampling, names.STEP, np.arange(task.steps))
        _coordinate(sampling, names.DRAW, np.arange(task.draws))
        for name, values in (
            (names.STEP_SIZE, task.step_sizes()),
            (names.NBETA, task.nbeta),
            (names.GAMMA, task.gamma),
        ):
            _coordinate(sampling, name, np.array(values), (names.CHAIN,))
        sampling.attrs.update(
            {
                "coordinates": f"{names.STEP_SIZE} {names.NBETA} {names.GAMMA}",
                names.A_BURNIN: task.burnin,
                names.A_THIN: task.thin,
                names.A_DRAWS: task.draws,
                names.A_DATA_SIZE: task.data["examples"],
                names.A_COMPONENT: task.component,
                names.A_SPACE_DIM: int(init["__dim__"]),
            }
        )
        for probe in probes:
            self._create_probe(root, task, probe, init[probe.name])
        cursor = root.create_group(names.CHECKPOINT)
        _array(cursor, CURSOR, (chains, 2), (1, 2), (names.CHAIN, "slot"), "i8", -1)
        root.attrs.update(
            {
                names.A_SCHEMA: names.SCHEMA,
                names.A_TASK: task.to_json(),
                names.A_VERSIONS: json.dumps(versions()),
                names.A_MODEL: task.model,
                names.A_CREATED: datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        new.replace(self.path)
        self.group = zarr.open_group(str(self.path), mode="r+")

    def _create_probe(self, root: zarr.Group, task: Task, probe: Probe, init: np.ndarray) -> None:
        group = root.create_group(f"{names.PROBE}/{probe.name}")
        dims = (names.EXAMPLE, names.TOKEN)[: init.ndim]
        size = 4 * init.size
        draws = max(1, min(task.draws, CHUNK_BYTES // size))
        examples = init.shape[0] if size <= 4 * CHUNK_BYTES else init.shape[0] // 4
        chunks = (1, draws, examples, *init.shape[1:])
        shape = (len(task.chains), task.draws, *init.shape)
        _array(group, names.LOSS, shape, chunks, (names.CHAIN, names.DRAW, *dims))
        _coordinate(group, names.INIT_LOSS, init.astype("f4"), dims)
        _coordinate(group, names.CHAIN, np.array(task.chains))
        _coordinate(group, names.DRAW, np.arange(task.draws))
        _coordinate(group, names.EXAMPLE, np.array(probe.examples, dtype=object))
        if probe.labels is not None:
            labels = np.array(probe.labels, dtype=object)
            _coordinate(group, names.LABEL, labels, (names.EXAMPLE,))
        group.attrs.update(
            {"probe": probe.name, "kind": probe.kind, "fingerprint": probe.fingerprint}
        )
        if probe.kind == "text":
            ids = probe.fields["input_ids"]
            seen = probe.fields["attention_mask"] > 0
            text = np.empty(ids.shape, dtype=object)
            for place in np.ndindex(ids.shape):
                text[place] = probe.strings[int(ids[place])] if seen[place] else ""
            _coordinate(group, names.TOKEN, np.arange(1, ids.shape[1]))
            _coordinate(group, names.TOKEN_ID, ids[:, 1:].astype("i4"), dims)
            _coordinate(group, names.TOKEN_TEXT, text[:, 1:], dims)
            _coordinate(group, names.FIRST_ID, ids[:, 0].astype("i4"), dims[:1])
            _coordinate(group, names.FIRST_TEXT, text[:, 0], dims[:1])

    def _extend(self, task: Task, probes: Sequence[Probe]) -> None:
        sampling = self.group[names.SAMPLING]
        chains = len(task.chains)
        for name in (names.LOSS, names.INIT_LOSS, names.VIRIAL):
            sampling[name].resize((chains, task.steps))
        for name in (names.GRAD_NORM, names.DISTANCE, names.ACCEPT):
            sampling[name].resize((chains, task.draws))
        _extend_index(sampling[names.STEP], task.steps)
        _extend_index(sampling[names.DRAW], task.draws)
        for probe in probes:
            group = self.group[f"{names.PROBE}/{probe.name}"]
            group[names.LOSS].resize((chains, task.draws, *group[names.LOSS].shape[2:]))
            _extend_index(group[names.DRAW], task.draws)
        sampling.attrs[names.A_DRAWS] = task.draws
        self.group.attrs[names.A_TASK] = task.to_json()

    # Writing ------------------------------------------------------------------------------------

    def write_rows(self, group: str, name: str, rows: Sequence[int], start: int, values) -> None:
        """`values` `[chain, count, ...]` of the chains in `rows`, from `start` on axis 1."""
        array = self.group[group][name]
        for row, value in zip(rows, values, strict=True):
            if len(value):
                array[row, start : start + len(value)] = value

    def write_chain(self, name: str, rows: Sequence[int], values) -> None:
        """One value (or row of values) a chain, in `sampling`."""
        array = self.group[names.SAMPLING][name]
        for row, value in zip(rows, values, strict=True):
            array[row] = value

    def write_checkpoint(self, rows: Sequence[int], steps: int, state: list[np.ndarray]) -> None:
        """The kernel state of the chains in `rows` after `steps` steps."""
        group = self.group[names.CHECKPOINT]
        cursor = group[CURSOR][:]
        for leaf, value in enumerate(state):
            name = names.POSITION if leaf == 0 else f"state_{leaf}"
            if name not in group:
                shape = (cursor.shape[0], 2, *value.shape[1:])
                dims = (names.CHAIN, "slot", *(f"{name}_{i}" for i in range(value.ndim - 1)))
                fill = np.nan if value.dtype.kind == "f" else 0
                chunks = (1, 1, *(min(size, STATE_CHUNK) for size in value.shape[1:]))
                # Noise does not compress: on a large model trying took longer than a draw.
                plain = value[0].size > STATE_CHUNK // 16
                _array(group, name, shape, chunks, dims, value.dtype, fill, plain)
        for place, row in enumerate(rows):
            slot = int(np.argmin(cursor[row]))
            for leaf, value in enumerate(state):
                name = names.POSITION if leaf == 0 else f"state_{leaf}"
                _write_row(group[name], row, slot, value[place])
            cursor[row, slot] = steps
        for row in rows:
            group[CURSOR][row] = cursor[row]

    # Reading back -------------------------------------------------------------------------------

    def resume_point(self, rows: Sequence[int]) -> tuple[int, list[np.ndarray] | None]:
        """The latest step for which every chain in `rows` has a whole state, and that state.

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
        group = self.group[names.CHECKPOINT]
        cursor = group[CURSOR][:][list(rows)]
        common = set(cursor[0].tolist())
        for other in cursor[1:]:
            common &= set(other.tolist())
        common.discard(-1)
        if not common:
            return 0, None
        steps = max(common)
        leaves = sorted(
            (n for n in group.array_keys() if n.startswith("state_")), key=lambda n: int(n[6:])
        )
        state = []
        for name in (names.POSITION, *leaves):
            picked = [
                group[name][row, int(np.flatnonzero(cursor[i] == steps)[0])]
                for i, row in enumerate(rows)
            ]
            state.append(np.stack(picked))
        return steps, state

    def status(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        group = self.group[names.SAMPLING]
        return group[names.STATUS][:][list(rows)], group[names.STATUS_STEP][:][list(rows)]

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _array(group, name, shape, chunks, dims, dtype="f4", fill=np.nan, plain=False):
    """A new array; `plain` is written as it is, neither compressed nor looked through."""
    chunks = tuple(max(1, min(c, s)) for c, s in zip(chunks, shape, strict=True))
    how = {"compressors": None, "config": {"write_empty_chunks": True}} if plain else {}
    return group.create_array(
        name, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill, dimension_names=dims, **how
    )


def _coordinate(group, name, values: np.ndarray, dims: tuple[str, ...] | None = None) -> None:
    dims = dims or (name,)
    dtype: Any = "str" if values.dtype == object else values.dtype
    array = group.create_array(
        name, shape=values.shape, chunks=values.shape, dtype=dtype, dimension_names=dims
    )
    array[...] = values


def _extend_index(array, size: int) -> None:
    array.resize((size,))
    array[:] = np.arange(size)
