"""How does one sample?  `sample(...)`, and the `Run` that it gives back at once or when done."""

import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch.utils._pytree import tree_leaves

from slt_notebook import names
from slt_notebook.core.compiled import compiler
from slt_notebook.core.potential import Potential
from slt_notebook.core.types import Floats, Kernel
from slt_notebook.errors import Diverged, InputError, say
from slt_notebook.estimators.tree import open_run
from slt_notebook.models.probes import Probe
from slt_notebook.runs import plan
from slt_notebook.runs.control import Board
from slt_notebook.runs.cores import threads_sharing_cores
from slt_notebook.runs.memory import MemoryPlan, memory_plan_of
from slt_notebook.runs.probing import evaluate
from slt_notebook.runs.shared import Inputs, Shared
from slt_notebook.runs.store import RunStore
from slt_notebook.runs.task import Task, default_kernel, make_task, refuse_unknown
from slt_notebook.runs.worker import Job, run_chains


class Run:
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
        # An event, and not `join`: in CPython 3.11 a Ctrl-C inside `join` marks a living thread
        # as dead, and every later `join` returns at once.
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

    def start(self) -> "Run":
        self._thread.start()
        return self

    def wait(self, timeout: float | None = None) -> xr.DataTree:
        """Waits for the end (at most `timeout` seconds) and returns the tree so far.

        Raises:
            Exception: whatever stopped the run (a full disk, say); draws written before are kept.
        """
        self._done.wait(timeout)
        if self._error is not None:
            raise self._error
        return self.tree

    def inspect(self) -> xr.DataTree:
        """The tree as it is now; what is not yet drawn is NaN."""
        return self.tree

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


def sample(
    loss,
    data: Probe | Mapping[str, Probe],
    *,
    probes: Sequence[Probe] = (),
    components: str | Sequence[str] = "full",
    checkpoints: Any = None,
    kernel: Kernel | None = None,
    nbeta: Floats | None = None,
    gamma: Floats = 100.0,
    chains: int | Sequence[int] = 4,
    draws: int = 200,
    burnin: int = 0,
    thin: int = 1,
    batch_size: int = 32,
    batches: str = "per_chain",
    seed: int = 0,
    probe_dtype: str = "float32",
    store: str | Path | None = None,
    device: str | torch.device = "auto",
    chain_chunk: int | None = None,
    compile: bool | str = False,
    executor: Any = None,
    blocking: bool = True,
    progress: bool | None = None,
    **unknown: Any,
):
    """Samples the local posterior around trained weights.

        p(w) ~ exp(-nbeta L(w) - gamma/2 |w - w*|^2)

    Noise and batches are pure functions of (seed, chain, step).  With a `store`, a run that was
    stopped goes on where it was, bit-equal on a CPU; one with more `draws` continues; any other
    difference is an error that lists it.

    Args:
        loss: from `slt.causal_lm`, `slt.supervised` or `slt.loss_fn`.  The model behind it is left
            untouched.
        data: the examples whose mean loss is L.
        probes: examples whose losses are recorded at every draw.
        components: which coordinates move: a name of `slt.components(model)`, a glob over them
            (`"l*.h*"`), a union (`"l0.attn+l1.mlp"`) or `"param:<glob over parameters>"`.  A
            string is one run; a **list** is one run per component, see `slt.sweep`.
        checkpoints: several points of a training, see `slt.sweep`.
        kernel: for instance `slt.SGLD(step_size=1e-3, metric=slt.RMSProp())`.
        nbeta: inverse temperature times data size, one or one per chain; n / log n by default,
            n the number of examples.  At 0 (of all chains) draws of SGLD are independent, from its
            exact law: the control that every estimate is held against.
        gamma: strength of the localization, one or one per chain.
        chains: how many, or their indices.
        draws, burnin, thin: draw d is the position after `burnin + (d + 1) * thin` steps.
        batch_size: examples per step; all of `data` makes the gradient exact.
        batches: `"per_chain"`, or `"shared"` (as devinterp does; it flatters R-hat).
        seed: of noise and batches.
        probe_dtype: "float16" or "bfloat16" measures probes with products in half precision, for a
            GPU; on `tiny-lm` losses move by .0019 or .015 nat rms.  The chains stay as they are.
        store: folder of the Zarr store; None keeps the run in memory.
        device: `"auto"`, or a torch device.
        chain_chunk: chains per batched gradient; None chooses.
        compile: compile gradients and probe evaluations with `torch.compile` (a mode, or True);
            `run.compiled` says what that took and after how many calls it pays.  The draws stay
            the same to rounding.
        executor: something with `submit` that runs in this process (threads); chains are then
            split into blocks.
        blocking: wait for the end; else return at once.
        progress: show it; None does so where somebody looks (a terminal or a notebook).

    Returns:
        A `Run` (or a `Sweep`); `run.tree` is the result.  Ctrl-C stops it and keeps what is done.

    Raises:
        InputError, ComponentError, NotReproducible: bad input, before any work starts.
        StoreMismatch, StoreError: the store holds another run, is in use, or cannot be written.
    """
    refuse_unknown(unknown, list(sample.__annotations__), "slt.sample")
    settings = {
        "kernel": kernel, "nbeta": nbeta, "gamma": gamma, "chains": chains, "draws": draws,
        "burnin": burnin, "thin": thin, "batch_size": batch_size, "batches": batches,
        "seed": seed, "probe_dtype": probe_dtype, "chain_chunk": chain_chunk, "compile": compile,
        "executor": executor,
    }  # fmt: skip
    if checkpoints is not None or isinstance(data, Mapping) or not isinstance(components, str):
        from slt_notebook.runs.sweep import sweep

        return sweep(
            loss, data, probes=probes, components=components, checkpoints=checkpoints,
            store=store, device=device, blocking=blocking, progress=progress, **settings,
        )  # fmt: skip
    probes = check_inputs(loss, data, probes)
    where = plan.pick_device(device, next(iter(loss.params.values())).device)
    run = prepare(
        Shared(loss, data, probes, where, probe_dtype), components, store, **settings
    ).start()
    show = somebody_looks() if progress is None else progress
    if not blocking:
        weakref.finalize(run, run._job.board.stop)
        return run
    try:
        _watch(run) if show else run.wait()
    except KeyboardInterrupt:
        run.cancel()
        print(run.progress()["message"], file=sys.stderr)
    if run._error is not None:
        raise run._error
    complain_if_all_diverged(run)
    return run


