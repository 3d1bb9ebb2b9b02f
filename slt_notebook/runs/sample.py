"""How does one sample?  `sample(...)`: prepares a run, starts it, and shows how far it is."""

import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from slt_notebook.core.types import Floats, Kernel
from slt_notebook.errors import Diverged
from slt_notebook.models.probes import Probe
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.handle import Run
from slt_notebook.runs.plan import partition as plan
from slt_notebook.runs.plan.prepare import check_inputs, prepare
from slt_notebook.runs.plan.task import refuse_unknown


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
