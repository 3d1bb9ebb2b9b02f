"""Work in a thread of its own, whose end and error another thread can wait for."""

import threading
from collections.abc import Callable
from typing import Any, NoReturn

from slt_notebook.errors import InputError, say


def refuse_to_pickle(handle: Any) -> NoReturn:
    """Refuse to pickle (or deep-copy) the handle of something that is sampled: it holds threads.

    Raises:
        InputError: with what to pickle instead.
    """
    what = type(handle).__name__
    where = f"its path ({str(handle.path)!r})" if handle.path is not None else "its tree"
    do = (
        f"pickle {where} and open that with slt.open_{what.lower()}"
        if handle.path
        else ("pickle its tree, or sample with store='runs/name.zarr' and pickle the path")
    )
    raise InputError(say(f"a {what} to be pickled, which holds threads and a lock", where, do))


class Background:
    """Work that has not started, is running, or has ended.

    Attributes:
        error: what the work raised, or None; final once `ended()` is true.
    """

    def __init__(self, work: Callable[[], None], name: str):
        self.error: BaseException | None = None
        self._work = work
        # An event, and not `join`: in CPython 3.11 a Ctrl-C inside `join` marks a living thread as
        # dead, and every later `join` returns at once.
        self._ended = threading.Event()
        # A daemon thread dies with the interpreter; stores then resume from their last flush.
        self._thread = threading.Thread(target=self._go, name=name, daemon=True)

    def _go(self) -> None:
        try:
            self._work()
        except BaseException as error:  # reported by `raise_error`, never swallowed
            self.error = error
        finally:
            self._ended.set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ended(self, timeout: float | None = 0) -> bool:
        """Whether the work has ended, after at most `timeout` seconds (None: wait for the end)."""
        return self._ended.wait(timeout)

    def raise_error(self) -> None:
        """Raise what stopped the work, if anything did."""
        if self.error is not None:
            raise self.error
