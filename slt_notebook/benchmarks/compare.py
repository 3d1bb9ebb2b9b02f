"""Compare samplers and step sizes on problems with known answers: many runs, one dataset."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.benchmarks.problem import Problem
from slt_notebook.core.types import Kernel
from slt_notebook.errors import Diverged, InputError, say
from slt_notebook.estimators.llc.llc import chain_llc, llc
from slt_notebook.runs.sample import sample

SAMPLER, PROBLEM = "sampler", "problem"


def run(
    samplers: Mapping[str, Kernel] | Sequence[Kernel],
    problems: Sequence[Problem],
    step_sizes: Sequence[float],
    *,
    nbeta: float | Mapping[str, float] = 1e5 / np.log(1e5),
    gamma: float = 1.0,
    chains: int = 2,
    steps: int = 2000,
    burnin: int | None = None,
    batch_size: int | None = None,
    truth: str = "lambda",
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> xr.Dataset:
    """Sample every problem with every sampler at every step size, and compare with the truth.

    All step sizes of a sampler are chains of one run; a chain that diverges does not affect the
    others and is recorded as not finite.

        relative_error     = (estimate - truth) / truth, with its sign
        order_preservation = share of pairs of problems with truth_i < truth_j (by more than
                             rounding) for which estimate_i < estimate_j; a pair with an estimate
                             that is not finite counts as not preserved

    Args:
        samplers: kernels, by name or in a list (then called by their class and metric); their own
            step sizes are not used.
        problems: from `slt.benchmarks`, with names that differ.
        step_sizes: positive numbers.
        nbeta: one number, or one per problem name; the default is that of 100,000 examples.
        gamma: strength of the localization.
        chains: per sampler, problem and step size.
        steps: of every chain, burn-in included.
        burnin: how many of the steps are left out; None leaves out half of them.
        batch_size: examples per step; None takes the problem's own (all of the data if small).
        truth: `"lambda"`, or `"finite"`: the exact value at this nbeta and gamma where the problem
            has one, and lambda where not.
        seed: of everything.
        device: as in `slt.sample`.
        progress: print a line per sampler and problem.

    Returns:
        Dataset over (sampler, step_size, problem): `estimate`, `mcse`, `relative_error`, `ess`,
        `ess_per_gradient`, `rhat`, `virial`, `seconds` (of a chain, as its share of the run);
        with `chain` besides: `chain_estimate` and `finite`; over (sampler, step_size):
        `order_preservation`, `finite_share`, `median_error` (of absolute relative errors, infinite
        for what is not finite); and over problem, as coordinates: `truth`, `learning_coefficient`,
        `certified` and `why` in words, `parameters`, `nbeta`.  A chain that did not stay finite is
        NaN.

    Raises:
        InputError: no samplers, problems or step sizes; names that repeat.

    References: Hitchcock and Hoogland 2025 (arXiv:2507.21449).
    """
    kernels = _named(samplers)
    _check(kernels, problems, step_sizes, truth, steps)
    burnin = steps // 2 if burnin is None else burnin
    sizes = [float(s) for s in step_sizes]
    how = {"steps": steps, "burnin": burnin, "seed": seed, "device": device}
    how["batch_size"] = batch_size
    cells: list[xr.Dataset] = []
    for label, kernel in kernels.items():
        row: list[xr.Dataset] = []
        for problem in problems:
            value = nbeta[problem.name] if isinstance(nbeta, Mapping) else nbeta
            began = time.perf_counter()
            tree = _sampled(problem, kernel, sizes, value, gamma, chains, **how)
            seconds = time.perf_counter() - began
            row.append(_cells(tree, sizes, chains, steps, seconds))
            if progress:
                print(f"{label}, {problem.name}: {seconds:.1f} s", flush=True)
        cells.append(xr.concat(row, PROBLEM))
    out = xr.concat(cells, xr.DataArray(list(kernels), dims=SAMPLER, name=SAMPLER))
    values = [nbeta[p.name] if isinstance(nbeta, Mapping) else nbeta for p in problems]
    goal = np.array([_truth(p, v, gamma, truth) for p, v in zip(problems, values, strict=True)])
    out = out.assign_coords(
        {
            PROBLEM: [p.name for p in problems],
            "truth": (PROBLEM, goal),
            "learning_coefficient": (PROBLEM, [p.learning_coefficient for p in problems]),
            "certified": (PROBLEM, [p.certified for p in problems]),
            "why": (PROBLEM, [p.why for p in problems]),
            "parameters": (PROBLEM, [p.dim for p in problems]),
            names.NBETA: (PROBLEM, np.asarray(values, float)),
        }
    )
    out = summarize(out)
    out.attrs = {
        names.A_KIND: "sampler_benchmark",
        names.GAMMA: gamma, "steps": steps, names.A_BURNIN: burnin, "seed": seed, "truth": truth,
        "kernels": "; ".join(f"{k}: {v!r}" for k, v in kernels.items()),
        names.A_SOURCE: "arXiv:2507.21449",
    }  # fmt: skip
    return out.transpose(SAMPLER, names.STEP_SIZE, PROBLEM, names.CHAIN)


def summarize(data: xr.Dataset) -> xr.Dataset:
    """Add what follows from the estimates: errors, finite share, order preservation."""
    out = data.copy()
    out["relative_error"] = (out.estimate - out.truth) / out.truth
    out["median_error"] = abs(out.relative_error).fillna(np.inf).median(PROBLEM)
    out["finite_share"] = out.finite.mean([PROBLEM, names.CHAIN])
    dims = (SAMPLER, names.STEP_SIZE)
    estimates = out.estimate.transpose(*dims, PROBLEM).values
    kept = np.apply_along_axis(order_preservation, 2, estimates, out.truth.values)
    out["order_preservation"] = (dims, kept)
    return out


def order_preservation(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Share of the pairs with different truths that the estimates order alike; NaN without pairs.

    >>> order_preservation(np.array([1.0, 3.0, 2.0]), np.array([1.0, 2.0, 3.0])).round(3)
    np.float64(0.667)
    """
    below = truth[:, None] < truth[None] * (1 - 1e-9)
    if not below.any():
        return np.float64(np.nan)
    with np.errstate(invalid="ignore"):
        kept = estimate[:, None] < estimate[None]
    return kept[below].mean()


