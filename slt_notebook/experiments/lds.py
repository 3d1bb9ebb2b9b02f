"""Attribution methods against retraining on digits, with the cost of each, in one run.

    slt-notebook experiment lds OUT.nc [RETRAINED.nc]      ten minutes, two cores

Trains 100 subsets x 3 initialisations for each of three fractions (or reads RETRAINED, and writes
it where it does not exist), then scores: gradient dot product and cosine, exact damped Gauss-Newton
influence, EK-FAC and TRAK where they are installed, and the Bayesian influence, for which the
screens choose gamma: the smallest of a grid whose short run passes `slt.screen` without a failure.
Seconds are CPU seconds of this process on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from slt_notebook.core.kernels.sgld import SGLD
from slt_notebook.errors import InputError
from slt_notebook.estimators.influence.influence import influence
from slt_notebook.estimators.influence.screens import screen
from slt_notebook.experiments import argument_parser
from slt_notebook.runs.sample import sample
from slt_notebook.toys import attribution
from slt_notebook.toys.datamodels import lds
from slt_notebook.toys.retraining import Retraining, digits_problem, retrain

NBETA = 1000.0
SMALL, LARGE = 2e-4, 8e-4  # step sizes: for comparison with theory, and for mixing
GRID = (300.0, 100.0, 30.0, 10.0)
LONG = {"chains": 64, "draws": 225}
SHORT = {"chains": 32, "draws": 100}


def bayesian(problem: Retraining, params, gamma: float, step: float, **length: Any):
    """A run around the trained network with both sides as probes; all of the data as one batch."""
    burnin = int(min(3000, 6 / (step * gamma)))  # six relaxation times of the flat directions
    return sample(
        problem.loss(params), problem.train, probes=[problem.train, problem.query],
        kernel=SGLD(step), nbeta=NBETA, gamma=gamma, burnin=burnin,
        batch_size=len(problem.train), progress=False, **length,
    )  # fmt: skip


def scores_of(run, normalize: bool = False) -> np.ndarray:
    found = influence(
        run, query="query", train="train", unit="sequence", normalize=normalize, stderr=False
    )
    return found["influence"].values


def experiment(out: str, retrained: str | None = None) -> None:
    torch.set_num_threads(1)
    problem = digits_problem()
    path = Path(retrained) if retrained else None
    if path and path.exists():
        models = xr.load_dataset(path, engine="scipy")
        models["mask"] = models["mask"].astype(bool)
    else:
        models = retrain(problem)
        if path:
            models.assign(mask=models["mask"].astype("i1")).to_netcdf(path, engine="scipy")
    params = {k: v[0] for k, v in problem.fit().items()}
    scores: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.process_time()
        try:
            scores[name] = call()
        except InputError as missing:
            print(f"{name}: left out, {missing}", flush=True)
            return
        seconds[name] = time.process_time() - start
        row = lds(scores={name: scores[name]}, retrained=models)
        shown = ", ".join(
            f"{v:.3f} +- {e:.3f}"
            for v, e in zip(row.lds[0].values, row.stderr[0].values, strict=True)
        )
        print(f"{name:34} {shown}   {seconds[name]:.1f} s", flush=True)

    timed("gradient dot product", lambda: attribution.gradient_dot(problem, params))
    timed("gradient cosine", lambda: attribution.gradient_cosine(problem, params))
    for d in (0.1, 0.03, 0.01):
        timed(
            f"exact influence, damping {d:g}",
            lambda d=d: attribution.exact_influence(problem, params, [d])[d],
        )
    timed("EK-FAC (kronfluence)", lambda: attribution.ekfac(problem, params))
    weights = torch.ones(1, len(problem.train))
    many = problem.fit(weights, range(50, 55))
    others = [{k: v[i] for k, v in many.items()} for i in range(5)]
    timed("TRAK (traker), 1 model", lambda: attribution.trak(problem, [params]))
    timed("TRAK (traker), 5 models", lambda: attribution.trak(problem, others))
    passed = []
    for gamma in GRID:
        start = time.process_time()
        run = bayesian(problem, params, gamma, LARGE, thin=20, **SHORT)
        found = screen(run, query="query", train="train", unit="sequence")
        spent = time.process_time() - start
        print(f"screens at gamma {gamma:g}: {found.attrs['verdict']}, {spent:.0f} s")
        print(found[["check", "value", "verdict"]].to_string(), flush=True)
        short = f"BIF, gamma {gamma:g}, step {LARGE:g}, 3,200 draws"
        timed(short, lambda run=run: scores_of(run))
        seconds[short] = spent
        if found.attrs["verdict"] != "fail":
            passed.append(gamma)
    chosen = min(passed, default=GRID[0])
    print(f"chosen by the screens: gamma {chosen:g}", flush=True)
    for gamma, step, thin in ((100.0, SMALL, 10), (chosen, LARGE, 20)):
        start = time.process_time()
        run = bayesian(problem, params, gamma, step, thin=thin, **LONG)
        spent = time.process_time() - start
        of = f"gamma {gamma:g}, step {step:g}, 14,400 draws"
        timed(f"BIF, {of}", lambda run=run: scores_of(run))
        timed(f"BIF correlation, {of}", lambda run=run: scores_of(run, True))
        seconds[f"BIF, {of}"] += spent
        seconds[f"BIF correlation, {of}"] += spent
    found = lds(scores=scores, retrained=models)
    found["seconds"] = ("attribution", [seconds[m] for m in found.attribution.values])
    found.attrs |= {"nbeta": NBETA, "chosen_gamma": chosen}
    print(found[["lds", "stderr", "seconds"]].to_dataframe().round(3).to_string())
    print("ceiling", found.ceiling.values.round(3))
    found.drop_vars("by_query").astype("f4").to_netcdf(out, engine="scipy")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("lds", __doc__)
    parser.add_argument("out", metavar="OUT.nc")
    parser.add_argument("retrained", metavar="RETRAINED.nc", nargs="?")
    given = parser.parse_args(arguments)
    experiment(given.out, given.retrained)
