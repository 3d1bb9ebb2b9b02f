"""Progress of a run, and requests to pause and stop it."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from slt_notebook import names
from slt_notebook.core.sampler_loop import Step
from slt_notebook.runs.execute.probing import HostCopy, to_host
from slt_notebook.runs.plan.settings import Task

TRACE = 240
"""Points of the live loss trace kept per chain."""
REPORT_SECONDS = 0.25
"""How often the progress of a run on a GPU is read."""


@dataclass
class Progress:
    """How far a run is; every method may be called from any thread.

    Attributes:
        chains: indices of the chains.
        steps, draws: how many each chain will make.
        tokens_per_step: losses with gradient per chain and step, for the speed shown.
        stage: "preparing", "burn-in", "sampling", "paused", "finished", "stopped" or "failed".
        message: what there is to say at the end.
    """

    chains: tuple[int, ...]
    steps: int
    draws: int
    tokens_per_step: int
    stage: str = "preparing"
    message: str = ""
    _step: dict[int, int] = field(default_factory=dict)
    _draw: dict[int, int] = field(default_factory=dict)
    _status: dict[int, str] = field(default_factory=dict)
    _trace: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    _stride: int = 1
    _began: float | None = None
    _first: int = 0
    _ended: float | None = None
    _paused: float = 0.0

    def __post_init__(self):
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._go.set()
        self._stop = threading.Event()
        for chain in self.chains:
            self._step[chain] = self._draw[chain] = 0
            self._status[chain] = "ok"
            self._trace[chain] = []
        self._stride = max(1, self.steps // TRACE)

    # Requests -----------------------------------------------------------------------------------

    def pause(self) -> None:
        """Asks the workers to wait after the current step, until `resume`."""
        self._go.clear()

    def resume(self) -> None:
        """Lets the workers continue after `pause`."""
        self._go.set()

    def stop(self) -> None:
        """Asks the workers to end after the current step."""
        self._stop.set()
        self._go.set()

    # Reports of the workers ---------------------------------------------------------------------

    def start(self, chains: Sequence[int], step: int) -> None:
        """Says that `chains` begin at `step`."""
        with self._lock:
            for chain in chains:
                self._step[chain] = step
            if self._began is None:
                self._began = time.monotonic()
            self._first = sum(self._step.values())

    def record(
        self,
        chains: Sequence[int],
        step: int,
        draw: int,
        loss: Sequence[float],
        status: Sequence[str],
        burnin: int,
    ) -> None:
        """Says where `chains` are after `step`, with the loss and status of each.

        Args:
            chains: their indices.
            step: number of the step that has been made.
            draw: draws that are complete.
            loss: of the last batch of each chain.
            status: of each chain, in words.
            burnin: steps of burn-in.
        """
        with self._lock:
            self.stage = "burn-in" if step < burnin else "sampling"
            for chain, value, text in zip(chains, loss, status, strict=True):
                self._step[chain], self._draw[chain], self._status[chain] = step + 1, draw, text
                if step % self._stride == 0:
                    self._trace[chain].append((step, value))

    def wait_while_paused(self) -> bool:
        """Wait while the run is paused; return whether to continue."""
        if not self._go.is_set():
            with self._lock:
                before, self.stage = self.stage, "paused"
            began = time.monotonic()
            self._go.wait()
            with self._lock:
                self.stage = before
                self._paused += time.monotonic() - began
        return not self._stop.is_set()

    def finish(self, stage: str, message: str = "") -> None:
        """Says how the run ended: a last stage, and a message."""
        with self._lock:
            self.stage, self.message = stage, message
            self._ended = time.monotonic()

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        return self._stop.is_set()

    # Reading ------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain data; see `Run.progress`."""
        with self._lock:
            done = sum(self._step.values())
            total = self.steps * len(self.chains)
            now = self._ended if self._ended is not None else time.monotonic()
            elapsed = 0.0 if self._began is None else now - self._began - self._paused
            rate = (done - self._first) / elapsed if elapsed > 0 else 0.0
            ended = self.stage in ("finished", "stopped", "failed")
            left = None if rate <= 0 else (total - done) / rate
            return {
                "stage": self.stage,
                "message": self.message,
                "step": min(self._step.values()),
                "steps": self.steps,
                "draw": min(self._draw.values()),
                "draws": self.draws,
                "tokens_per_s": rate * self.tokens_per_step,
                "elapsed": elapsed,
                "seconds_left": 0.0 if ended else left,
                "chains": [
                    {"chain": c, "draw": self._draw[c], "status": self._status[c]}
                    for c in self.chains
                ],
                "loss": [[v for _, v in self._trace[c]] for c in self.chains],
                "loss_step": [s for s, _ in self._trace[self.chains[0]]],
            }


@dataclass
class ProgressReporter:
    """Reports the steps of some chains to a `Progress`: each step, or on a GPU now and then.

    Reading values from a GPU makes the host wait.  There, values are copied in the background and
    reported once they have arrived, at most every `REPORT_SECONDS`.

    Attributes:
        progress: what is reported to.
        chains: indices of the chains.
        task: of the run.
        ask: whether values may be read at once.
    """

    progress: Progress
    chains: tuple[int, ...]
    task: Task
    ask: bool
    _waiting: tuple[int, HostCopy, HostCopy] | None = None
    _next: float = 0.0

    def report(self, step: Step) -> None:
        """Report a step, or begins to."""
        if self.ask:
            self._record(step.index, step.loss.cpu(), step.status.cpu())
            return
        if self._waiting is None and time.monotonic() >= self._next:
            self._waiting = step.index, to_host(step.loss), to_host(step.status)
            self._next = time.monotonic() + REPORT_SECONDS
        if self._waiting is not None and self._waiting[1].arrived() and self._waiting[2].arrived():
            self.finish()

    def finish(self) -> None:
        """Report a step whose values are still being copied."""
        if self._waiting is not None:
            index, loss, status = self._waiting
            self._record(index, loss.tensor(), status.tensor())
            self._waiting = None

    def _record(self, index: int, loss: Tensor, status: Tensor) -> None:
        texts = [names.STATUS_TEXT[code] for code in status.numpy().tolist()]
        values = np.asarray(loss.numpy(), dtype=float).tolist()
        draw = self.task.draws_at(index + 1)
        self.progress.record(self.chains, index, draw, values, texts, self.task.burnin)
