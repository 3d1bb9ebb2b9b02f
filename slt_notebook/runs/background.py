"""What do a run and a sweep have in common?  Work in a thread of its own, to be waited for."""

import threading
from typing import Self

import xarray as xr


class Background:
    """Work that has been started, goes on, or has ended.

    Whoever inherits sets `_thread`, which sets `_done` at its end and `_error` if it failed, and
    has a `tree`.
    """

    _thread: threading.Thread
    # An event, and not `join`: in CPython 3.11 a Ctrl-C inside `join` marks a living thread as
    # dead, and every later `join` returns at once.
    _done: threading.Event
    _error: BaseException | None

    @property
    def tree(self) -> xr.DataTree:
        raise NotImplementedError

    def start(self) -> Self:
        self._thread.start()
        return self

    def wait(self, timeout: float | None = None) -> xr.DataTree:
        """Waits for the end (at most `timeout` seconds) and returns the tree so far.

        Raises:
            Exception: whatever stopped the work (a full disk, say); draws written before are kept.
        """
        self._done.wait(timeout)
        if self._error is not None:
            raise self._error
        return self.tree

    def inspect(self) -> xr.DataTree:
        """The tree as it is now; what is not yet drawn is NaN."""
        return self.tree
