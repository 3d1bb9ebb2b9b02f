"""What does one worker do?  It walks its chains, measures the probes, and hands rows to a writer.

Results go to the store from a background thread with bounded memory: see `buffer`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from slt_notebook.core.types import Batch, column
from slt_notebook.runs.execute.baseline import Baseline
from slt_notebook.runs.execute.buffer import Buffer, Glance
from slt_notebook.runs.execute.free_chain import deviation, free_steps
from slt_notebook.runs.execute.probing import measure
from slt_notebook.runs.execute.progress import Board
from slt_notebook.runs.plan.task import CONTROLS, Task
from slt_notebook.runs.store.run_store import RunStore


@dataclass
class Job:
    """Everything that the workers of one run share."""

    task: Task
    loss: Any
    probe_loss: Any  # the same, or in half precision
    potential: Potential  # hyperparameters of all chains of the task
    data: Batch
    probes: dict[str, Batch]
    baseline: Baseline
    store: RunStore
    board: Board
    writer: ThreadPoolExecutor
    seat: Any = None  # where the run walks in step with others: a `group.Seat`


def run_chains(job: Job, rows: tuple[int, ...]) -> None:
    """Walks the chains in `rows` (places in `task.chains`) from where they stand to the end."""
    task, board = job.task, job.board
    chains = tuple(task.chains[row] for row in rows)
    device = job.potential.center.device
    pick = torch.tensor(rows, device=device)
    potential = _part(job.potential, pick)
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
    board.start(chains, first)
    buffer = Buffer(job, rows, first, since, sum(leaf.nbytes for leaf in leaves))
    if first < task.steps:
        state, status = _walk(job, chains, potential, kernel, state, status, first, buffer)
    if job.seat is not None:
        job.seat.leave()
    if not board.stopping:  # while the last checkpoint is written
        _controls(job, rows, chains, potential, kernel, state, status)
    buffer.settle()


def _walk(job, chains, potential, kernel, state, status, first, buffer):
    task, board = job.task, job.board
    device = potential.center.device
    size = task.data["examples"]
    cache: dict[int, tuple] = {}

    def batch_of(chain: int, step: int) -> tuple[Batch, Tensor, Tensor]:
        index = streams.batch(task.seed, chain, step, task.batch_size, size)
        places = sent(index, device)
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

    ask = asks(device)
    law = deviation(kernel, potential, state)
    if law is not None:
        steps = free_steps(
            potential, state, law, seed=task.seed, chains=chains, batches=batches, status=status,
            first=first, last=task.steps,
        )  # fmt: skip
    else:
        steps = walk(
            kernel, potential, state, seed=task.seed, chains=chains, batches=batches,
            status=status, first=first, last=task.steps, burnin=task.burnin, accept_at=accept_at,
            norm_at=buffer.draws, ask=ask,
        )  # fmt: skip
    if not board.wait_here():
        return state, status
    glance = Glance(board, chains, task, ask)
    for step in steps:
        state, status = step.state, step.status
        buffer.add_step(step, potential, ask)
        glance.at(step)
        go_on = board.wait_here()
        last = not go_on or step.index + 1 == task.steps
        if last or buffer.due():
            buffer.flush(step.index + 1, state, status, last)
        if last:
            break
    glance.finish()
    return state, status


def asks(device: torch.device) -> bool:
    """Whether looking at values of a step is free: on a GPU the host would wait for the device."""
    return device.type == "cpu"


def sent(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on the device; from pinned memory, so that the host need not wait."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _controls(job, rows, chains, potential, kernel, state, status) -> None:
    """Batch losses at positions from the exact law of the chain without a loss (nbeta = 0).

    Every kernel knows its stationary variance on gamma/2 |w - w*|^2 with G as it is at the end.
    Chain by chain: a position of a large model takes memory.
    """
    task, board = job.task, job.board
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
            if board.stopping:
                return
            position = streams.noise(
                task.seed, (chain,), number, potential.space.dim, potential.center.device,
                stream=streams.CONTROL,
            ).mul_(deviation).add_(potential.center)  # fmt: skip
            index = streams.batch(
                task.seed, chain, number, task.batch_size, task.data["examples"], streams.CONTROL
            )
            places = sent(index, potential.center.device)
            batch = {key: value[places] for key, value in job.data.items()}
            found = measure(
                job.loss, potential, position, torch.ones(1, dtype=torch.bool), batch, True
            )
            losses[place, number] = float(found.nanmean())
            at_center[place, number] = float(job.baseline.at(index, places)[0])
    job.writer.submit(job.store.write_chain, names.CONTROL_INIT_LOSS, rows, at_center).result()
    job.writer.submit(job.store.write_chain, names.CONTROL_LOSS, rows, losses).result()


def _part(potential: Potential, pick: Tensor) -> Potential:
    return replace(potential, nbeta=potential.nbeta[pick], gamma=potential.gamma[pick])
