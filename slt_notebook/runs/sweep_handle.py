"""The handle of a sweep: a thread that works through its runs, to be followed and stopped."""

import shutil
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import xarray as xr

from slt_notebook.results.sweep import open_sweep
from slt_notebook.runs.background import Background, refuse_to_pickle
from slt_notebook.runs.handle import Run
from slt_notebook.runs.store.sweep_folder import Entry

Groups = Iterator[tuple[int, Sequence[tuple[Entry, Run]]]]
"""(how many further runs were complete already, runs that are sampled at the same time)."""


class Sweep:
    """Runs in one folder, sampled one after the other, small ones several in lockstep.

    Attributes:
        path: the folder, or None if it lives in memory.
        entries: all runs, in the order of work.
    """

    def __init__(
        self,
        folder: Path,
        entries: Sequence[Entry],
        groups: Callable[[threading.Event], Groups],
        temporary: bool,
    ):
        """Make a sweep that has not started.

        Args:
            folder: where its runs are.
            entries: all runs.
            groups: makes the groups of runs one after the other; told by an event when to end.
            temporary: whether the folder is removed with this handle.
        """
        self.path = None if temporary else folder
        self.entries = list(entries)
        if temporary:
            weakref.finalize(self, shutil.rmtree, folder.parent, ignore_errors=True)
        self._folder, self._groups = folder, groups
        self._stop = threading.Event()
        self._current: Sequence[tuple[Entry, Run]] = []  # sampled now
        self._complete = 0
        self._messages: list[str] = []
        self._background = Background(self._work, "slt-sweep")

    def _work(self) -> None:
        try:
            for complete, group in self._groups(self._stop):
                self._complete += complete
                self._current = group
                self._sample(group)
                for entry, run in group:
                    if run.progress()["message"]:
                        self._messages.append(f"{entry.path}: {run.progress()['message']}")
                if self._stop.is_set():
                    break
                self._complete += len(group)
                self._current = []
        finally:
            self._current = []

    def _sample(self, group: Sequence[tuple[Entry, Run]]) -> None:
        """Run the members of a group to their end; an error in one has stopped the others."""
        for _, run in group:
            run.start()
            if self._stop.is_set():
                run.request_stop()
        for _, run in group:
            run.ended(None)
        for _, run in group:
            run.raise_error()

    def start(self) -> Self:
        """Start sampling in a thread of its own, and return at once."""
        self._background.start()
        return self

    def wait(self, timeout: float | None = None) -> xr.DataTree:
        """Wait for the end (at most `timeout` seconds) and return the tree so far.

        Raises:
            Exception: whatever stopped the sweep (a full disk, say); draws written before are kept.
        """
        self._background.ended(timeout)
        self._background.raise_error()
        return self.tree

    def ended(self, timeout: float | None = 0) -> bool:
        """Whether the sweep has ended, after at most `timeout` seconds."""
        return self._background.ended(timeout)

    def inspect(self) -> xr.DataTree:
        """Return the tree as it is now; what is not yet drawn is NaN."""
        return self.tree

    def stop_at_exit(self) -> None:
        """Stop the sweep when the interpreter ends."""
        weakref.finalize(self, self._stop.set)

    def cancel(self, timeout: float | None = 60) -> None:
        """Stop after the current step; the same call continues it later."""
        self._stop.set()
        for _, run in self._current:
            run.request_stop()
        self._background.ended(timeout)

    @property
    def finished(self) -> bool:
        """Whether the sweep is finished, was stopped or has failed."""
        return self._background.ended()

    @property
    def tree(self) -> xr.DataTree:
        """All runs as labelled arrays, see `slt.open_sweep`."""
        tree = open_sweep(self._folder)
        return tree if self.path is not None else tree.load()

    def progress(self) -> dict[str, Any]:
        """Return a snapshot: complete `run`(s), `components` that are sampled now, messages.

        There are several components where small runs are sampled in lockstep; `current` is the
        progress of the one that has made the fewest steps.
        """
        group = list(self._current)
        found = [run.progress() for _, run in group]
        return {
            "run": self._complete,
            "runs": len(self.entries),
            "components": [entry.component for entry, _ in group],
            "current": min(found, key=lambda p: p["step"], default=None),
            "messages": list(self._messages),
        }

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle(self)

    def __repr__(self) -> str:
        p = self.progress()
        where = self.path if self.path is not None else "in memory"
        stage = "finished" if self.finished else "running"
        return f"<Sweep {stage}: {p['run']} of {p['runs']} runs, {where}>"
