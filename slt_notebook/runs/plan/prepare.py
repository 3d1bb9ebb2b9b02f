"""What has to be known before a run starts?  Inputs, task, memory, store: a `Run` that stands."""

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from slt_notebook.core.compilation import compiler
from slt_notebook.core.potential import Potential
from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe
from slt_notebook.runs.execute.probing import evaluate
from slt_notebook.runs.execute.progress import Board
from slt_notebook.runs.execute.shared import Inputs, Shared
from slt_notebook.runs.execute.worker import Job
from slt_notebook.runs.handle import Run
from slt_notebook.runs.plan import partition as plan
from slt_notebook.runs.plan.memory import MemoryPlan, memory_plan_of
from slt_notebook.runs.plan.task import Task, default_kernel, make_task
from slt_notebook.runs.store.run_store import RunStore


def check_inputs(loss, data, probes) -> tuple[Probe, ...]:
    """The probes as a tuple, once loss, data and probes are of the right kinds and fit together.

    Raises:
        InputError: what is wrong, and how to make it right.
    """
    if not isinstance(data, Probe):
        raise InputError(
            say(f"data of type {type(data).__name__}", "a Probe", "make it with slt.text_probe")
        )
    if not hasattr(loss, "evaluate") or not hasattr(loss, "params"):
        raise InputError(
            say(
                f"loss of type {type(loss).__name__}",
                "a loss of the kit",
                "wrap the model: slt.causal_lm(model), slt.supervised(...) or slt.loss_fn(...)",
            )
        )
    probes = (probes,) if isinstance(probes, Probe) else tuple(probes)
    for probe in (data, *probes):
        loss.check(probe)
    return probes


_SPEED = ("chain_chunk", "compile", "executor")
"""Settings that change how fast a run is, and not what it does."""


def plan_task(shared: Shared, component: str, settings: Mapping[str, Any]) -> Task:
    """What a run of `component` would do, checked; nothing is computed or written."""
    chosen = {k: v for k, v in settings.items() if k not in _SPEED}
    size = len(shared.data)
    if chosen["nbeta"] is None:
        chosen["nbeta"] = size / np.log(size) if size > 1 else 1.0
    chosen["kernel"] = chosen["kernel"] or default_kernel()
    return make_task(
        **chosen, component=component, model=shared.fingerprint, data=shared.data,
        probes=shared.probes,
    )  # fmt: skip


def prepare(shared: Shared, component: str, store, alone: bool = True, **settings: Any) -> Run:
    """A run that has not started yet; its store is open.

    Args:
        shared: weights, data and probes, with what other runs have computed of them.
        store: a folder, or None for a run in memory.
        alone: it does not walk in step with others, which would have to share its loss.
        settings: as in `sample`.
    """
    task, space, states, blocks = shape_of(shared, component, settings)
    evaluations = task.steps * task.batch_size * len(task.chains)
    inputs = shared.at(component, evaluations, alone)
    space = inputs.space or space
    memory = _memory(shared, inputs, task, space, states, blocks, settings["chain_chunk"])
    memory.check()
    as_row = lambda values: torch.tensor(values, dtype=torch.float32, device=shared.device)
    potential = Potential(
        inputs.loss, space, inputs.loss.params, space.flatten(inputs.loss.params),
        as_row(task.nbeta), as_row(task.gamma), memory.fit,
        compiler(settings.get("compile"), shared.device),
    )  # fmt: skip
    folder = store if store is not None else Path(tempfile.mkdtemp(prefix="slt-")) / "run.zarr"
    run_store = RunStore(folder)
    run_store.open(task, shared.probes, {"__dim__": space.dim, **inputs.init})
    try:
        everyone = range(len(task.chains))
        if potential.compiler is not None and run_store.resume_point(everyone)[0] < task.steps:
            _compile(potential, inputs, task, blocks)
    except BaseException:
        run_store.close()
        raise
    board = Board(task.chains, task.steps, task.draws, task.batch_size * shared.data.tokens)
    job = Job(
        task, inputs.loss, inputs.probe_loss, potential, inputs.data, inputs.probes,
        inputs.baseline, run_store, board, ThreadPoolExecutor(1, "slt-writer"),
    )  # fmt: skip
    return Run(job, blocks, settings["executor"], memory, temporary=store is None)


def _compile(potential: Potential, inputs: Inputs, task: Task, blocks) -> None:
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


def shape_of(shared: Shared, component: str, settings: Mapping[str, Any]):
    """Task, space, rows that the kernel keeps besides the position, blocks of chains."""
    task = plan_task(shared, component, settings)
    space = plan.resolve(component, shared.loss, None if component == "full" else shared.parts)
    work = plan.work(space.dim, task, shared.data)
    blocks = plan.blocks(len(task.chains), settings["executor"], shared.device, work)
    state = tree_leaves(task.kernel.init(torch.empty(1, space.dim, device="meta")))
    states = sum(leaf.numel() for leaf in state) // space.dim - 1
    return task, space, states, blocks


def _memory(shared: Shared, inputs: Inputs, task, space, states, blocks, chain_chunk) -> MemoryPlan:
    return memory_plan_of(
        task, inputs.loss, space, states, shared.data, shared.probes,
        {key: value[:1] for key, value in inputs.data.items()}, shared.device, len(blocks),
        chain_chunk,
    )  # fmt: skip
