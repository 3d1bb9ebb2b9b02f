"""Calibrated settings and samplers on problems with known answers: the shipped results.

    slt-notebook experiment benchmarks calibrated OUT.zarr   60 networks, nothing told
    slt-notebook experiment benchmarks samplers OUT.zarr     the benchmark, 1k to 100k
    slt-notebook experiment benchmarks samplers OUT.zarr --sizes 1M 10M 100M   (a GPU)
    slt-notebook experiment benchmarks language-model OUT.nc   tiny-lm, three seeds

The first two write a Zarr dataset after every network, so that an interrupted run loses one at most
and goes on where it stood.  The tutorials open the results that ship beside them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.benchmarks.compare import PROBLEM, order_preservation, run, summarize
from slt_notebook.benchmarks.planted import networks
from slt_notebook.experiments import argument_parser

COUNTS = {"1k": 40, "10k": 18, "100k": 2}
"""Networks of each class that `calibrated` takes."""

SEED = 11
"""Of the networks shown; the rules of `calibrate` were made on networks of the seeds 100 and 7."""

STEPS = {"1k": 1000, "10k": 600, "100k": 200}
"""Of `sampled`: with `SWEPT`, what two cores do in ten minutes."""

SWEPT = {"1k": 8, "10k": 4, "100k": 1, "1M": 8, "10M": 4, "100M": 2}
LANGUAGE_MODEL: dict[str, Any] = {
    "nbetas": (100.0, 300.0), "gammas": (3000.0,), "steps": 300, "batch_size": 16, "rounds": 1,
}  # fmt: skip
"""For `tiny-lm`: what two cores do in four minutes."""

SWEEP = tuple(float(v) for v in np.geomspace(1e-8, 1e-5, 7))


def samplers() -> dict[str, Any]:
    """Return the samplers of the benchmark, by name."""
    import slt_notebook as slt

    return {
        "SGLD": slt.SGLD(),
        "RMSProp SGLD, eps 1": slt.SGLD(metric=slt.RMSProp(eps=1.0)),
        "RMSProp SGLD, eps 0.1": slt.SGLD(metric=slt.RMSProp(eps=0.1)),
        "Adam SGLD, eps 1": slt.SGLD(metric=slt.Adam(eps=1.0)),
        "SGHMC": slt.SGHMC(friction=0.1),
        "SGHMC, friction 0.03": slt.SGHMC(friction=0.03),
        "SGNHT": slt.SGNHT(friction=0.1),
    }


def calibrated(path: Path, counts: dict[str, int] = COUNTS, seed: int = SEED) -> xr.Dataset:
    """`slt.calibrate` with nothing told on certified networks, against their exact coefficient.

    Returns:
        Dataset over problem: `estimate`, `mcse`, `lower`, `upper`, `ok`, `seconds`, `reason`,
        `truth`, `parameters`, `size`, and the setting `step_size`, `nbeta`, `gamma`.
    """
    import slt_notebook as slt

    done = _opened(path)
    rows = [done.isel({PROBLEM: [k]}) for k in range(done.sizes[PROBLEM])] if done else []
    known = {str(row[PROBLEM].item()) for row in rows}
    for size, count in counts.items():
        for problem in networks(size, count, seed=seed, certified=True):
            if problem.name in known:
                continue
            began = time.perf_counter()
            found = slt.calibrate(problem.loss, problem.data)
            value = found.llc or dict.fromkeys(("mean", "mcse", "lower", "upper"), np.nan)
            one = {
                "estimate": value["mean"], "mcse": value["mcse"], "lower": value["lower"],
                "upper": value["upper"], "ok": found.ok,
                "seconds": time.perf_counter() - began, "reason": found.reason,
                "truth": problem.learning_coefficient, "parameters": problem.dim, "size": size,
                "step_size": found.kernel.step_size if found.kernel else np.nan,
                "nbeta": found.nbeta or np.nan, "gamma": found.gamma or np.nan,
            }  # fmt: skip
            data = xr.Dataset(
                {k: (PROBLEM, [v]) for k, v in one.items()}, {PROBLEM: [problem.name]}
            )
            rows.append(data)
            _save(xr.concat(rows, PROBLEM), path)
            error = value["mean"] / problem.learning_coefficient - 1
            print(
                f"{problem!r}: {value['mean']:.4g} ({error:+.1%}), {one['seconds']:.0f} s",
                flush=True,
            )
    return xr.concat(rows, PROBLEM)


def figures(data: xr.Dataset) -> dict[str, float]:
    """The figures of `calibrated`: absolute relative errors, order, coverage, share found."""
    found = data.isel({PROBLEM: np.flatnonzero(data.ok.values)})
    error = abs(found.estimate / found.truth - 1)
    inside = (found.lower <= found.truth) & (found.truth <= found.upper)
    return {
        "networks": data.sizes[PROBLEM],
        "found": float(data.ok.mean()),
        "median_error": float(error.median()),
        "p90_error": float(error.quantile(0.9)),
        "order_preservation": float(order_preservation(found.estimate.values, found.truth.values)),
        "coverage": float(inside.mean()),
    }


def sampled(
    path: Path, sizes: Sequence[str] = ("1k", "10k", "100k"), count: int | None = None
) -> xr.Dataset:
    """`slt.benchmarks.run` of all samplers and step sizes, one chain each.

    Takes `count` networks of each class, or as many as `SWEPT` says; any network of the class, as
    in the paper, whether its exact coefficient is certified at the planted point or not (the
    coordinate `certified` says which).
    """
    done = _opened(path)
    rows = [done.isel({PROBLEM: [k]}) for k in range(done.sizes[PROBLEM])] if done else []
    known = {str(row[PROBLEM].item()) for row in rows}
    said = ", ".join(f"{STEPS.get(size, 5000)} ({size})" for size in sizes)
    for size in sizes:
        for problem in networks(size, count or SWEPT[size], seed=SEED):
            if problem.name in known:
                continue
            began = time.perf_counter()
            row = run(samplers(), [problem], SWEEP, chains=1, steps=STEPS.get(size, 5000))
            row = row.drop_vars(["order_preservation", "finite_share", "median_error"])
            row["size"] = (PROBLEM, [size])
            row.attrs |= {"steps": said, names.A_BURNIN: "half"}
            rows.append(row)
            _save(summarize(xr.concat(rows, PROBLEM)), path)
            print(f"{problem!r}: {time.perf_counter() - began:.0f} s", flush=True)
    return summarize(xr.concat(rows, PROBLEM))


def language_model(path: Path, seeds: Sequence[int] = (0, 1, 2)) -> xr.Dataset:
    """`slt.calibrate` on `tiny-lm` with several seeds: is the verdict the same?

    Returns:
        The evidence of each over (seed, gamma, nbeta, share), with `seconds`, `reason`, `ok`,
        `estimate` and `mcse` over seed.
    """
    import slt_notebook as slt

    model, tokenizer = slt.load("tiny-lm")
    data = slt.text_probe("train", slt.probe_texts("tiny-lm"), tokenizer, length=128)
    rows: list[xr.Dataset] = []
    for seed in seeds:
        began = time.perf_counter()
        found = slt.calibrate(slt.causal_lm(model), data, seed=seed, **LANGUAGE_MODEL)
        value = found.llc or dict.fromkeys(("mean", "mcse"), np.nan)
        row = found.evidence.drop_vars("trace").assign(
            seconds=time.perf_counter() - began, ok=found.ok, reason=found.reason,
            estimate=value["mean"], mcse_estimate=value["mcse"],
            chosen_nbeta=found.nbeta or np.nan, chosen_gamma=found.gamma or np.nan,
        )  # fmt: skip
        rows.append(row)
        print(f"seed {seed}, {float(row.seconds):.0f} s: {found.reason}", flush=True)
    out = xr.concat(rows, xr.DataArray(list(seeds), dims="seed", name="seed"))
    for name, variable in out.variables.items():
        if variable.dtype.kind == "b":
            out[str(name)] = variable.astype("i1")
    out.to_netcdf(path, engine="scipy")
    return out


def _opened(path: Path) -> xr.Dataset | None:
    if not path.exists():
        return None
    data = xr.open_zarr(path, consolidated=False, chunks=None).load()
    derived = [v for v in ("order_preservation", "finite_share", "median_error") if v in data]
    return data.drop_vars(derived)


def _save(data: xr.Dataset, path: Path) -> None:
    """Written beside its place and moved there, so that a stop leaves the last whole one."""
    fresh = path.with_name(f".{path.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    data = data.copy()
    for name, variable in data.variables.items():
        variable.encoding = {}
        if variable.dtype.kind == "U":  # texts of fixed width have no place in Zarr's standard
            data[name] = variable.astype(object)
    data.to_zarr(fresh, mode="w", consolidated=False)
    shutil.rmtree(path, ignore_errors=True)
    fresh.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("benchmarks", __doc__)
    parser.add_argument("what", choices=("calibrated", "samplers", "language-model"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", nargs="+", default=None)
    parser.add_argument("--count", type=int, default=None)
    chosen = parser.parse_args(arguments)
    if chosen.what == "calibrated":
        counts = {s: chosen.count or COUNTS.get(s, 4) for s in chosen.sizes or COUNTS}
        for name, value in figures(calibrated(chosen.out, counts)).items():
            print(f"{name:20} {value:.3f}")
    elif chosen.what == "language-model":
        language_model(chosen.out)
    else:
        data = sampled(chosen.out, chosen.sizes or ("1k", "10k", "100k"), chosen.count)
        print(
            data[["median_error", "order_preservation", "finite_share"]].to_dataframe().to_string()
        )
