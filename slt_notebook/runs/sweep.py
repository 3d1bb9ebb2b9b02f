"""How are components, checkpoints and datasets sampled in one call?  As runs in one folder.

    folder/
      sweep.json                     which run is which; their settings are one
      step100__l0.h1.zarr  ...       ordinary run stores, each resumable as it is

Noise and batches are functions of (seed, chain, step), so runs of one sweep read the same batches.
The runs of one checkpoint share what follows from its weights: see `shared`.
"""

import json
import re
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from torch import nn

from slt_notebook import names
from slt_notebook.errors import InputError, StoreError, StoreMismatch, nearest, say
from slt_notebook.estimators.sweep import open_sweep, read_index
from slt_notebook.models.causal_lm import causal_lm
from slt_notebook.models.patterns import Parts, refuse_overlap
from slt_notebook.models.probes import Probe
from slt_notebook.runs import plan
from slt_notebook.runs.group import cut, seat
from slt_notebook.runs.handle import Run
from slt_notebook.runs.prepare import check_inputs, plan_task, prepare
from slt_notebook.runs.run import somebody_looks
from slt_notebook.runs.shared import Shared
from slt_notebook.runs.store import CURSOR
from slt_notebook.runs.task import Task, compare

DEFAULTS = {
    "kernel": None, "nbeta": None, "gamma": 100.0, "chains": 4, "draws": 200, "burnin": 0,
    "thin": 1, "batch_size": 32, "batches": "per_chain", "seed": 0,
    "probe_dtype": "float32", "chain_chunk": None, "compile": False, "executor": None,
}  # fmt: skip


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
        import hashlib

        return f"{plain[:80]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}.zarr"


class Sweep:
    """Runs in one folder, worked through one after the other, small ones several in step.

    Attributes:
        path: the folder, or None if it lives in memory.
        entries: all runs, in the order of work.
    """

    def __init__(self, folder: Path, entries: list[Entry], work, temporary: bool):
        self.path = None if temporary else folder
        self.entries = entries
        if temporary:
            weakref.finalize(self, shutil.rmtree, folder.parent, ignore_errors=True)
        self._folder, self._work = folder, work
        self._done = threading.Event()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._current: list[tuple[Entry, Run]] = []  # those that walk now, in step
        self._finished = 0
        self._messages: list[str] = []
        self._thread = threading.Thread(target=self._go, name="slt-sweep", daemon=True)

    def _go(self) -> None:
        try:
            for done, pairs in self._work(self._stop):
                self._finished += done
                self._current = pairs
                self._walk(pairs)
                for entry, run in pairs:
                    if run.progress()["message"]:
                        self._messages.append(f"{entry.path}: {run.progress()['message']}")
                if self._stop.is_set():
                    break
                self._finished += len(pairs)
                self._current = []
        except BaseException as error:  # reported by wait(), never swallowed
            self._error = error
        finally:
            self._current = []
            self._done.set()

    def _walk(self, pairs: Sequence[tuple[Entry, Run]]) -> None:
        """Runs that walk in step, to their end; an error in one has stopped the others."""
        for _, run in pairs:
            run.start()
            if self._stop.is_set():
                run._job.board.stop()
        for _, run in pairs:
            run._done.wait()
        for _, run in pairs:
            if run._error is not None:
                raise run._error

    def start(self) -> "Sweep":
        self._thread.start()
        return self

    def wait(self, timeout: float | None = None) -> xr.DataTree:
        """Waits for the end (at most `timeout` seconds) and returns the tree so far.

        Raises:
            Exception: whatever stopped the sweep; runs done before are kept.
        """
        self._done.wait(timeout)
        if self._error is not None:
            raise self._error
        return self.tree

    def inspect(self) -> xr.DataTree:
        """The tree as it is now; what is not yet drawn is NaN."""
        return self.tree

    def cancel(self, timeout: float | None = 60) -> None:
        """Stops after the current step; the same call goes on later."""
        self._stop.set()
        for _, run in self._current:
            run._job.board.stop()
        self._done.wait(timeout)

    @property
    def finished(self) -> bool:
        return self._done.is_set()

    @property
    def tree(self) -> xr.DataTree:
        """All runs as labelled arrays, see `slt.open_sweep`."""
        tree = open_sweep(self._folder)
        return tree if self.path is not None else tree.load()

    def progress(self) -> dict:
        """A snapshot: run(s), `components` that are sampled now (several where small runs walk in
        step), and under `current` the progress of the one of these that is least far."""
        pairs = list(self._current)
        found = [run.progress() for _, run in pairs]
        return {
            "run": self._finished,
            "runs": len(self.entries),
            "components": [entry.component for entry, _ in pairs],
            "current": min(found, key=lambda p: p["step"], default=None),
            "messages": list(self._messages),
        }

    def __repr__(self) -> str:
        p = self.progress()
        where = self.path if self.path is not None else "in memory"
        stage = "finished" if self.finished else "going on"
        return f"<Sweep {stage}: {p['run']} of {p['runs']} runs, {where}>"


