"""Rows that wait to be written: the draws since the last flush, and the flush itself.

A flush writes the draws since the last one, then the kernel state, then the cursor: see
`store/run_store.py`.  It runs in the background thread that writes, one at a time, so that memory
is bounded.
"""

import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from slt_notebook import names
from slt_notebook.core.potential import Potential
from slt_notebook.core.reductions import row_norms
from slt_notebook.core.sampler_loop import Step
from slt_notebook.runs.execute.job import Job
from slt_notebook.runs.execute.probing import HostCopy, to_host
from slt_notebook.runs.store.layout import CHUNK_BYTES
from slt_notebook.runs.store.run_store import Part
from slt_notebook.runs.store.space import writing

FLUSH_SECONDS = 4.0
WRITE_SPEED = 500e6
"""Bytes of a checkpoint a second, about: what a cache of the file system takes."""
MOST_STEPS = 2048
"""Steps between flushes, at most: about a kilobyte each is held, however long a write takes."""
LARGE_STATE = 64 << 20
"""Bytes from which a state is written without a copy, while its chains wait: a copy would take as
much memory as the chains themselves."""


class Buffer:
    """Rows since the last flush, and the flush itself."""

    def __init__(self, job: Job, rows: tuple[int, ...], first: int, since: np.ndarray, size: int):
        """Return a buffer that is empty.

        Args:
            job: of the run.
            rows: places of the chains in `task.chains`.
            first: the step that comes next.
            since: the step at which each chain diverged, -1 where it has not.
            size: bytes of the chains' state.
        """
        self.job, self.rows, self.large = job, rows, size >= LARGE_STATE
        half = job.task.probe_dtype != "float32"
        self.probe_cause = names.STATUS_HALF if half else names.STATUS_PROBE
        self.since = torch.from_numpy(since.copy()).to(job.potential.center.device)
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
        self.probes: dict[str, list[HostCopy]] = {n: [] for n in self.job.evaluator.probes}
        self.bytes, self.began = 0, time.monotonic()

    def add_step(self, step: Step, potential: Potential, baseline: Tensor, ask: bool) -> None:
        """Keep what a step gave; measures the probes where it ends with a draw.

        A chain at which a loss of a probe is not finite is stopped, by its `status`.

        Args:
            step: of the chains of this buffer.
            potential: of these chains.
            baseline: loss of each batch at w*, `[chain]`.
            ask: whether the host may look at values on the device.
        """
        alive = step.status == names.STATUS_OK
        self.per_step[names.LOSS].append(step.loss)
        self.per_step[names.VIRIAL].append(step.virial)
        nan = torch.full_like(baseline, torch.nan)
        self.per_step[names.INIT_LOSS].append(torch.where(alive, baseline, nan))
        self.job.evaluator.after_step(alive)
        self.since = torch.where(~alive & (self.since < 0), step.index, self.since)
        if not self.is_draw(step.index):
            return
        away = step.distance
        if away is None:
            away = row_norms(step.state.position, potential.center)
        assert step.grad_norm is not None  # asked for at every draw
        nan = torch.full_like(away, torch.nan)
        self.per_draw[names.DISTANCE].append(torch.where(alive, away, nan))
        self.per_draw[names.GRAD_NORM].append(torch.where(alive, step.grad_norm, nan))
        self.per_draw[names.ACCEPT].append(nan if step.accept is None else step.accept)
        good = torch.ones_like(alive)
        for name in self.job.evaluator.probes:
            losses = self.job.evaluator.measure(name, step.state.position, alive, ask)
            good &= (losses.isfinite() | ~self.job.counts[name]).flatten(1).all(1)
            self.probes[name].append(to_host(losses))
            self.bytes += losses.nbytes
        bad = alive & ~good
        # Kept as measured: what was not finite can be looked up, and the chain enters no average.
        step.status.masked_fill_(bad, self.probe_cause)
        self.since = torch.where(bad, step.index, self.since)

    def is_draw(self, index: int) -> bool:
        """Whether step `index` ends with a draw."""
        return self.job.task.draws_at(index + 1) != self.job.task.draws_at(index)

    def due(self) -> bool:
        """Whether it is time for a flush."""
        waited = time.monotonic() - self.began
        held = len(self.per_step[names.LOSS])
        return waited > self.spacing or self.bytes > 4 * CHUNK_BYTES or held >= MOST_STEPS

    def flush(self, steps: int, state: Any, status: Tensor, last: bool) -> None:
        """Hands everything since the last flush to the writer; waits for the flush before.

        Args:
            steps: how many steps the chains have made.
            state: of the kernel, after these.
            status: of the chains, `[chain]` int8.
            last: whether the chains make no further step, so that a large state need not be
                written at once.
        """
        self.wait_for_write()
        stacked = lambda parts: {
            k: torch.stack(v, 1).float().cpu().numpy() for k, v in parts.items() if v
        }
        per_step, per_draw = stacked(self.per_step), stacked(self.per_draw)
        probes = {name: v for name, v in self.probes.items() if v}
        held = tree_flatten(state)[0]
        leaves = [leaf.detach().cpu().numpy() for leaf in held]
        if not self.large:
            leaves = [leaf.copy() for leaf in leaves]
        codes, since = status.cpu().numpy().copy(), self.since.cpu().numpy().copy()
        store, step, draw = self.job.store, self.step, self.draw
        size = self.bytes + sum(v.nbytes for v in (*per_step.values(), *per_draw.values(), *leaves))

        def write() -> float:
            began = time.monotonic()
            with writing(store.path, size):
                arrived = {
                    name: np.stack([part.tensor().numpy() for part in parts], 1)
                    for name, parts in probes.items()
                }
                last = steps == self.job.task.steps
                part = Part(
                    self.rows, step, draw, per_step, per_draw, arrived, codes, since, steps,
                    leaves, last,
                )  # fmt: skip
                store.write(part)
            return time.monotonic() - began

        self.pending = self.job.writer.submit(write)
        if self.large and not last:
            self.wait_for_write()
        self._restart(steps)

    def wait_for_write(self) -> None:
        """Wait for the write in progress, and raise what it raised."""
        if self.pending is not None:
            took = self.pending.result()
            self.pending = None
            # A large model's checkpoint may take longer to write than draws take to make.
            self.spacing = max(FLUSH_SECONDS, 10 * took * self.job.evaluator.writers)


def _stacked(parts: dict[str, list[Tensor]]) -> dict[str, np.ndarray]:
    """Return lists of `[chain]` as arrays `[chain, step or draw]` in memory; not empty ones."""
    return {k: torch.stack(v, 1).float().cpu().numpy() for k, v in parts.items() if v}
