"""How are components, checkpoints and datasets sampled in one call?  As runs in one folder.

    folder/
      sweep.json                     which run is which; their settings are one
      step100__l0.h1.zarr  ...       ordinary run stores, each resumable as it is

Noise and batches are functions of (seed, chain, step), so runs of one sweep read the same batches.
The runs of one checkpoint share what follows from its weights: see `shared`.
"""

import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from slt_notebook.errors import InputError, nearest, say
from slt_notebook.models.causal_lm import causal_lm
from slt_notebook.models.components.patterns import Parts, refuse_overlap
from slt_notebook.models.probes import Probe
from slt_notebook.runs.execute.lockstep import cut, seat
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.handle import Run
from slt_notebook.runs.plan import partition as plan
from slt_notebook.runs.plan.prepare import check_inputs, plan_task, prepare
from slt_notebook.runs.sample import somebody_looks
from slt_notebook.runs.store.sweep_folder import Entry, check_settings, complete, write_index
from slt_notebook.runs.sweep_handle import Sweep, watch

DEFAULTS = {
    "kernel": None, "nbeta": None, "gamma": 100.0, "chains": 4, "draws": 200, "burnin": 0,
    "thin": 1, "batch_size": 32, "batches": "per_chain", "seed": 0,
    "probe_dtype": "float32", "chain_chunk": None, "compile": False, "executor": None,
}  # fmt: skip


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
        check_settings(folder, d, [plan_task(start[d], name, settings) for name in chosen])
    write_index(folder, entries)

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
            watch(found)
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
                runs[group.index(i)] = prepare(
                    shared, here[i].component, path, alone=len(group) == 1, **settings
                )
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
