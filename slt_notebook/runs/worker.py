"""What does one worker do?  It walks its chains, measures the probes, and hands rows to a writer.

Results go to the store from a background thread with bounded memory.  A flush writes the draws
since the last one, then the kernel state, then the cursor: see `store.py`.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.chains import walk
from slt_notebook.core.potential import Potential
from slt_notebook.core.rows import finite_rows, row_norms
from slt_notebook.core.types import Batch, column
from slt_notebook.runs.baseline import Baseline
from slt_notebook.runs.control import Board, plain
from slt_notebook.runs.free import deviation, free_steps
from slt_notebook.runs.store import CHUNK_BYTES, RunStore
from slt_notebook.runs.task import CONTROLS, Task

FLUSH_SECONDS = 4.0
ACCEPTS = 5
"""Draws per chain at which the Metropolis diagnostic is spent (one more gradient each)."""


@dataclass
class Job:
    """Everything that the workers of one run share."""

    task: Task
    loss: object
    potential: Potential  # hyperparameters of all chains of the task
    data: Batch
    probes: dict[str, Batch]
    probe_rows: int  # examples per probe evaluation
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
    kernel = _kernel_part(task.kernel, rows)
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
    if first < task.steps:
        state, status = _walk(job, rows, chains, potential, kernel, state, status, since, first)
    if job.seat is not None:
        job.seat.leave()
    if not board.stopping:
        _controls(job, rows, chains, potential, kernel, state, status)


def _walk(job, rows, chains, potential, kernel, state, status, since, first):
    task, board = job.task, job.board
    buffer = Buffer(job, rows, first, since)
    stride = max(1, task.draws // ACCEPTS)

    device = potential.center.device
    size = task.data["examples"]
    cache: dict[int, tuple] = {}

    def batch_of(chain: int, step: int) -> tuple[Batch, Tensor, Tensor]:
        index = torch.from_numpy(streams.batch(task.seed, chain, step, task.batch_size, size))
        index = index.to(device)
        return {k: v[index] for k, v in job.data.items()}, *job.baseline.at(index)

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
        return draw >= 0 and within == task.thin - 1 and draw % stride == 0

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
        )  # fmt: skip
    if not board.wait_here():
        return state, status
    for step in steps:
        state, status = step.state, step.status
        buffer.add_step(step, potential)
        draw = task.draws_at(step.index + 1)
        texts = [names.STATUS_TEXT[int(code)] for code in status]
        board.record(chains, step.index, draw, plain(step.info.loss.cpu()), texts, task.burnin)
        go_on = board.wait_here()
        if buffer.due() or not go_on or step.index + 1 == task.steps:
            buffer.flush(step.index + 1, state, status, last=not go_on)
        if not go_on:
            break
    buffer.settle()
    return state, status


class Buffer:
    """Rows since the last flush, and the flush itself."""

    def __init__(self, job: Job, rows: tuple[int, ...], first: int, since: np.ndarray):
        self.job, self.rows, self.since = job, rows, since.copy()
        self.baseline: Tensor | None = None
        self.pending: Future | None = None
        self.spacing = FLUSH_SECONDS
        self._restart(first)

    def _restart(self, step: int) -> None:
        self.step, self.draw = step, self.job.task.draws_at(step)
        self.per_step: dict[str, list] = {
            k: [] for k in (names.LOSS, names.INIT_LOSS, names.VIRIAL)
        }
        self.per_draw: dict[str, list] = {
            k: [] for k in (names.GRAD_NORM, names.DISTANCE, names.ACCEPT)
        }
        self.probes: dict[str, list] = {name: [] for name in self.job.probes}
        self.bytes, self.began = 0, time.monotonic()

    def add_step(self, step, potential: Potential) -> None:
        task = self.job.task
        alive = step.status == names.STATUS_OK
        self.per_step[names.LOSS].append(step.info.loss)
        self.per_step[names.VIRIAL].append(step.virial)
        nan = torch.full_like(self.baseline, torch.nan)
        self.per_step[names.INIT_LOSS].append(torch.where(alive, self.baseline, nan))
        for place in torch.nonzero(~alive)[:, 0].tolist():
            if self.since[place] < 0:
                self.since[place] = step.index
        if self.job.seat is not None and not bool(alive.any()):
            self.job.seat.leave()  # it only counts on, and asks for nothing
        if task.draws_at(step.index + 1) == task.draws_at(step.index):
            return
        away = row_norms(step.state.position, potential.center)
        nan = torch.full_like(away, torch.nan)
        self.per_draw[names.DISTANCE].append(torch.where(alive, away, nan))
        self.per_draw[names.GRAD_NORM].append(torch.where(alive, row_norms(step.info.grad), nan))
        accept = nan if step.accept is None else step.accept
        self.per_draw[names.ACCEPT].append(accept)
        for name, probe in self.job.probes.items():
            position, seat = step.state.position, self.job.seat
            alone = partial(measure, self.job, potential, position, alive, probe)
            losses = alone() if seat is None else seat.measure(name, position, alive, alone)
            self.probes[name].append(losses)
            self.bytes += losses.nbytes

    def due(self) -> bool:
        waited = time.monotonic() - self.began
        return waited > self.spacing or self.bytes > 4 * CHUNK_BYTES

    def flush(self, steps: int, state, status: Tensor, last: bool = False) -> None:
        """Hands everything since the last flush to the writer; waits for the flush before."""
        self.settle()
        stack = {
            k: torch.stack(v, 1).cpu().numpy()
            for k, v in {**self.per_step, **self.per_draw}.items()
            if v
        }
        probes = {name: np.stack(v, 1) for name, v in self.probes.items() if v}
        leaves = [leaf.detach().cpu().numpy().copy() for leaf in tree_flatten(state)[0]]
        codes, since = status.cpu().numpy().copy(), self.since.copy()
        at_step, at_draw = self.step, self.draw
        store, rows = self.job.store, self.rows

        def write() -> float:
            began = time.monotonic()
            for name, values in probes.items():
                store.write_rows(f"{names.PROBE}/{name}", names.LOSS, rows, at_draw, values)
            for name, values in stack.items():
                start = at_step if name in self.per_step else at_draw
                store.write_rows(names.SAMPLING, name, rows, start, values)
            store.write_chain(names.STATUS_STEP, rows, since)
            store.write_chain(names.STATUS, rows, codes)
            store.write_checkpoint(rows, steps, leaves)
            return time.monotonic() - began

        self.pending = self.job.writer.submit(write)
        self._restart(steps)

    def settle(self) -> None:
        """Waits for the write that is under way, and raises what it raised."""
        if self.pending is not None:
            took = self.pending.result()
            self.pending = None
            # A large model's checkpoint may take longer to write than draws take to make.
            writers = 1 if self.job.seat is None else self.job.seat.members
            self.spacing = max(FLUSH_SECONDS, 10 * took * writers)


def measure(job: Job, potential: Potential, position: Tensor, alive: Tensor, probe: Batch):
    """Losses of a probe at every position: float32 `[chain, example[, token]]`, NaN if dead."""
    out = []
    size = len(next(iter(probe.values())))
    with torch.no_grad():
        for row, lives in zip(position, alive.tolist(), strict=True):
            if not lives:
                out.append(None)
                continue
            params = potential.space.unflatten(row.clone(), potential.base)
            parts = [
                job.loss.evaluate(params, {k: v[i : i + job.probe_rows] for k, v in probe.items()})
                for i in range(0, size, job.probe_rows)
            ]
            out.append(torch.cat(parts).float().cpu().numpy())
    shape = next((v.shape for v in out if v is not None), None)
    if shape is None:
        shape = _probe_shape(job, probe)
    empty = np.full(shape, np.nan, np.float32)
    return np.stack([empty if v is None else v for v in out])


def _probe_shape(job: Job, probe: Batch) -> tuple[int, ...]:
    if job.loss.kind == "text":
        examples, length = probe["input_ids"].shape
        return (examples, length - 1)
    return tuple(job.loss.evaluate(job.loss.params, probe).shape)


def _controls(job, rows, chains, potential, kernel, state, status) -> None:
    """Batch losses at positions from the exact law of the chain without a loss (nbeta = 0).

    Every kernel knows its stationary variance on gamma/2 |w - w*|^2 with G as it is at the end.
    """
    task = job.task
    device = potential.center.device
    scale = kernel.metric.current(state.metric, state.position)
    gamma = column(potential.gamma, state.position)
    variance = kernel.free_variance(gamma, scale)
    deviation = torch.where((gamma > 0) & (variance > 0), variance, torch.nan).sqrt()
    losses = np.full((len(rows), CONTROLS), np.nan, np.float32)
    at_center = np.full_like(losses, np.nan)
    for number in range(CONTROLS):
        noise = streams.noise(
            task.seed, chains, number, potential.space.dim, device, stream=streams.CONTROL
        )
        position = potential.center + deviation * noise
        finite = finite_rows(position).tolist()
        for place, chain in enumerate(chains):
            good = finite[place]
            if not good or int(status[place]) != names.STATUS_OK or job.board.stopping:
                continue
            index = torch.from_numpy(
                streams.batch(
                    task.seed, chain, number, task.batch_size, task.data["examples"],
                    streams.CONTROL,
                )
            ).to(device)  # fmt: skip
            batch = {key: value[index] for key, value in job.data.items()}
            params = potential.space.unflatten(position[place], potential.base)
            losses[place, number] = float(job.loss.evaluate(params, batch).nanmean())
            at_center[place, number] = float(job.baseline.at(index)[0])
    if job.board.stopping:
        return
    job.writer.submit(job.store.write_chain, names.CONTROL_INIT_LOSS, rows, at_center).result()
    job.writer.submit(job.store.write_chain, names.CONTROL_LOSS, rows, losses).result()


def _part(potential: Potential, pick: Tensor) -> Potential:
    return replace(potential, nbeta=potential.nbeta[pick], gamma=potential.gamma[pick])


def _kernel_part(kernel, rows):
    """The kernel of the chains in `rows`: its fields with a number per chain are picked from."""
    several = {f: getattr(kernel, f) for f in kernel.per_chain if np.ndim(getattr(kernel, f))}
    return replace(kernel, **{f: tuple(v[row] for row in rows) for f, v in several.items()})