def sweep(
    loss,
    data: Probe | Mapping[str, Probe],
    *,
    components: str | Sequence[str] = ("full",),
    checkpoints: Any = None,
    probes: Sequence[Probe] = (),
    store: str | Path | None = None,
    device: Any = "auto",
    blocking: bool = True,
    progress: bool | None = None,
    **settings: Any,
) -> Sweep:
    """Samples every component at every checkpoint (on every dataset), with one setting.

    What does not depend on the component is computed once a checkpoint: losses at w*, the baseline,
    and for components of later layers the hidden states before them.  Runs that are finished are
    not repeated; a stopped sweep goes on; a later call may add components and checkpoints.

    Args:
        loss: a loss of the kit; with `checkpoints=[labels]` a function from a label to a loss or
            a Hugging Face model, called when its turn comes.
        data: what is sampled on; `{name: probe}` for several datasets (data-refined LLCs).
        components: names, globs and unions of `slt.components(model)`.  Each name that a glob
            matches is a component of its own; a union `"a+b"` is one.
        checkpoints: labels such as `slt.revisions("tiny-lm")`, or `{label: loss or model}`.
        probes, store, device, blocking, progress, settings: as in `slt.sample`; `store` is the
            folder of the sweep.

    Returns:
        A `Sweep`; `sweep.tree` has the dims (checkpoint, component, chain, draw, example, token).

    Raises:
        InputError, ComponentError: bad input, before any work starts.
        StoreMismatch: the folder holds runs with other settings; the difference is listed.
    """
    wrong = [name for name in settings if name not in DEFAULTS]
    if wrong:
        raise InputError(
            say(
                f"the keyword {wrong[0]!r}",
                f"one that slt.sweep takes{nearest(wrong[0], DEFAULTS)}",
                "see help(slt.sweep) and help(slt.sample)",
            )
        )
    settings = {**DEFAULTS, **settings}
    datasets = dict(data) if isinstance(data, Mapping) else {"": data}
    points = _points(loss, checkpoints)
    patterns = [components] if isinstance(components, str) else list(components)
    first_label = next(iter(points))
    first = _loss_of(points[first_label], first_label)
    for probe in datasets.values():
        probes = check_inputs(first, probe, probes)
    where = plan.pick_device(device, next(iter(first.params.values())).device)
    dtype = settings["probe_dtype"]
    start = {d: Shared(first, probe, probes, where, dtype) for d, probe in datasets.items()}
    known, chosen = _components(next(iter(start.values())), patterns)
    temporary = store is None
    folder = (
        Path(tempfile.mkdtemp(prefix="slt-")) / "sweep"
        if store is None
        else Path(store).expanduser()
    )
    entries = [Entry(d, c, name) for c in points for d in datasets for name in chosen]
    for d in datasets:
        _compare(folder, d, [plan_task(start[d], name, settings) for name in chosen])
    _write_index(folder, entries)

    def work(stop: threading.Event):
        for label, point in points.items():
            made = first if label == first_label else _loss_of(point, label)
            for d, probe in datasets.items():
                check_inputs(made, probe, probes)
                shared = (
                    start[d] if label == first_label else Shared(made, probe, probes, where, dtype)
                )
                shared.know(known)
                here = [e for e in entries if (e.dataset, e.checkpoint) == (d, label)]
                yield from _in_step(shared, here, folder, settings, stop)
                shared.forget_prefix()

    found = Sweep(folder, entries, work, temporary).start()
    if not blocking:
        weakref.finalize(found, found._stop.set)
        return found
    try:
        if somebody_looks() if progress is None else progress:
            _watch(found)
        found.wait()
    except KeyboardInterrupt:
        found.cancel()
        print(f"stopped; the same call goes on ({found!r})", file=sys.stderr)
    return found


def _in_step(shared: Shared, here: Sequence[Entry], folder: Path, settings, stop):
    """`(how many were complete, [(entry, run), ...])`, runs that walk in step at a time."""
    tasks = [plan_task(shared, entry.component, settings) for entry in here]
    whole = [complete(folder / e.path, t) for e, t in zip(here, tasks, strict=True)]
    places = [i for i, known in enumerate(whole) if not known]
    if any((folder / here[i].path).exists() for i in places):
        places = list(range(len(here)))  # who has begun goes on with whom it began
    else:
        yield sum(whole), []
    for group in cut(shared, [(here[i].component, tasks[i]) for i in places], settings):
        group = [places[i] for i in group]
        chosen = [i for i in group if not whole[i]]
        if stop.is_set():
            return
        runs: dict[int, Run] = {}
        try:
            for i in chosen:
                path = folder / here[i].path
                runs[group.index(i)] = prepare(shared, here[i].component, path, **settings)
            if runs and len(group) > 1:
                known = None if all(here[i].component == "full" for i in group) else shared.parts
                spaces = [plan.resolve(here[i].component, shared.loss, known) for i in group]
                seat(runs, spaces)
        except BaseException:
            for run in runs.values():
                run.close()
            raise
        done = len(group) - len(chosen) if len(places) == len(here) else 0
        yield done, [(here[group[number]], run) for number, run in runs.items()]


