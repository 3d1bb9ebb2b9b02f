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
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.chains import walk
from slt_notebook.core.long_rows import of_chains
from slt_notebook.core.potential import Potential
from slt_notebook.core.rows import row_norms
from slt_notebook.core.types import Batch, column
from slt_notebook.runs.baseline import Baseline
from slt_notebook.runs.control import Board, plain
from slt_notebook.runs.free import deviation, free_steps
from slt_notebook.runs.probing import Returned, measure, returned
from slt_notebook.runs.store import CHUNK_BYTES, RunStore
from slt_notebook.runs.task import CONTROLS, Task

FLUSH_SECONDS = 4.0
WRITE_SPEED = 500e6
"""Bytes of a checkpoint a second, about: what a cache of the file system takes."""
GLANCE_SECONDS = 0.25
"""How often the progress of a run on a GPU is looked at."""
LARGE_STATE = 64 << 20
"""Bytes of a state that is written from where it lies, while its chains wait: a copy would cost as
much memory as the chains themselves."""


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


class Glance:
    """Tells the board how far the chains are: at each step, or on a GPU when it has said so."""

    def __init__(self, board: Board, chains: tuple[int, ...], task: Task, ask: bool):
        self.board, self.chains, self.task, self.ask = board, chains, task, ask
        self._waiting: tuple[int, Returned, Returned] | None = None
        self._next = 0.0

    def at(self, step) -> None:
        if self.ask:
            self._record(step.index, step.loss.cpu(), step.status.cpu())
            return
        if self._waiting is None and time.monotonic() >= self._next:
            self._waiting = step.index, returned(step.loss), returned(step.status)
            self._next = time.monotonic() + GLANCE_SECONDS
        if self._waiting is not None and self._waiting[1].here() and self._waiting[2].here():
            self.finish()

    def finish(self) -> None:
        if self._waiting is not None:
            index, loss, status = self._waiting
            self._record(index, loss.tensor(), status.tensor())
            self._waiting = None

    def _record(self, index: int, loss: Tensor, status: Tensor) -> None:
        texts = [names.STATUS_TEXT[code] for code in status.numpy().tolist()]
        draw = self.task.draws_at(index + 1)
        self.board.record(self.chains, index, draw, plain(loss.numpy()), texts, self.task.burnin)


class Buffer:
    """Rows since the last flush, and the flush itself."""

    def __init__(self, job: Job, rows: tuple[int, ...], first: int, since: np.ndarray, size: int):
        """`size`: bytes of the chains' state."""
        self.job, self.rows, self.large = job, rows, size >= LARGE_STATE
        self.since = torch.from_numpy(since.copy()).to(job.potential.center.device)
        self.baseline: Tensor | None = None
        self.pending: Future | None = None
        # Until the first has been written: checkpoints take up to a tenth of the time.
        self.spacing = max(FLUSH_SECONDS, 10 * size / WRITE_SPEED)
        self._restart(first)

    def _restart(self, step: int) -> None:
        self.step, self.draw = step, self.job.task.draws_at(step)
        self.per_step: dict[str, list] = {
            k: [] for k in (names.LOSS, names.INIT_LOSS, names.VIRIAL)
        }
        self.per_draw: dict[str, list] = {
            k: [] for k in (names.GRAD_NORM, names.DISTANCE, names.ACCEPT)
        }
        self.probes: dict[str, list[Returned]] = {name: [] for name in self.job.probes}
        self.bytes, self.began = 0, time.monotonic()

    def add_step(self, step, potential: Potential, ask: bool) -> None:
        alive = step.status == names.STATUS_OK
        assert self.baseline is not None
        self.per_step[names.LOSS].append(step.loss)
        self.per_step[names.VIRIAL].append(step.virial)
        nan = torch.full_like(self.baseline, torch.nan)
        self.per_step[names.INIT_LOSS].append(torch.where(alive, self.baseline, nan))
        if self.job.seat is not None and not bool(alive.any()):
            self.job.seat.leave()  # it only counts on, and asks for nothing
        self.since = torch.where(~alive & (self.since < 0), step.index, self.since)
        if not self.draws(step.index):
            return
        away = step.distance
        if away is None:
            away = row_norms(step.state.position, potential.center)
        nan = torch.full_like(away, torch.nan)
        self.per_draw[names.DISTANCE].append(torch.where(alive, away, nan))
        self.per_draw[names.GRAD_NORM].append(torch.where(alive, step.grad_norm, nan))
        self.per_draw[names.ACCEPT].append(nan if step.accept is None else step.accept)
        for name, probe in self.job.probes.items():
            position, seat = step.state.position, self.job.seat
            alone = partial(measure, self.job.probe_loss, potential, position, alive, probe, ask)
            losses = alone() if seat is None else seat.measure(name, position, alive, alone)
            self.probes[name].append(returned(losses))
            self.bytes += losses.nbytes

    def draws(self, index: int) -> bool:
        """Whether step `index` ends with a draw."""
        return self.job.task.draws_at(index + 1) != self.job.task.draws_at(index)

    def due(self) -> bool:
        waited = time.monotonic() - self.began
        return waited > self.spacing or self.bytes > 4 * CHUNK_BYTES

    def flush(self, steps: int, state, status: Tensor, last: bool) -> None:
        """Hands everything since the last flush to the writer; waits for the flush before.

        Args:
            last: the chains stay where they are, so that a large state is not waited for.
        """
        self.settle()
        stack = {
            k: torch.stack(v, 1).cpu().numpy()
            for k, v in {**self.per_step, **self.per_draw}.items()
            if v
        }
        probes = {name: v for name, v in self.probes.items() if v}
        held = tree_flatten(state)[0]
        leaves = [leaf.detach().cpu().numpy() for leaf in held]
        if not self.large:
            leaves = [leaf.copy() for leaf in leaves]
        codes, since = status.cpu().numpy().copy(), self.since.cpu().numpy().copy()
        at_step, at_draw = self.step, self.draw
        store, rows = self.job.store, self.rows

        def write() -> float:
            began = time.monotonic()
            for name, parts in probes.items():
                values = np.stack([part.tensor().numpy() for part in parts], 1)
                store.write_rows(f"{names.PROBE}/{name}", names.LOSS, rows, at_draw, values)
            for name, values in stack.items():
                start = at_step if name in self.per_step else at_draw
                store.write_rows(names.SAMPLING, name, rows, start, values)
            store.write_chain(names.STATUS_STEP, rows, since)
            store.write_chain(names.STATUS, rows, codes)
            store.write_checkpoint(rows, steps, leaves)
            return time.monotonic() - began

        self.pending = self.job.writer.submit(write)
        if self.large and not last:
            self.settle()
        self._restart(steps)

    def settle(self) -> None:
        """Waits for the write that is under way, and raises what it raised."""
        if self.pending is not None:
            took = self.pending.result()
            self.pending = None
            # A large model's checkpoint may take longer to write than draws take to make.
            writers = 1 if self.job.seat is None else self.job.seat.members
            self.spacing = max(FLUSH_SECONDS, 10 * took * writers)


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
