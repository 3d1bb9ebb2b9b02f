"""The work of one thread: samples its chains, measures the probes, and hands rows to a writer.

Results go to the store from a background thread with bounded memory: see `buffer.py`.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.potential import Potential
from slt_notebook.core.sampler_loop import walk
from slt_notebook.core.steppers.blocked import of_chains
from slt_notebook.core.types import Batch, Kernel, column
from slt_notebook.runs.execute.buffer import Buffer
from slt_notebook.runs.execute.exact_draws import exact_deviation, exact_steps
from slt_notebook.runs.execute.job import Job
from slt_notebook.runs.execute.probing import measure
from slt_notebook.runs.execute.progress import ProgressReporter
from slt_notebook.runs.plan.settings import CONTROLS


def run_chains(job: Job, rows: tuple[int, ...]) -> None:
    """Samples the chains in `rows` (places in `task.chains`) from their checkpoint to the end."""
    task, progress = job.task, job.progress
    chains = tuple(task.chains[row] for row in rows)
    device = job.potential.center.device
    pick = torch.tensor(rows, device=device)
    potential = _of_chains(job.potential, pick)
    kernel = of_chains(task.kernel, rows)
    start = kernel.init(potential.center.expand(len(rows), -1).clone())
    first, saved = job.store.resume_point(rows)
    leaves, spec = tree_flatten(start)
    if saved is not None:
        leaves = [
            torch.from_numpy(np.ascontiguousarray(v)).to(leaf)
            for v, leaf in zip(saved, leaves, strict=True)
        ]
    state = tree_unflatten(leaves, spec)
    codes, since = job.store.status(rows)
    codes = np.where(since >= first, names.STATUS_OK, codes)
    since = np.where(codes == names.STATUS_OK, -1, since)
    status = torch.from_numpy(codes.astype(np.int8)).to(device)
    progress.start(chains, first)
    buffer = Buffer(job, rows, first, since, sum(leaf.nbytes for leaf in leaves))
    if first < task.steps:
        state, status = _sample(job, chains, potential, kernel, state, status, first, buffer)
    job.evaluator.leave()
    if not progress.stopping:  # while the last checkpoint is written
        _controls(job, rows, chains, potential, kernel, state, status)
    buffer.wait_for_write()


def _sample(
    job: Job,
    chains: tuple[int, ...],
    potential: Potential,
    kernel: Kernel,
    state: Any,
    status: Tensor,
    first: int,
    buffer: Buffer,
) -> tuple[Any, Tensor]:
    """Makes all steps from `first` on, and returns the state and status of the chains after them.

    Args:
        chains: indices of the chains.
        potential: with the hyperparameters of these chains.
        state, status: before step `first`.
    """
    task, progress = job.task, job.progress
    device = potential.center.device
    size = task.data["examples"]
    cache: dict[int, tuple] = {}

    def batch_of(chain: int, step: int) -> tuple[Batch, Tensor, Tensor]:
        index = streams.batch(task.seed, chain, step, task.batch_size, size)
        places = to_device(index, device)
        return {k: v[places] for k, v in job.data.items()}, *job.baseline.at(index, places)

    def batches(step: int) -> tuple[list[Batch], Tensor]:
        if task.batch_size == size:  # every chain reads all of the data at every step
            cache.setdefault(0, batch_of(0, 0))
            every = [cache[0]] * len(chains)
        elif task.batches == "shared":
            every = [batch_of(0, step)] * len(chains)
        else:
            every = [batch_of(chain, step) for chain in chains]
        here, losses, counts = zip(*every, strict=True)
        buffer.baseline = torch.stack(losses)
        return list(here), torch.stack(counts)

    def accept_at(step: int) -> bool:
        draw, within = divmod(step - task.burnin, task.thin)
        return draw >= 0 and within == task.thin - 1 and task.tests_at(draw)

    ask = may_ask(device)
    deviation = exact_deviation(kernel, potential, state)
    if deviation is not None:
        steps = exact_steps(
            potential, state, deviation, seed=task.seed, chains=chains, batches=batches,
            status=status, first=first, last=task.steps,
        )  # fmt: skip
    else:
        steps = walk(
            kernel, potential, state, seed=task.seed, chains=chains, batches=batches,
            status=status, first=first, last=task.steps, burnin=task.burnin, accept_at=accept_at,
            norm_at=buffer.draws, ask=ask,
        )  # fmt: skip
    if not progress.wait_while_paused():
        return state, status
    reporter = ProgressReporter(progress, chains, task, ask)
    for step in steps:
        state, status = step.state, step.status
        buffer.add_step(step, potential, ask)
        reporter.report(step)
        go_on = progress.wait_while_paused()
        last = not go_on or step.index + 1 == task.steps
        if last or buffer.due():
            buffer.flush(step.index + 1, state, status, last)
        if last:
            break
    reporter.finish()
    return state, status


def may_ask(device: torch.device) -> bool:
    """Whether reading values of a step costs nothing: on a GPU the host would wait for it."""
    return device.type == "cpu"


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on the device; from pinned memory, so that the host need not wait."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _controls(
    job: Job,
    rows: tuple[int, ...],
    chains: tuple[int, ...],
    potential: Potential,
    kernel: Kernel,
    state: Any,
    status: Tensor,
) -> None:
    """Writes batch losses at positions from the exact law of the chain without a loss (nbeta = 0).

    Every kernel knows its stationary variance on gamma/2 |w - w*|^2 with G as it is at the end.
    Chain by chain: a position of a large model takes memory.
    """
    task = job.task
    potential = replace(potential, compiler=None)  # a few evaluations of another shape
    losses = np.full((len(rows), CONTROLS), np.nan, np.float32)
    at_center = np.full_like(losses, np.nan)
    for place, chain in enumerate(chains):
        if int(status[place]) != names.STATUS_OK:
            continue
        one = slice(place, place + 1)
        mine = tree_map(lambda leaf, one=one: leaf[one], state)
        scale = of_chains(kernel, [place]).metric.current(mine.metric, mine.position)
        gamma = column(potential.gamma[one], state.position)
        variance = of_chains(kernel, [place]).free_variance(gamma, scale)
        deviation = torch.where((gamma > 0) & (variance > 0), variance, torch.nan).sqrt()
        if not bool(deviation.isfinite().all()):
            continue
        for number in range(task.controls):
            if job.progress.stopping:
                return
            position = streams.noise(
                task.seed, (chain,), number, potential.space.dim, potential.center.device,
                stream=streams.CONTROL,
            ).mul_(deviation).add_(potential.center)  # fmt: skip
            index = streams.batch(
                task.seed, chain, number, task.batch_size, task.data["examples"], streams.CONTROL
            )
            places = to_device(index, potential.center.device)
            batch = {key: value[places] for key, value in job.data.items()}
            found = measure(
                job.loss, potential, position, torch.ones(1, dtype=torch.bool), batch, True
            )
            losses[place, number] = float(found.nanmean())
            at_center[place, number] = float(job.baseline.at(index, places)[0])
    job.writer.submit(job.store.write_chain, names.CONTROL_INIT_LOSS, rows, at_center).result()
    job.writer.submit(job.store.write_chain, names.CONTROL_LOSS, rows, losses).result()


def _of_chains(potential: Potential, pick: Tensor) -> Potential:
    return replace(potential, nbeta=potential.nbeta[pick], gamma=potential.gamma[pick])
