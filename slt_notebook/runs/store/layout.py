"""The arrays of a run's store: making them, and making them longer.

sampling/      loss init_loss virial (chain, step); grad_norm distance accept (chain, draw); ...
probe/<name>/  loss (chain, draw, example[, token]), init_loss, token_id, token_text, ...
checkpoint/    see `checkpoint.py`
"""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import zarr

import slt_notebook
from slt_notebook import names
from slt_notebook.models.probes import Probe
from slt_notebook.results.integrity import sealed
from slt_notebook.results.integrity.file_store import FileStore
from slt_notebook.results.integrity.files import Files, make_folders, move, remove_folder
from slt_notebook.runs.plan.settings import CONTROLS, Task
from slt_notebook.runs.store.arrays import (
    array_of,
    encoded,
    group_of,
    new_array,
    new_coordinate,
    stage,
    store_of,
)
from slt_notebook.runs.store.checkpoint import create_checkpoint

CHUNK_BYTES = 8 << 20
STEP_CHUNK = 4096
"""Steps or draws in one chunk, at most.  Each flush writes the last chunk anew: of a small probe
8 MB would be rewritten for every few draws, in memory that grows with what is in them."""
PER_STEP = (names.LOSS, names.INIT_LOSS, names.VIRIAL)
PER_DRAW = (names.GRAD_NORM, names.DISTANCE, names.ACCEPT)


def versions() -> dict[str, str]:
    """Versions of what decides about numbers, for the attributes of a store."""
    out = {"slt_notebook": slt_notebook.__version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "xarray", "zarr", "numpy"):
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            out[package] = "not installed"
    return out


def create(
    path: Path,
    task: Task,
    probes: Sequence[Probe],
    init: Mapping[str, np.ndarray],
    dim: int,
    notes: Sequence[str] = (),
    sync: bool = True,
) -> None:
    """Make the store of a run at `path`, whole or not at all.

    Args:
        path: an empty place.
        task: what is sampled.
        probes: what is recorded.
        init: losses at w* of each probe, by its name.
        dim: number of sampled coordinates.
        notes: what a reader of the run should know.
        sync: whether it is durable afterwards.
    """
    # Made beside its place and moved there whole: a run killed here leaves no half store.
    new = path.with_name(f".{path.name}.new")
    remove_folder(new)
    make_folders(new, sync)
    try:
        files = Files(new, sync)
        root = zarr.create_group(FileStore(files))
        _create_sampling(root, task, dim)
        for probe in probes:
            _create_probe(root, task, probe, init[probe.name])
        create_checkpoint(root, len(task.chains))
        files.commit()
        root.attrs.update(
            {
                names.A_SCHEMA: names.SCHEMA,
                names.A_TASK: task.to_json(),
                names.A_VERSIONS: json.dumps(versions()),
                names.A_MODEL: task.model,
                names.A_CREATED: datetime.now(UTC).isoformat(timespec="seconds"),
                **({names.A_NOTES: list(notes)} if notes else {}),
                names.A_CHECKSUMS: "crc32c",
                names.A_ARRAYS: sealed.array_paths(new, {}),
            }
        )
        files.commit()
        move(new, path, sync)
    except BaseException:
        remove_folder(new)  # on a full disk, room for others
        raise


def _create_sampling(root: zarr.Group, task: Task, dim: int) -> None:
    sampling = root.create_group(names.SAMPLING)
    count = len(task.chains)
    for name in PER_STEP:
        dims = (names.CHAIN, names.STEP)
        new_array(sampling, name, (count, task.steps), (1, STEP_CHUNK), dims)
    for name in PER_DRAW:
        dims = (names.CHAIN, names.DRAW)
        new_array(sampling, name, (count, task.draws), (1, STEP_CHUNK), dims)
    for name in (names.CONTROL_LOSS, names.CONTROL_INIT_LOSS):
        dims = (names.CHAIN, names.CONTROL)
        new_array(sampling, name, (count, CONTROLS), (1, CONTROLS), dims, filled=True)
    new_array(sampling, names.STATUS, (count,), (1,), (names.CHAIN,), "i1", 0, filled=True)
    new_array(sampling, names.STATUS_STEP, (count,), (1,), (names.CHAIN,), "i4", -1, filled=True)
    new_coordinate(sampling, names.CHAIN, np.array(task.chains))
    new_coordinate(sampling, names.STEP, np.arange(task.steps))
    new_coordinate(sampling, names.DRAW, np.arange(task.draws))
    for name, values in (
        (names.STEP_SIZE, task.step_sizes()),
        (names.NBETA, task.nbeta),
        (names.GAMMA, task.gamma),
    ):
        new_coordinate(sampling, name, np.array(values), (names.CHAIN,))
    sampling.attrs.update(
        {
            names.A_KIND: "sampling",
            "coordinates": f"{names.STEP_SIZE} {names.NBETA} {names.GAMMA}",
            names.A_BURNIN: task.burnin,
            names.A_THIN: task.thin,
            names.A_DRAWS: task.draws,
            names.A_DATA_SIZE: task.data["examples"],
            names.A_COMPONENT: task.component,
            names.A_SPACE_DIM: dim,
        }
    )


