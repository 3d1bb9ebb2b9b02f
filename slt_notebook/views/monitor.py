"""`RunMonitor`: live progress with pause and stop."""

import math
import sys
import threading
from collections.abc import Mapping
from typing import Any

import traitlets

from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback, static_svg
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import View, check_trait, refuse

ENDED = ("finished", "stopped", "failed")
INTERVAL = 0.5
"""Seconds between two looks at a run."""

_VERBS = {"pause": "pause", "resume": "resume", "stop": "cancel"}


class RunMonitor(View):
    """Live: stage, draws and status of each chain, tokens/s, time left, losses; pause and stop.

    A thread asks `run.progress()` every half second and ends with the run; what it saw last stays
    in the notebook and in an exported page. In a terminal use `follow()`, which writes one line.

    Args:
        run: anything with `progress()`, `pause()`, `resume()` and `cancel()`: a `slt.Run`.
        focus: accepted as by every view; a monitor has nothing to focus.

    Attributes:
        progress: the last snapshot, as `Run.progress()` gives it, NaN as None.

    Raises:
        InputError: Something without `progress()`.
    """

    _bundle = "monitor"
    progress = traitlets.Dict().tag(sync=True)

    def __init__(self, run: Any, *, focus: Focus | None = None, **unknown: Any) -> None:
        refuse(unknown, RunMonitor)
        check_trait(focus, Focus, "focus", "pass slt.Focus(), or leave it out")
        if not callable(getattr(run, "progress", None)):
            raise InputError(
                say(
                    f"a run of type {type(run).__name__}",
                    "a live run with progress()",
                    "pass what slt.sample(..., blocking=False) returns; view a tree with slt.view",
                )
            )
        self._run = run
        self._quit = threading.Event()
        super().__init__(progress=snapshot(run.progress()), focus=focus)
        self.on_msg(self._obey)
        self._thread: threading.Thread | None = None
        if not self.ended:
            self._thread = threading.Thread(target=self._poll, name="slt-monitor", daemon=True)
            self._thread.start()

    @property
    def ended(self) -> bool:
        """True when the run is finished, stopped or failed."""
        return self.progress.get("stage") in ENDED

    def _poll(self) -> None:
        while not self.ended and not self._quit.wait(INTERVAL):
            try:
                self.refresh()
            except Exception as error:  # a thread has nobody to raise to: say it in the picture
                stage = {"stage": "failed", "message": f"{type(error).__name__}: {error}"}
                self.progress = {**self.progress, **stage}

    def refresh(self) -> None:
        """Look now.  A cell that waits for a run ends with this, so that the end is seen."""
        self.progress = snapshot(self._run.progress())

    def _obey(self, _widget: Any, content: Any, _buffers: Any) -> None:
        verb = _VERBS.get(content.get("do", "") if isinstance(content, Mapping) else "")
        if verb is None or self.ended:
            return
        # Cancelling waits for the current step: not in the thread that answers the browser.
        threading.Thread(target=getattr(self._run, verb), name=f"slt-{verb}", daemon=True).start()

    def close(self) -> None:
        """Stop looking; the run goes on."""
        if hasattr(self, "_quit"):  # ipywidgets closes what __init__ refused, too
            self._quit.set()
        super().close()

    def follow(self, file: Any = None) -> None:
        """Show progress as one line of text until the run ends. Ctrl-C leaves the run running."""
        from tqdm import tqdm

        total, file = self.progress.get("steps") or None, file or sys.stderr
        with tqdm(total=total, unit="step", file=file) as bar:
            while True:
                seen = snapshot(self._run.progress())
                bar.set_description(str(seen.get("stage", "")), refresh=False)
                bar.set_postfix_str(_speed(seen), refresh=False)
                bar.update(int(seen.get("step", 0)) - bar.n)
                bar.refresh()
                if seen.get("stage") in ENDED or self._quit.wait(INTERVAL):
                    break
            self.progress = seen
        if seen.get("message"):
            print(seen["message"], file=file)

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        p = self.progress
        lines = [
            f"Run {p.get('stage', 'unknown')}: step {p.get('step', 0)} of {p.get('steps', 0)}, "
            f"draw {p.get('draw', 0)} of {p.get('draws', 0)}, {_speed(p)}"
        ]
        lines += [str(p["message"])] if p.get("message") else []
        lines += [f"  chain {c['chain']}: {c['draw']} draws, {c['status']}" for c in _chains(p)]
        return "\n".join(lines)

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        import numpy as np

        p = self.progress
        rows = [(c["chain"], c["draw"], c["status"]) for c in _chains(p)]
        series = [
            (f"chain {c['chain']}", np.asarray(at[: len(y)], float), np.asarray(y, float))
            for c, y, at in zip(_chains(p), p.get("loss") or [], _steps(p), strict=False)
        ]
        label = "loss of each batch"
        picture = static_svg.trace_svg(series, label=label, zero=False) if series else ""
        parts = [
            f"<p>{fallback.esc(self.describe().splitlines()[0])}</p>",
            f"<p>{fallback.esc(p.get('message') or '')}</p>" if p.get("message") else "",
            picture,
            fallback.table("Chains", ("chain", "draws", "status"), rows),
        ]
        return fallback.page("Run", parts, 150_000)


def snapshot(progress: Mapping[str, Any]) -> dict[str, Any]:
    """`Run.progress()` as JSON can hold it: None for numbers that are not finite."""
    return {str(name): _plain(value) for name, value in progress.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _chains(p: Mapping[str, Any]) -> list[dict]:
    return list(p.get("chains") or [])


def _steps(p: Mapping[str, Any]) -> list[list]:
    """Return the steps of each chain's losses; their count where the run does not say."""
    losses = p.get("loss") or []
    own = p.get("loss_step")
    longest = max((len(y) for y in losses), default=0)
    return [list(own) if own and len(own) >= longest else list(range(longest)) for _ in losses]


def duration(seconds: float | None) -> str:
    """Return a time in words.

    >>> duration(3661), duration(75.4), duration(None)
    ('1 h 01 min', '1 min 15 s', 'unknown')
    """
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _speed(p: Mapping[str, Any]) -> str:
    rate = p.get("tokens_per_s")
    speed = f"{rate:,.0f} tokens/s" if rate else "speed unknown"
    if p.get("stage") in ENDED:
        return f"{speed}, took {duration(p.get('elapsed'))}"
    return f"{speed}, {duration(p.get('seconds_left'))} left"
