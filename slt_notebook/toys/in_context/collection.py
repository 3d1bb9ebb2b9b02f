"""Collect runs of in-context regression: one PCA, curves and final LLCs.

    slt-notebook experiment in-context-collection --runs FOLDER --out transience.nc

`FOLDER` is what `training.py` wrote.  What is shipped beside the tutorial was made by this.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.training.trajectory import trajectory_pca

CURVES = ("ood", "ood_se", "to_dmmse", "to_ridge", "loss")


def read(folder: str | Path) -> dict[tuple[int, str], xr.Dataset]:
    """`(seed, tasks) -> run` of a folder, fewest tasks first.

    Raises:
        InputError: no runs in it.
    """
    found = {}
    for path in sorted(Path(folder).glob("M*_seed*.zarr")):
        run = xr.open_zarr(path, consolidated=False)
        found[int(run.attrs["seed"]), str(run.attrs["tasks"])] = run
    if not found:
        raise InputError(say(f"no runs in {folder}", "M*_seed*.zarr", "train some first"))
    return dict(sorted(found.items(), key=lambda item: (item[0][0], float(item[0][1]))))


def collect(folder: str | Path, components: int = 4) -> xr.Dataset:
    """All runs of a folder for `slt.TransienceView`.

    The PCA is joint over the runs of one seed (they share the root task and its sequences), on the
    outputs for all of them; components of different seeds are different axes.

    Returns:
        Dataset over `seed, run, step, position, component`; NaN where a seed has no such run.
    """
    runs = read(folder)
    seeds = sorted({seed for seed, _ in runs})
    parts = []
    for seed in seeds:
        own = {tasks: run for (s, tasks), run in runs.items() if s == seed}
        goals = {f"dMMSE {m}": run.dmmse for m, run in own.items() if m != "inf"}
        goals["ridge"] = next(iter(own.values())).ridge
        pca = trajectory_pca(
            {m: run.output for m, run in own.items()}, predictors=goals, components=components
        )
        goal = {str(k): pca.predictor_score.sel(predictor=k, drop=True) for k in goals}
        rows = [_row(run, pca.score.sel(run=m, drop=True), goal, m) for m, run in own.items()]
        one = xr.concat(rows, "run").assign_coords(run=list(own))
        parts.append(one.assign(explained=pca.explained))
    out = xr.concat(parts, "seed", join="outer").assign_coords(seed=seeds)
    order = sorted(out["run"].values, key=lambda m: float(str(m)))
    first = next(iter(runs.values()))
    return out.sel(run=order).assign_attrs(
        recipe=first.attrs["recipe"], parameters=int(first.attrs["parameters"]),
        sequences=first.sizes["example"], **{names.A_KIND: "transience"},
    )  # fmt: skip


def _row(run: xr.Dataset, score: xr.DataArray, goal: dict, tasks: str) -> xr.Dataset:
    curves = run[[*CURVES, "dmmse_loss", "ridge_loss"]].load()
    curves["ood"] = curves.ood.mean("position")
    return curves.assign(
        score=score.astype(np.float32),
        dmmse_ood=run.dmmse_ood.mean(),
        ridge_ood=run.ridge_ood.mean(),
        dmmse_score=goal["ridge" if tasks == "inf" else f"dMMSE {tasks}"],
        ridge_score=goal["ridge"],
    ).drop_attrs()


def final_llcs(folder: str | Path) -> xr.Dataset:
    """LLC of every run's last weights, on its training distribution: `llc`, `llc_mcse`.

    nbeta 30, gamma 300 as in `toys/compression.py`; the paper's own settings are not known here.
    """
    from slt_notebook.core.kernels.sgld import SGLD
    from slt_notebook.estimators.llc.llc import llc
    from slt_notebook.runs.sample import sample
    from slt_notebook.toys.in_context import local

    rows = []
    for (seed, tasks), run in read(folder).items():
        found = llc(
            sample(
                local.loss(run), local.probe(run, 4096, 12), kernel=SGLD(5e-4), nbeta=30.0,
                gamma=300.0, chains=4, draws=100, burnin=40, batch_size=128, progress=False,
            )
        )  # fmt: skip
        values = {"llc": float(found["mean"]), "llc_mcse": float(found["mcse"])}
        print(seed, tasks, values, flush=True)
        rows.append(xr.Dataset(values).expand_dims(seed=[seed], run=[tasks]))
    found = xr.combine_by_coords(rows)
    assert isinstance(found, xr.Dataset)  # datasets combine to a dataset
    return found


def outputs(folder: str | Path, sequences: int = 32) -> xr.Dataset:
    """Return outputs of all runs of the first seed, and of the predictors, on a few root sequences.

    Enough to do the PCA oneself: it is insensitive to the batch from 16 sequences on.
    """
    runs = read(folder)
    seed = min(s for s, _ in runs)
    few = lambda value: value.isel(example=slice(0, sequences)).load()
    own = {tasks: run for (s, tasks), run in runs.items() if s == seed}
    put = lambda key: xr.concat([few(run[key]) for run in own.values()], "run")
    found = xr.Dataset({"output": put("output"), "dmmse": put("dmmse")})
    found["ridge"] = few(next(iter(own.values())).ridge)
    return found.assign_coords(run=list(own))


def last_weights(folder: str | Path) -> xr.Dataset:
    """A run as `local.loss` reads it, cut down to its last weights: that of M = 16, first seed."""
    run = read(folder)[min(s for s, _ in read(folder)), "16"]
    cut = run[["weights"]].isel(step=[-1]).load()
    return cut.assign_attrs({k: run.attrs[k] for k in ("tasks", "seed", "sizes")})
