"""Sizes of what is evaluated at once, which are halved where memory does not suffice.

Chunks are guesses: what else lives on the device, and how an allocator cuts its memory, is known
only afterwards.  An evaluation changes nothing, so one that ran out of memory can be repeated in
smaller parts; no draw is lost.  Smaller parts round differently, in the last digits only.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from slt_notebook.errors import OutOfMemory, say

T = TypeVar("T")


@dataclass
class Fit:
    """Sizes of what is evaluated at once; shared by the workers of a run, and only ever smaller.

    Attributes:
        chains: chains per batched gradient; 1 is the plain autograd loop.
        examples: examples of a chain's batch per backward pass; None takes the whole batch.
        rows: examples of a probe per evaluation.
        halved: what was made smaller, in words, in order.
    """

    chains: int = 1
    examples: int | None = None
    rows: int = 32
    halved: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def fewer_chains(self, used: int) -> None:
        """After `used` chains at once did not fit."""
        with self._lock:
            if self.chains >= used:  # else another worker has halved it already
                self._note("chains per batched gradient", used, max(1, used // 2))
                self.chains = max(1, used // 2)

    def fewer_examples(self, used: int) -> None:
        """After a backward pass over `used` examples did not fit."""
        with self._lock:
            if self.examples is None or self.examples >= used:
                self._note("examples per backward pass", used, max(1, used // 2))
                self.examples = max(1, used // 2)

    def fewer_rows(self, used: int) -> None:
        """After a probe evaluation of `used` examples did not fit."""
        with self._lock:
            if self.rows >= used:
                self._note("examples per probe evaluation", used, max(1, used // 2))
                self.rows = max(1, used // 2)

    def _note(self, what: str, before: int, now: int) -> None:
        self.halved.append(f"out of memory: {what} {before} -> {now}")


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: on a GPU, or on a CPU whose system says no."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def attempt(work: Callable[[], T]) -> T | None:
    """Return what `work()` returns, or None where the memory did not suffice.

    The error's traceback holds the tensors of the failed attempt; it is dropped before returning.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def refuse(what: str, device: torch.device) -> OutOfMemory:
    """Return the error for `what` where not even one example fits."""
    return OutOfMemory(
        say(
            f"no memory on {device} for {what}",
            "memory for at least one example",
            "free memory, shorten the sequences, take fewer chains or a smaller component, or use "
            "another device; every draw made so far is kept, and the same call continues",
        )
    )
