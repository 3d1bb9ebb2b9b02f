"""The handle of a run: wait, look, pause, stop, read."""

import shutil
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NoReturn, Self

import xarray as xr

from slt_notebook import names
from slt_notebook.results.store import open_run
from slt_notebook.runs import show
from slt_notebook.runs.background import Background, refuse_to_pickle
from slt_notebook.runs.execute.job import Job
from slt_notebook.runs.execute.threads import threads_sharing_cores
from slt_notebook.runs.execute.worker import run_chains
from slt_notebook.runs.plan.memory import MemoryPlan


class Run:
    """A run that is ready to start, is sampled, was stopped or is finished.

    Attributes:
        task: what is sampled.
        path: folder of its store, or None if it lives in memory.
        memory: what it holds in memory, and how its work is divided.
    """

    def __init__(
        self,
        job: Job,
        blocks: Sequence[tuple[int, ...]],
        executor: Any,
        memory: MemoryPlan,
        temporary: bool,
    ):
        """Return a run that has not started.

        Args:
            job: what its workers share; its store is open.
            blocks: places of the chains of each worker in `job.task.chains`.
            executor: what runs the workers, or None for threads of the run's own.
            memory: the plan by which the work is divided.
            temporary: whether the store is removed with this handle.
        """
        self.task = job.task
        self.memory = memory
        self.path = None if temporary else job.store.path
        if temporary:
            weakref.finalize(self, shutil.rmtree, job.store.path.parent, ignore_errors=True)
        self._job = job
        self._blocks = blocks
        self._executor = executor
        self._background = Background(self._work, "slt-run")

    # The work -----------------------------------------------------------------------------------

    def _work(self) -> None:
        job = self._job
        try:
            if self._executor is not None:
                _collect(job, [self._executor.submit(run_chains, job, b) for b in self._blocks])
            elif len(self._blocks) == 1:
                run_chains(job, self._blocks[0])
            else:
                with threads_sharing_cores(len(self._blocks)) as pool:
                    _collect(job, [pool.submit(run_chains, job, b) for b in self._blocks])
            job.progress.finish(*self._outcome())
        except BaseException as error:
            job.progress.finish("failed", f"{type(error).__name__}: {error}")
            job.evaluator.abort()
            raise
        finally:
            self.close()

    def _outcome(self) -> tuple[str, str]:
        """Return the last stage and its message."""
        if self._job.progress.stopping:
            where = f"store={str(self.path)!r}" if self.path else "a store=... (this one had none)"
            return "stopped", (
                f"stopped; every finished draw is kept. To continue, call sample again with "
                f"{where} and the same settings."
            )
        codes, since = self._job.store.status(range(len(self.task.chains)))
        dead = [
            f"chain {c} {names.STATUS_TEXT[int(code)]} (step {step})"
            for c, code, step in zip(self.task.chains, codes, since, strict=True)
            if code != names.STATUS_OK
        ]
        return "finished", "; ".join([*dead, *self.memory.fit.halved, *self.compiled])

    # What one can do with it --------------------------------------------------------------------

    def start(self) -> Self:
        """Start sampling in a thread of its own, and return at once."""
        self._background.start()
        return self

    def wait(self, timeout: float | None = None) -> xr.DataTree:
        """Wait for the end (at most `timeout` seconds) and return the tree so far.

        Raises:
            Exception: whatever stopped the run (a full disk, say); draws written before are kept.
        """
        self._background.ended(timeout)
        self._background.raise_error()
        return self.tree

    def ended(self, timeout: float | None = 0) -> bool:
        """Whether the run has ended and its store is closed, after at most `timeout` seconds."""
        return self._background.ended(timeout)

    def raise_error(self) -> None:
        """Raise what stopped the run, if anything did."""
        self._background.raise_error()

    def inspect(self) -> xr.DataTree:
        """Return the tree as it is now; what is not yet drawn is NaN."""
        return self.tree

    def close(self) -> None:
        """Close the store: at the end, or of a run that is not to be started."""
        self._job.evaluator.leave()
        self._job.writer.shutdown(wait=True)
        self._job.store.close()

    def pause(self) -> None:
        """Wait after the current step, until `resume`."""
        self._job.progress.pause()

    def resume(self) -> None:
        """Continues after `pause`."""
        self._job.progress.resume()

    def request_stop(self) -> None:
        """Stop after the current step; return at once."""
        self._job.progress.stop()

    def stop_at_exit(self) -> None:
        """Stop the run when the interpreter ends, so that its last draws are written."""
        weakref.finalize(self, self._job.progress.stop)

    def cancel(self, timeout: float | None = 60) -> None:
        """Stop after the current step and write what is done; `sample` can continue it later."""
        self.request_stop()
        self._background.ended(timeout)

    @property
    def compiled(self) -> list[str]:
        """What was compiled, how long that took, and after how many calls it pays."""
        found = self._job.potential.compiler
        return [] if found is None else list(found.notes)

    @property
    def finished(self) -> bool:
        """Whether the run is finished, was stopped or has failed."""
        return self.progress()["stage"] in ("finished", "stopped", "failed")

    @property
    def tree(self) -> xr.DataTree:
        """The run as labelled arrays: groups `sampling` and `probe/<name>`."""
        tree = open_run(self._job.store.path)
        # A temporary store goes with this handle; a tree that outlives it must hold its values.
        return tree if self.path is not None else tree.load()

    def progress(self) -> dict[str, Any]:
        """A snapshot: stage, step(s), draw(s), tokens_per_s, seconds_left, chains, loss, ..."""
        return self._job.progress.snapshot()

    def __reduce__(self) -> NoReturn:
        refuse_to_pickle(self)

    def __repr__(self) -> str:
        p = self.progress()
        where = self.path if self.path is not None else "in memory"
        return (
            f"<Run {p['stage']}: {len(self.task.chains)} chains, draw {p['draw']} of {p['draws']}, "
            f"{where}>{' ' + p['message'] if p['message'] else ''}"
        )

    def _repr_html_(self) -> str:
        return show.card(self.tree, self.path, self.progress())


def _collect(job: Job, futures: Sequence[Future]) -> None:
    """Wait for all workers; when one fails, the others stop at their next step.

    Raises:
        BaseException: the first error, once all have ended; what was drawn before is kept.
    """
    first = None
    for future in futures:
        try:
            future.result()
        except BaseException as error:
            first = first or error
            job.progress.stop()
    if first is not None:
        raise first
