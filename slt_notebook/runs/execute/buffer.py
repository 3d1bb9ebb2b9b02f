"""What waits to be written?  The rows since the last flush; with them the kernel state is kept.

A flush writes the draws since the last one, then the kernel state, then the cursor: see `store.py`.
It goes on in the background thread that writes, one at a time, so that memory is bounded.
"""

import time
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from slt_notebook import names
from slt_notebook.core.potential import Potential
from slt_notebook.core.reductions import row_norms
from slt_notebook.runs.execute.probing import Returned, measure, returned
from slt_notebook.runs.execute.progress import Board, plain
from slt_notebook.runs.plan.task import Task
from slt_notebook.runs.store.run_store import CHUNK_BYTES

if TYPE_CHECKING:
    from slt_notebook.runs.execute.worker import Job

FLUSH_SECONDS = 4.0
WRITE_SPEED = 500e6
"""Bytes of a checkpoint a second, about: what a cache of the file system takes."""
GLANCE_SECONDS = 0.25
"""How often the progress of a run on a GPU is looked at."""
LARGE_STATE = 64 << 20
"""Bytes of a state that is written from where it lies, while its chains wait: a copy would cost as
much memory as the chains themselves."""


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

    def __init__(self, job: "Job", rows: tuple[int, ...], first: int, since: np.ndarray, size: int):
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
