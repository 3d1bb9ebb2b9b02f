"""How do a run and those who watch it talk?  Flags to pause and stop, and a board of progress."""

import threading
import time
from dataclasses import dataclass, field

import numpy as np

TRACE = 240
"""Points of the live loss trace kept per chain."""


@dataclass
class Board:
    """State of a run that goes on; every method may be called from any thread.

    Attributes:
        chains: indices of the chains.
        steps, draws: how many each chain will make.
        tokens_per_step: losses with gradient per chain and step, for the speed shown.
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
    _trace: dict[int, list] = field(default_factory=dict)
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

    # Verbs of the watcher -----------------------------------------------------------------------

    def pause(self) -> None:
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    def stop(self) -> None:
        self._stop.set()
        self._go.set()

    # Verbs of the workers -----------------------------------------------------------------------

    def start(self, chains: tuple[int, ...], step: int) -> None:
        with self._lock:
            for chain in chains:
                self._step[chain] = step
            if self._began is None:
                self._began = time.monotonic()
            self._first = sum(self._step.values())

    def record(self, chains, step: int, draw: int, loss, status, burnin: int) -> None:
        with self._lock:
            self.stage = "burn-in" if step < burnin else "sampling"
            for chain, value, text in zip(chains, loss, status, strict=True):
                self._step[chain], self._draw[chain], self._status[chain] = step + 1, draw, text
                if step % self._stride == 0:
                    self._trace[chain].append((step, value))

    def wait_here(self) -> bool:
        """Blocks while paused; whether to go on."""
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
        with self._lock:
            self.stage, self.message = stage, message
            self._ended = time.monotonic()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    # Reading ------------------------------------------------------------------------------------

    def progress(self) -> dict:
        """A snapshot; see `Run.progress`."""
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


def plain(values) -> list[float]:
    return np.asarray(values, dtype=float).tolist()
