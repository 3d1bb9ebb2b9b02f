"""What does one hold while a run goes on?  A `Run`: wait, look, pause, stop, read."""

import shutil
import threading
import weakref
from typing import Any

import xarray as xr

from slt_notebook import names
from slt_notebook.results.tree import open_run
from slt_notebook.runs.background import Background
from slt_notebook.runs.execute.threads import threads_sharing_cores
from slt_notebook.runs.execute.worker import Job, run_chains
from slt_notebook.runs.plan.memory import MemoryPlan


class Run(Background):
    """A run that goes on, has stopped or is finished.

    Attributes:
        task: what it does.
        path: where its store is, or None if it lives in memory.
        memory: what it holds in memory and how its work is cut.
    """

    def __init__(
        self,
        job: Job,
        blocks: list[tuple[int, ...]],
        executor: Any,
        memory: MemoryPlan,
        temporary: bool,
    ):
        self.task = job.task
        self.memory = memory
        self.path = None if temporary else job.store.path
        if temporary:
            weakref.finalize(self, shutil.rmtree, job.store.path.parent, ignore_errors=True)
        self._job = job
        self._blocks = blocks
        self._executor = executor
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="slt-run", daemon=True)
        # A daemon thread dies with the interpreter; the store then resumes from its last flush.

    # What it does -------------------------------------------------------------------------------

    def _work(self) -> None:
        job = self._job
        try:
            if self._executor is not None:
                futures = [self._executor.submit(run_chains, job, b) for b in self._blocks]
                _collect(job, futures)
            elif len(self._blocks) == 1:
                run_chains(job, self._blocks[0])
            else:
                with threads_sharing_cores(len(self._blocks)) as pool:
                    _collect(job, [pool.submit(run_chains, job, b) for b in self._blocks])
            job.board.finish(*self._verdict())
        except BaseException as error:  # reported by wait(), never swallowed
            self._error = error
            job.board.finish("failed", f"{type(error).__name__}: {error}")
            if job.seat is not None:
                job.seat.stop_all()
        finally:
            self.close()

    def _verdict(self) -> tuple[str, str]:
        board = self._job.board
        if board.stopping:
            where = f"store={str(self.path)!r}" if self.path else "a store=... (this one had none)"
            return "stopped", (
                f"stopped; every finished draw is kept. To go on, call sample again with {where} "
                "and the same settings."
            )
        codes, since = self._job.store.status(range(len(self.task.chains)))
        dead = [
            f"chain {c} {names.STATUS_TEXT[int(code)]} (step {step})"
            for c, code, step in zip(self.task.chains, codes, since, strict=True)
            if code != names.STATUS_OK
        ]
        return "finished", "; ".join([*dead, *self.memory.fit.halved, *self.compiled])

    # Verbs --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Lets go of the store, at the end or where nothing is to begin."""
        if self._job.seat is not None:
            self._job.seat.leave()
        self._job.writer.shutdown(wait=True)
        self._job.store.close()
        self._done.set()

    def pause(self) -> None:
        """Stands still after the current step, until `resume`."""
        self._job.board.pause()

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._job.board.resume()

    def cancel(self, timeout: float | None = 60) -> None:
        """Stops after the current step and writes what is done; `sample` can go on later."""
        self._job.board.stop()
        self._done.wait(timeout)

    @property
    def compiled(self) -> list[str]:
        """What was compiled, how long that took, and from how many calls on it pays."""
        found = self._job.potential.compiler
        return [] if found is None else list(found.notes)

    @property
    def finished(self) -> bool:
        return self._job.board.progress()["stage"] in ("finished", "stopped", "failed")

    @property
    def tree(self) -> xr.DataTree:
        """The run as labelled arrays: groups `sampling` and `probe/<name>`."""
        tree = open_run(self._job.store.path)
        # A temporary store goes with this handle; a tree that outlives it must hold its values.
        return tree if self.path is not None else tree.load()

    def progress(self) -> dict:
        """A snapshot: stage, step(s), draw(s), tokens_per_s, seconds_left, chains, loss, ..."""
        return self._job.board.progress()

    def __repr__(self) -> str:
        p = self.progress()
        where = self.path if self.path is not None else "in memory"
        return (
            f"<Run {p['stage']}: {len(self.task.chains)} chains, draw {p['draw']} of {p['draws']}, "
            f"{where}>{' ' + p['message'] if p['message'] else ''}"
        )

    def _repr_html_(self) -> str:
        from slt_notebook.views.card import run_card

        return run_card(self.tree, path=self.path, progress=self.progress())


def _collect(job: Job, futures: list) -> None:
    """Waits for all; when one fails the others stop at their next step, and keep what they did."""
    first = None
    for future in futures:
        try:
            future.result()
        except BaseException as error:
            first = first or error
            job.board.stop()
    if first is not None:
        raise first
