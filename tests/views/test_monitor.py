"""The monitor follows a run, obeys its buttons, and stops when there is nothing to see."""

import io
import json
import time

import pytest

from slt_notebook.errors import InputError
from slt_notebook.views import monitor
from slt_notebook.views.monitor import RunMonitor, duration


class Fake:
    """A run that makes one step a look."""

    def __init__(self, steps=4, message="", breaks=False):
        self.step, self.steps, self.message, self.breaks = 0, steps, message, breaks
        self.calls = []
        self.stage = "sampling"

    def progress(self):
        if self.breaks and self.step:
            raise OSError("the store is gone")
        if self.stage == "sampling":
            self.step += 1
            if self.step >= self.steps:
                self.stage = "finished"
        return {
            "stage": self.stage,
            "step": self.step,
            "steps": self.steps,
            "draw": self.step,
            "draws": self.steps,
            "tokens_per_s": 1000.0,
            "seconds_left": float("nan"),
            "elapsed": 61.0,
            "chains": [{"chain": 0, "draw": self.step, "status": "<b>ok</b>"}],
            "loss": [[2.0, float("nan"), 1.5][: self.step]],
            "message": self.message,
        }

    def pause(self):
        self.calls.append("pause")
        self.stage = "paused"

    def resume(self):
        self.calls.append("resume")

    def cancel(self):
        self.calls.append("cancel")
        self.stage = "stopped"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(monitor, "INTERVAL", 0.01)


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def test_it_follows_to_the_end_and_its_thread_ends():
    view = RunMonitor(Fake())
    until(lambda: not view._thread.is_alive())
    assert view.progress["stage"] == "finished"
    assert view.progress["step"] == 4
    assert view.progress["seconds_left"] is None
    json.dumps(view.progress, allow_nan=False)


def test_the_end_can_be_seen_without_waiting(monkeypatch):
    monkeypatch.setattr(monitor, "INTERVAL", 60)
    run = Fake(steps=10_000)
    view = RunMonitor(run)
    run.stage = "stopped"
    view.refresh()
    assert view.progress["stage"] == "stopped"
    view.close()


def test_a_finished_run_needs_no_thread():
    run = Fake()
    run.stage = "stopped"
    view = RunMonitor(run)
    assert view._thread is None
    assert view.ended


def test_buttons_reach_the_run_and_nothing_else_does():
    run = Fake(steps=10_000)
    view = RunMonitor(run)
    for content in ("pause", {"do": "__init__"}, {"do": "cancel"}, {}):
        view._obey(view, content, [])
    assert run.calls == []
    view._obey(view, {"do": "pause"}, [])
    until(lambda: view.progress["stage"] == "paused")
    view._obey(view, {"do": "stop"}, [])
    until(lambda: not view._thread.is_alive())
    assert run.calls == ["pause", "cancel"]
    assert view.progress["stage"] == "stopped"
    view._obey(view, {"do": "resume"}, [])
    assert run.calls == ["pause", "cancel"]


def test_a_run_that_breaks_is_shown_not_swallowed():
    view = RunMonitor(Fake(breaks=True))
    until(lambda: not view._thread.is_alive())
    assert view.progress["stage"] == "failed"
    assert view.progress["message"] == "OSError: the store is gone"
    assert view.progress["steps"] == 4


def test_closing_stops_the_looking_not_the_run():
    run = Fake(steps=10_000)
    view = RunMonitor(run)
    view.close()
    until(lambda: not view._thread.is_alive())
    assert run.stage == "sampling"


def test_text_for_a_terminal():
    run = Fake(steps=3, message="chain 1 diverged")
    out = io.StringIO()
    RunMonitor(run).follow(file=out)
    assert "finished" in out.getvalue()
    assert out.getvalue().endswith("chain 1 diverged\n")


def test_still_forms_are_escaped():
    view = RunMonitor(Fake(steps=2))
    assert "<b>ok" not in view.fallback()
    assert "&lt;b&gt;ok" in view.fallback()
    assert "1,000 tokens/s" in view.describe()
    assert "took 1 min 01 s" in view.describe() or "left" in view.describe()


def test_durations():
    assert [duration(s) for s in (0.2, 59.6, 3599, 7260, None, float("inf"))] == [
        "0 s",
        "1 min 00 s",
        "59 min 59 s",
        "2 h 01 min",
        "unknown",
        "unknown",
    ]


def test_a_tree_is_no_live_run():
    with pytest.raises(InputError, match=r"slt\.view"):
        RunMonitor({})
    with pytest.raises(InputError, match="interval"):
        RunMonitor(Fake(), interval=3)
