"""`slt.sweep`: components, checkpoints and datasets in one call, as runs in one folder.

    folder/
      sweep.json                     which run is which; all have the same settings
      step100__l0.h1.zarr  ...       ordinary run stores, each of which can be resumed

Noise and batches are functions of (seed, chain, step), so runs of one sweep read the same batches.
The runs of one checkpoint share what follows from its weights: see `execute/shared.py`.
"""

import inspect
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from slt_notebook.core.modes import in_plain_modes
from slt_notebook.models.probes import Probe
from slt_notebook.parsing import store_path
from slt_notebook.runs.execute.grouping import lockstep_groups, make_lockstep
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.handle import Run
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.settings import Settings, Speed, from_keywords
from slt_notebook.runs.prepare import check_inputs, device_of, plan_task, prepare
from slt_notebook.runs.show import is_interactive, watch_sweep
from slt_notebook.runs.store.sweep_folder import Entry, check_settings, complete, write_index
from slt_notebook.runs.sweep_handle import Groups, Sweep
from slt_notebook.runs.sweep_inputs import component_names, loss_of, losses_by_label


@in_plain_modes
def sweep(
    loss,
    data: Probe | Mapping[str, Probe],
    *,
    components: str | Sequence[str] | None = None,
    checkpoints: Any = None,
    probes: Sequence[Probe] = (),
    store: str | Path | None = None,
    device: str | torch.device = Speed.device,
    blocking: bool = True,
    progress: bool | None = None,
    **settings: Any,
) -> Sweep:
    """Sample every component at every checkpoint (on every dataset), with the same settings.

    What does not depend on the component is computed once per checkpoint: losses at w*, the
    baseline, and for components of later layers the hidden states before them.  Runs that are
    finished are not repeated; a stopped sweep continues; a later call may add components and
    checkpoints.

    Args:
        loss: a loss of the kit; with `checkpoints=[labels]` a function from a label to a loss or
            a Hugging Face model, called when its turn comes.
        data: what is sampled on; `{name: probe}` for several datasets (data-refined LLCs).
        components: names, globs and unions of `slt.components(model)`.  Each name that a glob
            matches is a component of its own; a union `"a+b"` is one.  None as in `slt.sample`.
        checkpoints: labels such as `slt.revisions("tiny-lm")`, or `{label: loss or model}`.
        probes: as in `slt.sample`.
        store: the folder of the sweep; None keeps it in memory.
        device: as in `slt.sample`.
        blocking: as in `slt.sample`.
        progress: as in `slt.sample`.
        settings: the other settings of `slt.sample`, with the same defaults.

    Returns:
        A `Sweep`; `sweep.tree` has the dims (checkpoint, component, chain, draw, example, token).

    Raises:
        InputError, ComponentError: bad input, before any work starts.
        StoreMismatch: the folder holds runs with other settings; the difference is listed.
    """
    others = list(inspect.signature(sweep).parameters)[:-1]
    chosen, speed = from_keywords({**settings, "device": device}, "slt.sweep", others)
    return run_sweep(
        loss, data, probes, components, checkpoints, chosen, speed, store, blocking, progress
    )


def run_sweep(
    loss: Any,
    data: Probe | Mapping[str, Probe],
    probes: Sequence[Probe],
    components: str | Sequence[str] | None,
    checkpoints: Any,
    settings: Settings,
    speed: Speed,
    store: str | Path | None,
    blocking: bool,
    progress: bool | None,
) -> Sweep:
    """See `sweep`."""
    datasets = dict(data) if isinstance(data, Mapping) else {"": data}
    points = losses_by_label(loss, checkpoints)
    first_label = next(iter(points))
    first = loss_of(points[first_label], first_label)
    for d, probe in datasets.items():
        datasets[d], probes = check_inputs(first, probe, probes)
    share = partial(
        Shared, probes=probes, device=device_of(first, speed), probe_dtype=settings.probe_dtype
    )
    start = {d: share(first, probe) for d, probe in datasets.items()}
    if components is None or isinstance(components, str):
        components = [partition.component_of(first, components)]
    patterns = list(components)
    known = next(iter(start.values())).parts
    chosen = component_names(known, patterns)
    folder = Path(tempfile.mkdtemp(prefix="slt-")) / "sweep" if store is None else store_path(store)
    entries = [Entry(d, c, name) for c in points for d in datasets for name in chosen]
    for d in datasets:
        check_settings(folder, d, [plan_task(start[d], name, settings) for name in chosen])
    write_index(folder, entries)

    def groups(stop: threading.Event) -> Groups:
        for label, point in points.items():
            made = first if label == first_label else loss_of(point, label)
            for d, probe in datasets.items():
                check_inputs(made, probe, probes)
                shared = start[d] if label == first_label else share(made, probe)
                shared.know(known)
                here = [e for e in entries if (e.dataset, e.checkpoint) == (d, label)]
                yield from _groups_of(shared, here, folder, settings, speed, stop)
                shared.forget_prefix()

    found = Sweep(folder, entries, groups, temporary=store is None).start()
    if not blocking:
        found.stop_at_exit()
        return found
    try:
        if is_interactive() if progress is None else progress:
            watch_sweep(found)
        found.wait()
    except KeyboardInterrupt:
        found.cancel()
        print(f"stopped; the same call continues it ({found!r})", file=sys.stderr)
    return found


def _groups_of(
    shared: Shared,
    here: Sequence[Entry],
    folder: Path,
    settings: Settings,
    speed: Speed,
    stop: threading.Event,
) -> Groups:
    """The groups of runs of one checkpoint and dataset, each prepared when its turn comes."""
    tasks = [plan_task(shared, entry.component, settings) for entry in here]
    known = [complete(folder / e.path, t) for e, t in zip(here, tasks, strict=True)]
    places = [i for i, done in enumerate(known) if not done]
    if any((folder / here[i].path).exists() for i in places):
        places = list(range(len(here)))  # a run that has begun stays in the group it began with
    else:
        yield sum(known), []
    pairs = [(here[i].component, tasks[i]) for i in places]
    for group in lockstep_groups(shared, pairs, speed):
        if stop.is_set():
            return
        members = [places[i] for i in group]
        several = len(group) > 1 and not all(known[i] for i in members)
        lockstep = make_lockstep(shared, [pairs[i] for i in group]) if several else None
        runs: list[tuple[Entry, Run]] = []
        try:
            for number, i in enumerate(members):
                if known[i]:
                    continue
                join = None if lockstep is None else partial(lockstep.join, number)
                path = folder / here[i].path
                run = prepare(shared, here[i].component, path, settings, speed, join)
                runs.append((here[i], run))
        except BaseException:
            for _, run in runs:
                run.close()
            raise
        done = len(members) - len(runs) if len(places) == len(here) else 0
        yield done, runs