def check_inputs(loss, data, probes) -> tuple[Probe, ...]:
    """The probes as a tuple, once loss, data and probes are of the right kinds and fit together.

    Raises:
        InputError: what is wrong, and how to make it right.
    """
    if not isinstance(data, Probe):
        raise InputError(
            say(f"data of type {type(data).__name__}", "a Probe", "make it with slt.text_probe")
        )
    if not hasattr(loss, "evaluate") or not hasattr(loss, "params"):
        raise InputError(
            say(
                f"loss of type {type(loss).__name__}",
                "a loss of the kit",
                "wrap the model: slt.causal_lm(model), slt.supervised(...) or slt.loss_fn(...)",
            )
        )
    probes = (probes,) if isinstance(probes, Probe) else tuple(probes)
    for probe in (data, *probes):
        loss.check(probe)
    return probes


_SPEED = ("chain_chunk", "compile", "executor")
"""Settings that change how fast a run is, and not what it does."""


def plan_task(shared: Shared, component: str, settings: Mapping[str, Any]) -> Task:
    """What a run of `component` would do, checked; nothing is computed or written."""
    chosen = {k: v for k, v in settings.items() if k not in _SPEED}
    size = len(shared.data)
    if chosen["nbeta"] is None:
        chosen["nbeta"] = size / np.log(size) if size > 1 else 1.0
    chosen["kernel"] = chosen["kernel"] or default_kernel()
    return make_task(
        **chosen, component=component, model=shared.fingerprint, data=shared.data,
        probes=shared.probes,
    )  # fmt: skip


