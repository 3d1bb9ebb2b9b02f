"""`slt.sample`: prepares a run, starts it, and shows how far it is."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from slt_notebook import names
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.types import Floats, Kernel
from slt_notebook.errors import Diverged
from slt_notebook.models.probes import Probe
from slt_notebook.results.result import remedies
from slt_notebook.runs.handle import Run
from slt_notebook.runs.plan.settings import Settings, Speed, check_keywords
from slt_notebook.runs.prepare import start_run
from slt_notebook.runs.show import is_interactive, watch_run
from slt_notebook.runs.sweep import run_sweep
from slt_notebook.runs.sweep_handle import Sweep


@in_plain_modes
def sample(
    loss,
    data: Probe | Mapping[str, Probe],
    *,
    probes: Sequence[Probe] = (),
    components: str | Sequence[str] | None = None,
    checkpoints: Any = None,
    kernel: Kernel | None = Settings.kernel,
    nbeta: Floats | None = Settings.nbeta,
    gamma: Floats = Settings.gamma,
    chains: int | Sequence[int] = Settings.chains,
    draws: int = Settings.draws,
    burnin: int = Settings.burnin,
    thin: int = Settings.thin,
    batch_size: int = Settings.batch_size,
    batches: str = Settings.batches,
    seed: int = Settings.seed,
    probe_dtype: str = Settings.probe_dtype,
    store: str | Path | None = None,
    device: str | torch.device = Speed.device,
    chain_chunk: int | None = Speed.chain_chunk,
    compile: bool | str = Speed.compile,
    executor: Any = Speed.executor,
    blocking: bool = True,
    progress: bool | None = None,
    **unknown: Any,
) -> Run | Sweep:
    """Sample the local posterior around trained weights.

        p(w) ~ exp(-nbeta L(w) - gamma/2 |w - w*|^2)

    Noise and batches are pure functions of (seed, chain, step).  With a `store`, a run that was
    stopped continues where it was, bit-equal on a CPU; one with more `draws` is extended; any other
    difference is an error that lists it.

    Args:
        loss: from `slt.causal_lm`, `slt.supervised` or `slt.loss_fn`.  The model behind it is left
            untouched.
        data: the examples whose mean loss is L: a probe, a dataset of Hugging Face, a torch
            `Dataset` or `DataLoader` (its collate function is used, its shuffling is not), a pair
            (inputs, targets) of arrays, or token ids.
        probes: examples whose losses are recorded at every draw, each as `data`.
        components: which coordinates move: a name of `slt.components(model)`, a glob over them
            (`"l*.h*"`), a union (`"l0.attn+l1.mlp"`) or `"param:<glob over parameters>"`.  A
            string is one run; a **list** is one run per component, see `slt.sweep`.  None: all
            weights that take gradients (`"trainable"`); where none or all do, `"full"`.
        checkpoints: several checkpoints of a training run, see `slt.sweep`.
        kernel: for instance `slt.SGLD(step_size=1e-3, metric=slt.RMSProp())`.
        nbeta: inverse temperature times data size, one or one per chain; n / log n by default,
            n the number of examples.  At 0 (for all chains) draws of SGLD are independent, from its
            exact law: the control with which every estimate is compared.
        gamma: strength of the localization, one or one per chain.
        chains: how many, or their indices.
        draws: number of draws; draw d is the position after `burnin + (d + 1) * thin` steps.
        burnin: steps before the first draw.
        thin: steps per draw.
        batch_size: examples per step; all of `data` makes the gradient exact.
        batches: `"per_chain"`, or `"shared"` (as devinterp does; it makes R-hat too small).
        seed: of noise and batches.
        probe_dtype: "float16" or "bfloat16" measures probes with products in half precision, for a
            GPU; on `tiny-lm` losses move by .0019 or .015 nat rms.  The chains do not change.
        store: folder of the Zarr store; None keeps the run in memory.
        device: `"auto"`, or a torch device.
        chain_chunk: chains per batched gradient; None chooses.
        compile: compile gradients and probe evaluations with `torch.compile` (a mode, or True);
            `run.compiled` says how long that took and after how many calls it pays.  The draws stay
            the same to rounding.
        executor: something with `submit` that runs in this process (threads); chains are then
            split into blocks.
        blocking: wait for the end; else return at once.
        progress: show progress; None does so in a terminal or a notebook.
        unknown: any other keyword is refused, with the nearest ones that exist.

    Returns:
        A `Run` (or a `Sweep`); `run.tree` is the result.  Ctrl-C stops it and keeps what is done.

    Raises:
        InputError, ComponentError, NotReproducible: bad input, before any work starts.
        StoreMismatch, StoreError: the store holds another run, is in use, or cannot be written.
        Diverged: no chain is left.
    """
    check_keywords(unknown, list(inspect.signature(sample).parameters)[:-1], "slt.sample")
    settings = Settings(
        kernel=kernel, nbeta=nbeta, gamma=gamma, chains=chains, draws=draws, burnin=burnin,
        thin=thin, batch_size=batch_size, batches=batches, seed=seed, probe_dtype=probe_dtype,
    )  # fmt: skip
    speed = Speed(device=device, chain_chunk=chain_chunk, compile=compile, executor=executor)
    if (
        checkpoints is not None
        or isinstance(data, Mapping)
        or not (components is None or isinstance(components, str))
    ):
        return run_sweep(
            loss, data, probes, components, checkpoints, settings, speed, store, blocking, progress
        )
    run = start_run(loss, data, probes, components, settings, speed, store)
    if not blocking:
        run.stop_at_exit()
        return run
    try:
        if is_interactive() if progress is None else progress:
            watch_run(run)
        else:
            run.wait()
    except KeyboardInterrupt:
        run.cancel()
        print(run.progress()["message"], file=sys.stderr)
    run.raise_error()
    _raise_if_all_diverged(run)
    return run


def _raise_if_all_diverged(run: Run) -> None:
    p = run.progress()
    if p["stage"] == "finished" and all(c["status"] != "ok" for c in p["chains"]):
        texts = {c["status"] for c in p["chains"]}
        codes = [code for code, text in names.STATUS_TEXT.items() if text in texts]
        raise Diverged(
            f"{p['message']}. No chain is left. What to do: {remedies(codes)} (step_size is now "
            f"{run.task.step_sizes()[0]:g}); draws before the divergence are in the store."
        )
