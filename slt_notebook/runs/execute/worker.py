"""The work of one thread: samples its chains, measures the probes, and hands rows to a writer.

Results go to the store from a background thread with bounded memory: see `buffer.py`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.potential import Potential
from slt_notebook.core.sampler_loop import sampler_steps
from slt_notebook.core.types import Kernel, column, kernel_of_chains
from slt_notebook.runs.execute.batches import Batches, to_device
from slt_notebook.runs.execute.buffer import Buffer
from slt_notebook.runs.execute.exact_draws import exact_deviation, exact_steps
from slt_notebook.runs.execute.job import Job
from slt_notebook.runs.execute.probing import measure
from slt_notebook.runs.execute.progress import ProgressReporter
from slt_notebook.runs.plan.settings import CONTROLS
from slt_notebook.runs.store.space import writing


@dataclass
class _Chains:
    """The chains of one worker.

    Attributes:
        rows: their places in `task.chains`.
        indices: their indices.
        potential: with their hyperparameters.
        kernel: with theirs.
        state: of the kernel, `[chain, ...]`.
        status: int8 `[chain]`, codes of `names.STATUS_TEXT`.
    """

    rows: tuple[int, ...]
    indices: tuple[int, ...]
    potential: Potential
    kernel: Kernel
    state: Any
    status: Tensor


def run_chains(job: Job, rows: tuple[int, ...]) -> None:
    """Sample the chains in `rows` (places in `task.chains`) from their checkpoint to the end."""
    done, buffers = [], []
    for part in job.store.together(rows):
        chains, first, buffer = _begin(job, part)
        buffers.append(buffer)
        done.append(chains)
        if first < job.task.steps:
            _sample(job, chains, first, buffer)
    job.evaluator.leave()
    for chains in done:
        if not job.progress.stopping:  # while the last checkpoint is written
            _controls(job, chains)
    for buffer in buffers:
        buffer.wait_for_write()


def _begin(job: Job, rows: tuple[int, ...]) -> tuple[_Chains, int, Buffer]:
    """Return the chains in `rows` at their checkpoint, the step that comes next, and a buffer."""
    task, potential = job.task, job.potential
    device = potential.center.device
    pick = torch.tensor(rows, device=device)
    potential = replace(potential, nbeta=potential.nbeta[pick], gamma=potential.gamma[pick])
    kernel = kernel_of_chains(task.kernel, rows)
    start = kernel.init(potential.center.expand(len(rows), -1).clone())
    first, saved = job.store.resume_point(rows)
    job.writer.submit(job.store.forget_later, rows, first).result()
    leaves, spec = tree_flatten(start)
    if saved is not None:
        leaves = [
            torch.from_numpy(np.ascontiguousarray(v)).to(leaf)
            for v, leaf in zip(saved, leaves, strict=True)
        ]
    codes, since = job.store.status(rows)
    codes = np.where(since >= first, names.STATUS_OK, codes)
    since = np.where(codes == names.STATUS_OK, -1, since)
    status = torch.from_numpy(codes.astype(np.int8)).to(device)
    indices = tuple(task.chains[row] for row in rows)
    chains = _Chains(rows, indices, potential, kernel, tree_unflatten(leaves, spec), status)
    job.progress.start(indices, first)
    buffer = Buffer(job, rows, first, since, sum(leaf.nbytes for leaf in leaves))
    return chains, first, buffer


def _sample(job: Job, chains: _Chains, first: int, buffer: Buffer) -> None:
    """Make all steps from `first` on; `chains` then hold the last state and status."""
    task, progress, potential = job.task, job.progress, chains.potential
    batches = Batches(job, chains.indices)

    def accept_at(step: int) -> bool:
        draw, within = divmod(step - task.burnin, task.thin)
        return draw >= 0 and within == task.thin - 1 and task.tests_at(draw)

    ask = may_ask(potential.center.device)
    deviation = exact_deviation(chains.kernel, potential, chains.state)
    if deviation is not None:
        steps = exact_steps(
            potential, chains.state, deviation, seed=task.seed, chains=chains.indices,
            batches=batches.at, status=chains.status, first=first, last=task.steps,
        )  # fmt: skip
    else:
        steps = sampler_steps(
            chains.kernel, potential, chains.state, seed=task.seed, chains=chains.indices,
            batches=batches.at, status=chains.status, first=first, last=task.steps,
            burnin=task.burnin, accept_at=accept_at, norm_at=buffer.is_draw, ask=ask,
        )  # fmt: skip
    if not progress.wait_while_paused():
        return
    reporter = ProgressReporter(progress, chains.indices, task, ask)
    for step in steps:
        chains.state, chains.status = step.state, step.status
        buffer.add_step(step, potential, batches.baseline, ask)
        reporter.report(step)
        go_on = progress.wait_while_paused()
        last = not go_on or step.index + 1 == task.steps
        if last or buffer.due():
            buffer.flush(step.index + 1, chains.state, chains.status, last)
        if last:
            break
    reporter.finish()


def may_ask(device: torch.device) -> bool:
    """Whether reading values of a step costs nothing: on a GPU the host would wait for it."""
    return device.type == "cpu"


def _controls(job: Job, chains: _Chains) -> None:
    """Write batch losses at positions from the exact law of the chain without a loss (nbeta = 0).

    A control at which a loss is not finite is written as infinite.

    Every kernel knows its stationary variance on gamma/2 |w - w*|^2 with G as it is at the end.
    Chain by chain: a position of a large model takes memory.
    """
    task = job.task
    potential = replace(chains.potential, compiler=None)  # a few evaluations of another shape
    device = potential.center.device
    losses = np.full((len(chains.rows), CONTROLS), np.nan, np.float32)
    at_center = np.full_like(losses, np.nan)
    for place, chain in enumerate(chains.indices):
        if int(chains.status[place]) != names.STATUS_OK:
            continue
        one = slice(place, place + 1)
        state = tree_map(lambda leaf, one=one: leaf[one], chains.state)
        scale = kernel_of_chains(chains.kernel, [place]).metric.current(
            state.metric, state.position
        )
        gamma = column(potential.gamma[one], state.position)
        variance = kernel_of_chains(chains.kernel, [place]).free_variance(gamma, scale)
        deviation = torch.where((gamma > 0) & (variance > 0), variance, torch.nan).sqrt()
        if not bool(deviation.isfinite().all()):
            continue
        for number in range(task.controls):
            if job.progress.stopping:
                return
            position = streams.noise(
                task.seed, (chain,), number, potential.space.dim, device, stream=streams.CONTROL
            ).mul_(deviation).add_(potential.center)  # fmt: skip
            index = streams.batch(
                task.seed, chain, number, task.batch_size, task.data["examples"], streams.CONTROL
            )
            places = to_device(index, device)
            batch = {key: value[places] for key, value in job.data.items()}
            found = measure(
                job.loss, potential, position, torch.ones(1, dtype=torch.bool), batch, True
            )
            base, counted = job.baseline.at(index, places)
            whole = int(found.isfinite().sum()) == int(counted)
            # Infinite, not NaN, which is a control that was not drawn.
            losses[place, number] = float(found.nanmean()) if whole else np.inf
            at_center[place, number] = float(base)
    rows = chains.rows
    with writing(job.store.path, at_center.nbytes + losses.nbytes):
        job.writer.submit(job.store.write_controls, rows, at_center, losses).result()