def prepare(shared: Shared, component: str, store, **settings: Any) -> Run:
    """A run that has not started yet; its store is open.

    Args:
        shared: weights, data and probes, with what other runs have computed of them.
        store: a folder, or None for a run in memory.
        settings: as in `sample`.
    """
    task, space, states, blocks = shape_of(shared, component, settings)
    evaluations = task.steps * task.batch_size * len(task.chains)
    inputs = shared.at(component, evaluations)
    memory = _memory(shared, inputs, task, space, states, blocks, settings["chain_chunk"])
    memory.check()
    as_row = lambda values: torch.tensor(values, dtype=torch.float32, device=shared.device)
    potential = Potential(
        inputs.loss, space, inputs.loss.params, space.flatten(inputs.loss.params),
        as_row(task.nbeta), as_row(task.gamma), memory.fit,
        compiler(settings.get("compile"), shared.device),
    )  # fmt: skip
    if potential.compiler is not None:
        _compile(potential, inputs, task, blocks)
    folder = store if store is not None else Path(tempfile.mkdtemp(prefix="slt-")) / "run.zarr"
    run_store = RunStore(folder)
    run_store.open(task, shared.probes, {"__dim__": space.dim, **inputs.init})
    board = Board(task.chains, task.steps, task.draws, task.batch_size * shared.data.tokens)
    job = Job(
        task, inputs.loss, inputs.probe_loss, potential, inputs.data, inputs.probes,
        inputs.baseline, run_store, board, ThreadPoolExecutor(1, "slt-writer"),
    )  # fmt: skip
    return Run(job, blocks, settings["executor"], memory, temporary=store is None)


def _compile(potential: Potential, inputs: Inputs, task: Task, blocks) -> None:
    """Compiles what the run repeats, before it starts."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // len(blocks)))  # as in the workers
    try:
        batch = {key: value[: task.batch_size] for key, value in inputs.data.items()}
        for size in {len(block) for block in blocks}:
            potential.loss_and_grad(potential.center.expand(size, -1).clone(), [batch] * size)
        for probe in inputs.probes.values():
            evaluate(
                inputs.probe_loss, inputs.loss.params, probe, potential.fit, potential.compiler
            )
    finally:
        torch.set_num_threads(before)


def shape_of(shared: Shared, component: str, settings: Mapping[str, Any]):
    """Task, space, rows that the kernel keeps besides the position, blocks of chains."""
    task = plan_task(shared, component, settings)
    space = plan.resolve(component, shared.loss, None if component == "full" else shared.parts)
    work = plan.work(space.dim, task, shared.data)
    blocks = plan.blocks(len(task.chains), settings["executor"], shared.device, work)
    state = tree_leaves(task.kernel.init(torch.empty(1, space.dim, device="meta")))
    states = sum(leaf.numel() for leaf in state) // space.dim - 1
    return task, space, states, blocks


def _memory(shared: Shared, inputs: Inputs, task, space, states, blocks, chain_chunk) -> MemoryPlan:
    return memory_plan_of(
        task, inputs.loss, space, states, shared.data, shared.probes,
        {key: value[:1] for key, value in inputs.data.items()}, shared.device, len(blocks),
        chain_chunk,
    )  # fmt: skip


def complain_if_all_diverged(run: Run) -> None:
    p = run.progress()
    if p["stage"] == "finished" and all(c["status"] != "ok" for c in p["chains"]):
        raise Diverged(
            f"{p['message']}. No chain is left. What to do: a smaller step_size (now "
            f"{run.task.step_sizes()[0]:g}), a smaller nbeta or a larger gamma; draws before the "
            "divergence are in the store."
        )


def somebody_looks() -> bool:
    return in_notebook() or sys.stderr.isatty()


def in_notebook() -> bool:
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return bool(shell) and type(shell).__name__ == "ZMQInteractiveShell"


def _watch(run: Run) -> None:
    """Shows progress until the run ends: a monitor in a notebook, one line in a terminal."""
    if in_notebook():
        from IPython.display import display

        from slt_notebook.views.monitor import RunMonitor

        monitor = RunMonitor(run)
        display(monitor)
        while not run._done.wait(0.2):
            pass
        monitor.refresh()  # what is saved with the notebook is the end of the run
        return
    from tqdm.auto import tqdm

    with tqdm(total=run.task.steps, unit="step", file=sys.stderr) as bar:
        while not run._done.wait(0.2):
            _tick(bar, run.progress())
        _tick(bar, run.progress())


def _tick(bar, p: dict) -> None:
    bar.set_description(p["stage"], refresh=False)
    bar.set_postfix_str(f"draw {p['draw']}/{p['draws']}, {p['tokens_per_s']:,.0f} tokens/s")
    bar.update(p["step"] - bar.n)
    time.sleep(0)