def _points(loss, checkpoints) -> dict[str, Any]:
    """Label to a loss, a model, or a function that makes one."""
    if checkpoints is None:
        return {"": loss}
    if isinstance(checkpoints, Mapping):
        points = {str(k): v for k, v in checkpoints.items()}
    else:
        labels = [str(c) for c in checkpoints]
        if hasattr(loss, "evaluate") or isinstance(loss, nn.Module) or not callable(loss):
            raise InputError(
                say(
                    "checkpoints by label with one loss",
                    "a function from a label to a loss or model, or checkpoints={label: loss}",
                    "pass lambda step: slt.load('tiny-lm', revision=step)[0] as the loss",
                )
            )
        points = {label: lambda label=label: loss(label) for label in labels}
        if len(points) < len(labels):
            raise InputError(say(f"checkpoints {labels}", "distinct labels", "name each once"))
    if not points:
        raise InputError(say("no checkpoints", "at least one", "see slt.revisions"))
    return points


def _loss_of(point: Any, label: str):
    made = point() if callable(point) and not hasattr(point, "evaluate") and not isinstance(
        point, nn.Module
    ) else point  # fmt: skip
    if isinstance(made, tuple):  # what slt.load returns
        made = made[0]
    if isinstance(made, nn.Module):
        made = causal_lm(made)
    if not hasattr(made, "evaluate"):
        raise InputError(
            say(
                f"a {type(made).__name__} at checkpoint {label!r}",
                "a loss of the kit or a Hugging Face model",
                "wrap the model: slt.causal_lm(model)",
            )
        )
    return made


def _components(shared: Shared, patterns: Sequence[str]) -> tuple[Parts, list[str]]:
    """Names of all components asked for, each once; tied ones are refused."""
    if not patterns:
        raise InputError(say("no components", "at least one", "pass components=['full']"))
    known = shared.parts
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError(say(f"component {pattern!r}", "a name", "pass a string"))
        chosen |= dict.fromkeys(["full"] if pattern.strip() == "full" else known.expand(pattern))
    whole: dict[tuple, str] = {}
    for name in chosen:
        pieces = tuple(sorted(known.resolve(name).pieces, key=repr))
        if pieces in whole:
            refuse_overlap([known.resolve(whole[pieces]), known.resolve(name)], "components")
        whole[pieces] = name
    return known, list(chosen)


def complete(path: Path, task: Task) -> bool:
    """Whether the store at `path` holds the whole of `task` already."""
    try:
        group = zarr.open_group(str(path), mode="r")
        if compare(group.attrs[names.A_TASK], task) != "same":  # pyright: ignore
            return False
        steps = group[names.CHECKPOINT][CURSOR][:].max(1)  # pyright: ignore
        sampling = group[names.SAMPLING]
        control = sampling[names.CONTROL_LOSS][:]  # pyright: ignore
    except (FileNotFoundError, KeyError, StoreError):
        return False
    alive = sampling[names.STATUS][:] == names.STATUS_OK  # pyright: ignore
    reached = (steps >= task.steps) | ~alive
    # Controls are the last that a run writes; without gamma there is no law to draw them from.
    drawn = ~(control != control).all(1) | ~alive
    return bool(reached.all() and (drawn.all() or not any(task.gamma)))


def _compare(folder: Path, dataset: str, tasks: Sequence[Task]) -> None:
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


def _write_index(folder: Path, entries: Sequence[Entry]) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / names.SWEEP_INDEX).exists():
        raise StoreError(
            say(
                f"{str(folder)!r}, a folder with other things in it",
                "an empty place or a sweep of this kit",
                "pass another store=...",
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    old = read_index(folder)["runs"] if (folder / names.SWEEP_INDEX).exists() else []
    rows = {(r["dataset"], r["checkpoint"], r["component"]): r["path"] for r in old}
    rows |= {(e.dataset, e.checkpoint, e.component): e.path for e in entries}
    runs = [
        {"dataset": d, "checkpoint": c, "component": name, "path": path}
        for (d, c, name), path in rows.items()
    ]
    new = folder / f".{names.SWEEP_INDEX}.new"
    new.write_text(json.dumps({names.A_SCHEMA: names.SCHEMA, "runs": runs}, indent=1))
    new.replace(folder / names.SWEEP_INDEX)


def _watch(found: Sweep) -> None:
    from tqdm.auto import tqdm

    with tqdm(total=len(found.entries), unit="run", file=sys.stderr) as bar:
        while not found._done.wait(0.3):
            p = found.progress()
            now = p["current"]
            if now is not None:
                first, *more = p["components"]
                where = f"{first} and {len(more)} more in step" if more else first
                bar.set_postfix_str(f"{where}, step {now['step']}/{now['steps']}")
            bar.update(p["run"] - bar.n)
        bar.update(found.progress()["run"] - bar.n)