def _sampled(
    problem, kernel, sizes, nbeta, gamma, chains, *, steps, burnin, batch_size, seed, device
) -> xr.Dataset:
    several: Any = replace(kernel, step_size=tuple(s for s in sizes for _ in range(chains)))  # pyright: ignore
    going = sample(
        problem.loss, problem.data, kernel=several, nbeta=nbeta, gamma=gamma,
        chains=chains * len(sizes), draws=steps - burnin, burnin=burnin, seed=seed,
        batch_size=batch_size or problem.batch_size, device=device, progress=False, blocking=False,
    )  # fmt: skip
    # `wait` and not a blocking call: that all chains diverged is a result here, not an error.
    return going.wait()[names.SAMPLING].to_dataset()


def _cells(sampling: xr.Dataset, sizes, chains: int, steps: int, seconds: float) -> xr.Dataset:
    """Return the estimates of one run, its chains taken apart by step size."""
    share = seconds / (chains * len(sizes))
    parts: list[xr.Dataset] = []
    for number in range(len(sizes)):
        part = sampling.isel({names.CHAIN: slice(number * chains, (number + 1) * chains)})
        finite = part[names.STATUS].values == names.STATUS_OK
        each = np.full(chains, np.nan)
        pooled = dict.fromkeys(("mean", "mcse", "ess", "rhat", "virial"), np.nan)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a constant trace has no R-hat
                found = llc(part)
            each = chain_llc(found).values
            pooled = {key: float(found[key]) for key in pooled}
        except (Diverged, InputError):
            pass  # nothing finite left: NaN says so
        if not finite.all():
            pooled["mean"] = np.nan  # a setting at which a chain may be lost has no estimate
        gradients = chains * (steps - sampling.attrs[names.A_BURNIN])
        parts.append(
            xr.Dataset(
                {
                    "chain_estimate": (names.CHAIN, each),
                    "finite": (names.CHAIN, finite),
                    "estimate": ((), pooled["mean"]),
                    "mcse": ((), pooled["mcse"]),
                    "ess": ((), pooled["ess"]),
                    "ess_per_gradient": ((), pooled["ess"] / gradients),
                    "rhat": ((), pooled["rhat"]),
                    "virial": ((), pooled["virial"]),
                    "seconds": ((), share),
                },
                {names.CHAIN: np.arange(chains)},
            )
        )
    return xr.concat(parts, xr.DataArray(sizes, dims=names.STEP_SIZE, name=names.STEP_SIZE))


def _truth(problem: Problem, nbeta: float, gamma: float, truth: str) -> float:
    if truth == "finite" and problem.value is not None:
        return problem.exact(nbeta, gamma)
    return problem.learning_coefficient


def _named(samplers: Mapping[str, Kernel] | Sequence[Kernel]) -> dict[str, Any]:
    if isinstance(samplers, Mapping):
        return dict(samplers)
    out: dict[str, Any] = {}
    kernels: Sequence[Any] = [samplers] if hasattr(samplers, "step_size") else samplers
    for kernel in kernels:
        metric = type(kernel.metric).__name__
        name = type(kernel).__name__ + ("" if metric == "Identity" else f" + {metric}")
        while name in out:
            name += "'"
        out[name] = kernel
    return out


def _check(kernels, problems, step_sizes, truth: str, steps: int) -> None:
    labels = [p.name for p in problems]
    if not kernels or not labels or not len(step_sizes):
        raise InputError(
            say(
                f"{len(kernels)} samplers, {len(labels)} problems, {len(step_sizes)} step sizes",
                "at least one of each",
                "pass [slt.SGLD()], slt.benchmarks.networks('1k', 4), [1e-7, 1e-6]",
            )
        )
    if len(set(labels)) != len(labels):
        raise InputError(
            say("problems with the same name", "distinct names", "pass each problem once")
        )
    if truth not in ("lambda", "finite"):
        raise InputError(say(f"truth={truth!r}", "'lambda' or 'finite'", "choose one"))
    if steps < 8:
        raise InputError(say(f"steps={steps}", "at least 8", "pass steps=2000"))
