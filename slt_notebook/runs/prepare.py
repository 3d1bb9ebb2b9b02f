"""From inputs and settings to a `Run` with an open store: inputs, task, memory, store, job."""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from slt_notebook.core.compilation import compiler
from slt_notebook.core.potential import Potential
from slt_notebook.core.space import Space, dtype_of
from slt_notebook.errors import ComponentError, InputError, SLTWarning, say
from slt_notebook.models.data import as_probe
from slt_notebook.models.probes import Probe
from slt_notebook.parsing import store_path
from slt_notebook.runs.execute.evaluation import Evaluator, OwnEvaluator
from slt_notebook.runs.execute.job import Job
from slt_notebook.runs.execute.probing import evaluate
from slt_notebook.runs.execute.progress import Progress
from slt_notebook.runs.execute.shared import Inputs, Shared
from slt_notebook.runs.handle import Run
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.memory import memory_plan_of
from slt_notebook.runs.plan.settings import Settings, Speed, Task
from slt_notebook.runs.plan.task import make_task
from slt_notebook.runs.store.run_store import RunStore
from slt_notebook.runs.store.space import check_space

Join = Callable[[OwnEvaluator, Progress], Evaluator]
"""The evaluator of a run, from what the run would do by itself: see `Lockstep.join`."""


def check_inputs(loss: Any, data: Any, probes: Any) -> tuple[Probe, tuple[Probe, ...]]:
    """Return data and probes as probes; checks that they and the loss match.

    Raises:
        InputError: what is wrong, and how to make it right.
    """
    if not hasattr(loss, "evaluate") or not hasattr(loss, "params"):
        raise InputError(
            say(
                f"loss of type {type(loss).__name__}",
                "a loss of the kit",
                "wrap the model: slt.causal_lm(model), slt.supervised(...) or slt.loss_fn(...)",
            )
        )
    kind = getattr(loss, "kind", "array")
    found = as_probe(data, "data", kind)
    if isinstance(probes, Probe) or not isinstance(probes, list | tuple):
        probes = (probes,)
    others = tuple(
        found if probe is data else as_probe(probe, f"probe{number}", kind)
        for number, probe in enumerate(probes)
    )
    for probe in (found, *others):
        loss.check(probe)
    return found, others


def device_of(loss: Any, speed: Speed) -> torch.device:
    """Where a run of `loss` is computed."""
    return partition.pick_device(speed.device, next(iter(loss.params.values())).device)


def plan_task(shared: Shared, component: str, settings: Settings) -> Task:
    """Return what a run of `component` would sample, checked; nothing is computed or written."""
    return make_task(settings, component, shared.fingerprint, shared.data, shared.probes)


@dataclass(frozen=True)
class Layout:
    """A run before its store is opened.

    Attributes:
        task: what is sampled.
        space: the coordinates that move.
        states: rows that the kernel keeps besides the position (moments, momenta).
        blocks: places of the chains of each worker in `task.chains`.
    """

    task: Task
    space: Space
    states: int
    blocks: list[tuple[int, ...]]


def layout(shared: Shared, component: str, settings: Settings, speed: Speed) -> Layout:
    """How a run of `component` is divided over workers."""
    task = plan_task(shared, component, settings)
    plain = component in ("full", "trainable")
    space = partition.resolve(component, shared.loss, None if plain else shared.parts)
    _check_reached(shared, component, space)
    work = partition.work(space.dim, task, shared.data)
    blocks = partition.blocks(len(task.chains), speed.executor, shared.device, work)
    row = torch.empty(1, space.dim, device="meta", dtype=dtype_of(shared.loss.params))
    state = tree_leaves(task.kernel.init(row))
    states = sum(leaf.numel() for leaf in state) // space.dim - 1
    return Layout(task, space, states, blocks)


def _check_reached(shared: Shared, component: str, space: Space) -> None:
    """Refuse a component on which the loss does not depend."""
    reached = shared.reached
    if reached is None or any(piece.name in reached for piece in space.pieces):
        return
    names = ", ".join(dict.fromkeys(p.name for p in space.pieces[:3]))
    raise ComponentError(
        say(
            f"component {component!r}, on which the loss does not depend ({names}, ...)",
            "weights that the forward pass reads, and through which a gradient goes back",
            "choose another component; or look for .detach() and torch.no_grad behind it",
        )
    )


