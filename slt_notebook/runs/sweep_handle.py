"""How is a sweep followed, waited for, stopped?  By a handle; a thread of its own does the work."""

import shutil
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from slt_notebook.results.sweep import open_sweep
from slt_notebook.runs.background import Background
from slt_notebook.runs.handle import Run
from slt_notebook.runs.store.sweep_folder import Entry


class Sweep(Background):
    """Runs in one folder, worked through one after the other, small ones several in step.

    Attributes:
        path: the folder, or None if it lives in memory.
        entries: all runs, in the order of work.
    """

    def __init__(self, folder: Path, entries: list[Entry], work, temporary: bool):
        self.path = None if temporary else folder
        self.entries = entries
        if temporary:
            weakref.finalize(self, shutil.rmtree, folder.parent, ignore_errors=True)
        self._folder, self._work = folder, work
        self._done = threading.Event()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._current: list[tuple[Entry, Run]] = []  # those that walk now, in step
        self._finished = 0
        self._messages: list[str] = []
        self._thread = threading.Thread(target=self._go, name="slt-sweep", daemon=True)

    def _go(self) -> None:
        try:
            for done, pairs in self._work(self._stop):
                self._finished += done
                self._current = pairs
                self._walk(pairs)
                for entry, run in pairs:
                    if run.progress()["message"]:
                        self._messages.append(f"{entry.path}: {run.progress()['message']}")
                if self._stop.is_set():
                    break
                self._finished += len(pairs)
                self._current = []
        except BaseException as error:  # reported by wait(), never swallowed
            self._error = error
        finally:
            self._current = []
            self._done.set()

    def _walk(self, pairs: Sequence[tuple[Entry, Run]]) -> None:
        """Runs that walk in step, to their end; an error in one has stopped the others."""
        for _, run in pairs:
            run.start()
            if self._stop.is_set():
                run._job.board.stop()
        for _, run in pairs:
            run._done.wait()
        for _, run in pairs:
            if run._error is not None:
                raise run._error

    def cancel(self, timeout: float | None = 60) -> None:
        """Stops after the current step; the same call goes on later."""
        self._stop.set()
        for _, run in self._current:
            run._job.board.stop()
        self._done.wait(timeout)

    @property
    def finished(self) -> bool:
        return self._done.is_set()

    @property
    def tree(self) -> xr.DataTree:
        """All runs as labelled arrays, see `slt.open_sweep`."""
        tree = open_sweep(self._folder)
        return tree if self.path is not None else tree.load()

    def progress(self) -> dict:
        """A snapshot: run(s), `components` that are sampled now (several where small runs walk in
        step), and under `current` the progress of the one of these that is least far."""
        pairs = list(self._current)
        found = [run.progress() for _, run in pairs]
        return {
            "run": self._finished,
            "runs": len(self.entries),
            "components": [entry.component for entry, _ in pairs],
            "current": min(found, key=lambda p: p["step"], default=None),
            "messages": list(self._messages),
        }

    def __repr__(self) -> str:
        p = self.progress()
        where = self.path if self.path is not None else "in memory"
        stage = "finished" if self.finished else "going on"
        return f"<Sweep {stage}: {p['run']} of {p['runs']} runs, {where}>"


def watch(found: Sweep) -> None:
    """Shows the progress of a sweep in a terminal, until it ends."""
    from tqdm.auto import tqdm

    with tqdm(total=len(found.entries), unit="run", file=sys.stderr) as bar:
        while not found._done.wait(0.3):
            p = found.progress()
            now = p["current"]
            if now is not None:
                first, *more = p["components"]
                where = f"{first} and {len(more)} more in step" if more else first
                bar.set_postfix_str(f"{where}, step {now['step']}/{now['steps']}")
            bar.update(p["run"] - bar.n)
        bar.update(found.progress()["run"] - bar.n)