def _create_probe(root: zarr.Group, task: Task, probe: Probe, init: np.ndarray) -> None:
    group = root.create_group(f"{names.PROBE}/{probe.name}")
    dims = (names.EXAMPLE, names.TOKEN)[: init.ndim]
    size = 4 * init.size
    draws = max(1, min(task.draws, CHUNK_BYTES // size, STEP_CHUNK))
    examples = init.shape[0] if size <= 4 * CHUNK_BYTES else init.shape[0] // 4
    chunks = (1, draws, examples, *init.shape[1:])
    shape = (len(task.chains), task.draws, *init.shape)
    new_array(group, names.LOSS, shape, chunks, (names.CHAIN, names.DRAW, *dims))
    new_coordinate(group, names.INIT_LOSS, init.astype("f4"), dims)
    new_coordinate(group, names.CHAIN, np.array(task.chains))
    new_coordinate(group, names.DRAW, np.arange(task.draws))
    new_coordinate(group, names.EXAMPLE, np.array(probe.examples, dtype=object))
    if probe.labels is not None:
        labels = np.array(probe.labels, dtype=object)
        new_coordinate(group, names.LABEL, labels, (names.EXAMPLE,))
    group.attrs.update(
        {
            names.A_KIND: "probe",
            "probe": probe.name,
            "kind": probe.kind,
            "fingerprint": probe.fingerprint,
        }
    )
    if probe.kind == "text":
        _create_tokens(group, probe, dims)


def _create_tokens(group: zarr.Group, probe: Probe, dims: tuple[str, ...]) -> None:
    ids = probe.fields["input_ids"]
    strings = probe.strings
    assert strings is not None  # a probe of kind "text" has them
    seen = probe.fields["attention_mask"] > 0
    text = np.empty(ids.shape, dtype=object)
    for place in np.ndindex(ids.shape):
        text[place] = strings[int(ids[place])] if seen[place] else ""
    new_coordinate(group, names.TOKEN, np.arange(1, ids.shape[1]))
    new_coordinate(group, names.TOKEN_ID, ids[:, 1:].astype("i4"), dims)
    new_coordinate(group, names.TOKEN_TEXT, text[:, 1:], dims)
    new_coordinate(group, names.FIRST_ID, ids[:, 0].astype("i4"), dims[:1])
    new_coordinate(group, names.FIRST_TEXT, text[:, 0], dims[:1])


def _growing(root: zarr.Group, task: Task) -> Iterator[tuple[zarr.Group, str, int]]:
    """Yield the arrays that grow with the draws, each with the length that `task` asks for."""
    sampling = group_of(root, names.SAMPLING)
    for name in (names.STEP, *PER_STEP):
        yield sampling, name, task.steps
    for name in (names.DRAW, *PER_DRAW):
        yield sampling, name, task.draws
    for probe in task.probes:
        for name in (names.DRAW, names.LOSS):
            yield group_of(root, f"{names.PROBE}/{probe['name']}"), name, task.draws


def is_shorter(root: zarr.Group, task: Task) -> bool:
    """Whether arrays have less room than `task` asks for, as in a copy of a run while it grew."""
    return any(
        array_of(g, name).shape[_axis(name)] < size for g, name, size in _growing(root, task)
    )


def extend(root: zarr.Group, task: Task) -> None:
    """Make the arrays of a run as long as `task`, which asks for more draws than before.

    The task is written last.  Until then readers see the arrays as long as the old task says, so
    that the run can be read and extended again wherever this ended.
    """
    files = store_of(root).files
    # Labels first: the chunks of an array may be ahead of its metadata, but not behind.
    for group, name, size in _growing(root, task):
        if name in _INDEX:
            _extend_index(group, name, size)
    files.commit()
    for group, name, size in _growing(root, task):
        _lengthen(group, name, size)
    group_of(root, names.SAMPLING).attrs[names.A_DRAWS] = task.draws
    files.commit()
    root.attrs[names.A_TASK] = task.to_json()
    files.commit()


_INDEX = (names.STEP, names.DRAW)


def _axis(name: str) -> int:
    return 0 if name in _INDEX else 1


def _extend_index(group: zarr.Group, name: str, size: int) -> None:
    """Write the chunks of a longer index, under the metadata of the shorter one."""
    array = array_of(group, name)
    files = encoded(
        np.arange(size), chunks=array.chunks, dtype=array.dtype, fill_value=array.fill_value,
        filters=array.filters, compressors=array.compressors,
    )  # fmt: skip
    del files[sealed.META]
    stage(group, name, files)


def _lengthen(group: zarr.Group, name: str, size: int) -> None:
    """Write the metadata of a longer array."""
    store, path = store_of(group), f"{group.path}/{name}"
    doc = sealed.read_metadata(store.root / path)
    doc["shape"][_axis(name)] = size
    store.files.stage(store.root / path / sealed.META, sealed.encode(doc, store.seal))
