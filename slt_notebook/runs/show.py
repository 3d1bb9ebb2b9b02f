"""Progress on a screen: a monitor in a notebook, a line in a terminal, and the card of a run.

This is the one place of `runs/` that knows `views/`, which it imports when there is something to
show.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

POLL_SECONDS = 0.2


class Watched(Protocol):
    """A run or sweep as its watcher sees it."""

    def progress(self) -> dict[str, Any]:
        """Return a snapshot."""
        ...

    def ended(self, timeout: float | None = 0) -> bool:
        """Whether it has ended, after at most `timeout` seconds."""
        ...


def is_interactive() -> bool:
    """Whether a person is likely to look: a notebook, or a terminal."""
    return in_notebook() or sys.stderr.isatty()


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return bool(shell) and type(shell).__name__ == "ZMQInteractiveShell"


def watch_run(run: Watched) -> None:
    """Show the progress of a run until it ends: a monitor in a notebook, else one line."""
    if in_notebook():
        from IPython.display import display

        from slt_notebook.views.monitor import RunMonitor

        monitor = RunMonitor(run)
        display(monitor)
        while not run.ended(POLL_SECONDS):
            pass
        monitor.refresh()  # what is saved with the notebook is the end of the run
        return
    from tqdm.auto import tqdm

    with tqdm(total=run.progress()["steps"], unit="step", file=sys.stderr) as bar:
        while not run.ended(POLL_SECONDS):
            _update(bar, run.progress())
        _update(bar, run.progress())


def _update(bar: Any, p: Mapping[str, Any]) -> None:
    bar.set_description(p["stage"], refresh=False)
    bar.set_postfix_str(f"draw {p['draw']}/{p['draws']}, {p['tokens_per_s']:,.0f} tokens/s")
    bar.update(p["step"] - bar.n)


def watch_sweep(sweep: Watched) -> None:
    """Show the progress of a sweep in one line, until it ends."""
    from tqdm.auto import tqdm

    with tqdm(total=sweep.progress()["runs"], unit="run", file=sys.stderr) as bar:
        while not sweep.ended(POLL_SECONDS):
            p = sweep.progress()
            now = p["current"]
            if now is not None:
                first, *more = p["components"]
                where = f"{first} and {len(more)} more in lockstep" if more else first
                bar.set_postfix_str(f"{where}, step {now['step']}/{now['steps']}")
            bar.update(p["run"] - bar.n)
        bar.update(sweep.progress()["run"] - bar.n)


def card(tree: xr.DataTree, path: Path | None, progress: Mapping[str, Any]) -> str:
    """Return the card of a run as HTML."""
    from slt_notebook.views.card import run_card

    return run_card(tree, path=path, progress=progress)
