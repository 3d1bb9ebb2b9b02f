"""Time that the workers of `slt.sample` spend on losses and gradients, and their number.

The package is wrapped from outside while `watched()` lasts: gradients of a batch and losses without
a gradient.  What is not inside is update, noise, probes' way home, store, and waiting.  On a GPU a
call returns before the work is done, so there the figure is the host's, not the device's.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

from slt_notebook.core.potential import Potential
from slt_notebook.models.losses.causal_lm import CausalLMLoss


@dataclass
class Inside:
    """Seconds inside, summed over threads, and how many threads took gradients at once, at most."""

    seconds: float = 0.0
    workers: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _here: threading.local = field(default_factory=threading.local)

    def wrap(self, function, worker: bool):
        def timed(*args, **kwargs):
            if getattr(self._here, "depth", 0):  # a gradient that calls another wrapped function
                return function(*args, **kwargs)
            self._here.depth = 1
            with self._lock:
                self._now += worker
                self.workers = max(self.workers, self._now)
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._here.depth = 0
                took = time.perf_counter() - began
                with self._lock:
                    self.seconds += took
                    self._now -= worker

        return timed


GRADIENTS = ("loss_and_grad", "one")
"""Methods of `Potential` that take a gradient; not every version has both."""


@contextmanager
def watched() -> Iterator[Inside]:
    """Counts what the package computes while this lasts."""
    found = Inside()
    with ExitStack() as stack:
        for name in GRADIENTS:
            if hasattr(Potential, name):
                wrapped = found.wrap(getattr(Potential, name), worker=True)
                stack.enter_context(mock.patch.object(Potential, name, wrapped))
        wrapped = found.wrap(CausalLMLoss.evaluate, worker=False)
        stack.enter_context(mock.patch.object(CausalLMLoss, "evaluate", wrapped))
        yield found