def notes_on(shared: Shared, component: str) -> list[str]:
    """Return what a reader of a run of `component` should know of its weights."""
    frozen, total = partition.frozen(shared.loss)
    if component == "full" and frozen:
        return [
            f"{frozen:,} of {total:,} coordinates are frozen (requires_grad=False) and move too; "
            "components='trainable' leaves them at w*"
        ]
    return []


def start_run(
    loss: Any,
    data: Any,
    probes: Sequence[Probe],
    component: str | None,
    settings: Settings,
    speed: Speed,
    store: str | Path | None = None,
) -> Run:
    """Return a run of one component that has started; None is what takes gradients."""
    data, probes = check_inputs(loss, data, probes)
    store = None if store is None else store_path(store)
    shared = Shared(loss, data, probes, device_of(loss, speed), settings.probe_dtype)
    component = partition.component_of(shared.loss, component)
    return prepare(shared, component, store, settings, speed).start()


def prepare(
    shared: Shared,
    component: str,
    store: str | Path | None,
    settings: Settings,
    speed: Speed,
    join: Join | None = None,
) -> Run:
    """Return a run that has not started yet; its store is open.

    Args:
        shared: weights, data and probes, with what other runs have computed of them.
        component: what moves.
        store: a folder, or None for a run in memory.
        settings: what is sampled.
        speed: how.
        join: makes the evaluator of a run that is evaluated in lockstep with others, which share
            one loss; None for a run of its own, whose loss may be that of one head.
    """
    plan = layout(shared, component, settings, speed)
    task = plan.task
    inputs = shared.at(component, task.evaluations, join is None)
    space = inputs.space or plan.space
    memory = memory_plan_of(
        task, inputs.loss, space, plan.states, shared.data, shared.probes,
        {key: value[:1] for key, value in inputs.data.items()}, shared.device, len(plan.blocks),
        speed.chain_chunk,
    )  # fmt: skip
    memory.check()
    notes = notes_on(shared, component)
    if memory.fit.chains > 1 and join is None:
        refusal = shared.refusal(inputs, space)
        if refusal is not None:
            rule = f"one chain after the other: vmap cannot batch this model ({refusal})"
            memory = memory.one_by_one(rule)
            notes.append(f"gradients are taken {rule}")
    for note in notes:
        warnings.warn(note, SLTWarning, stacklevel=2)
    where = store if store is not None else Path(tempfile.gettempdir()) / "run.zarr"
    check_space(Path(where), memory.disk)
    as_row = lambda values: torch.tensor(values, dtype=torch.float32, device=shared.device)
    potential = Potential(
        inputs.loss, space, inputs.loss.params, space.flatten(inputs.loss.params),
        as_row(task.nbeta), as_row(task.gamma), memory.fit,
        compiler(speed.compile, shared.device),
    )  # fmt: skip
    folder = store if store is not None else Path(tempfile.mkdtemp(prefix="slt-")) / "run.zarr"
    run_store = RunStore(folder, sync=store is not None)
    run_store.open(task, shared.probes, inputs.init, space.dim, notes, memory.disk)
    try:
        everyone = range(len(task.chains))
        if potential.compiler is not None and run_store.resume_point(everyone)[0] < task.steps:
            _compile(potential, inputs, task, plan.blocks)
    except BaseException:
        run_store.close()
        raise
    tokens = task.batch_size * shared.data.tokens
    progress = Progress(task.chains, task.steps, task.draws, tokens)
    own = OwnEvaluator(potential, inputs.probe_loss, inputs.probes)
    counts = {k: torch.from_numpy(~np.isnan(v)).to(shared.device) for k, v in inputs.init.items()}
    job = Job(
        task, inputs.loss, inputs.data, inputs.baseline, counts,
        own if join is None else join(own, progress), run_store, progress,
        ThreadPoolExecutor(1, "slt-writer"),
    )  # fmt: skip
    return Run(job, plan.blocks, speed.executor, memory, temporary=store is None)


def _compile(
    potential: Potential, inputs: Inputs, task: Task, blocks: Sequence[tuple[int, ...]]
) -> None:
    """Compiles what the run repeats, before it starts."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // len(blocks)))  # as in the workers
    try:
        batch = {key: value[: task.batch_size] for key, value in inputs.data.items()}
        for size in {len(block) for block in blocks}:
            potential.loss_and_grad(potential.center.expand(size, -1).clone(), [batch] * size)
        for probe in inputs.probes.values():
            evaluate(
                inputs.probe_loss, inputs.loss.params, probe, potential.fit, potential.compiler
            )
    finally:
        torch.set_num_threads(before)
