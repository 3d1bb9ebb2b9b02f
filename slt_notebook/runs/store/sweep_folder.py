"""The folder of a sweep: a run's store for every entry, and an index of them."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slt_notebook import names
from slt_notebook.errors import StoreError, StoreMismatch, say
from slt_notebook.results.integrity.chunks import CURSOR, values_at
from slt_notebook.results.integrity.files import make_folders, write
from slt_notebook.results.integrity.sealed import document_digest, read_metadata
from slt_notebook.results.sweep import read_index
from slt_notebook.runs.plan.settings import Task
from slt_notebook.runs.plan.task import compare
from slt_notebook.runs.store.space import writing


@dataclass(frozen=True)
class Entry:
    """One run of a sweep."""

    dataset: str
    checkpoint: str
    component: str

    @property
    def path(self) -> str:
        """File name within the folder."""
        parts = [p for p in (self.dataset, self.checkpoint, self.component) if p]
        plain = "__".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part) for part in parts)
        same = all(re.fullmatch(r"[A-Za-z0-9.-]+", part) for part in parts)
        if same and len(plain) < 100:
            return f"{plain}.zarr"
        return f"{plain[:80]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}.zarr"


def complete(path: Path, task: Task) -> bool:
    """Whether the store at `path` holds the whole of `task` already."""
    try:
        if compare(str(read_metadata(path)["attributes"][names.A_TASK]), task) != "same":
            return False
        steps = values_at(path, f"{names.CHECKPOINT}/{CURSOR}").max(1)
        control = values_at(path, f"{names.SAMPLING}/{names.CONTROL_LOSS}")
        status = values_at(path, f"{names.SAMPLING}/{names.STATUS}")
    except (FileNotFoundError, KeyError, ValueError, RuntimeError, StoreError):
        return False  # the run itself says what is wrong
    alive = status == names.STATUS_OK
    reached = (steps >= task.steps) | ~alive
    # Controls are the last that a run writes; without gamma there is no law to draw them from.
    drawn = ~np.isnan(control).all(1) | ~alive
    return bool(reached.all() and (drawn.all() or not any(task.gamma)))


def check_settings(folder: Path, dataset: str, tasks: Sequence[Task]) -> None:
    """Refuses a folder whose runs have other settings than `tasks`."""
    index = read_index(folder) if (folder / names.SWEEP_INDEX).exists() else {"runs": []}
    here = [r for r in index["runs"] if r["dataset"] == dataset]
    for row in here:
        meta = folder / row["path"] / "zarr.json"
        if not meta.exists():
            continue
        stored = json.loads(meta.read_text())["attributes"][names.A_TASK]
        plain = {k: v for k, v in json.loads(stored).items() if k not in ("component", "model")}
        asked = json.loads(tasks[0].to_json())
        try:
            compare(json.dumps({**asked, **plain}), tasks[0])
        except StoreMismatch as cause:
            raise StoreMismatch(
                f"{str(folder)!r} holds runs of other settings, and one comparison needs one: "
                f"{row['path']} differs.\n{cause}"
            ) from cause
        return


def write_index(folder: Path, entries: Sequence[Entry]) -> None:
    """Add `entries` to the index of a folder, which is made if need be; never half a file.

    An index that was lost, or that `slt.check` moved aside, is made again: the runs that were
    finished are found by the names of their folders.

    Raises:
        StoreError: the folder holds other things, or its index is damaged.
    """
    if _foreign(folder):
        raise StoreError(
            say(
                f"{str(folder)!r}, a folder with other things in it",
                "an empty place or a sweep of this kit",
                "pass another store=...",
            )
        )
    old = read_index(folder)["runs"] if (folder / names.SWEEP_INDEX).exists() else []
    rows = {(r["dataset"], r["checkpoint"], r["component"]): r["path"] for r in old}
    rows |= {(e.dataset, e.checkpoint, e.component): e.path for e in entries}
    runs = [
        {"dataset": d, "checkpoint": c, "component": name, "path": path}
        for (d, c, name), path in rows.items()
    ]
    index = {names.A_SCHEMA: names.SCHEMA, "runs": runs}
    index[names.A_DIGEST] = document_digest(index)
    with writing(folder):
        make_folders(folder)
        write(folder / names.SWEEP_INDEX, json.dumps(index, indent=1).encode())


def _foreign(folder: Path) -> bool:
    """Whether a folder without an index holds anything but runs and what stands beside them."""
    if not folder.exists() or (folder / names.SWEEP_INDEX).exists():
        return False
    ours = (".zarr", ".zarr.lock", ".zarr.new", ".zarr.notes.jsonl", f"{names.SWEEP_INDEX}.damaged")
    return any(not p.name.endswith((*ours, f"{names.SWEEP_INDEX}.new")) for p in folder.iterdir())
