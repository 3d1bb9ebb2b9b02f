"""The local learning coefficient (LLC): how degenerate the loss is around the trained weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.array import mixing
from slt_notebook.results.result import resolve
from slt_notebook.results.steps import Steps, steps_after_burnin


def llc(
    run: Any, *, burnin: int | None = None, level: float = 0.95, unpaired: bool = False
) -> xr.Dataset:
    """Return the local learning coefficient (LLC) with its uncertainty.

        llc = nbeta * mean over steps after burn-in of ( L_B(w) - L_B(w*) )

    with both losses on the batch B of the step: the **paired** baseline, in which batch noise
    cancels.  It estimates `lambda(nbeta, gamma) = nbeta (E[L(w)] - L(w*))` under the localized
    tempered posterior, which approaches the learning coefficient only as nbeta grows and
    gamma / nbeta falls.  The authors of the method trust the order of values sampled with one
    setting, not their size.

    The interval is the wider of a t interval from MCSE and ESS and one from batch means
    (`mixing.half_width`), at least 2 MCSE on each side.  It covers Monte Carlo error, not the bias
    of a large step size or of a short burn-in: see `health`.

    Args:
        run: A run, finished or not, or its group `sampling`.
        burnin: Steps to leave out; the run's own burn-in if None.
        level: Confidence level of the interval.
        unpaired: For comparison, subtract one number from all steps: the mean of the baseline over
            all steps.  The interval does not include the error of that mean, and is too narrow.

    Returns:
        Dataset with `llc` (over all chains), `llc_chain(chain)` (NaN where left out), `mcse`,
        `ess`, `rhat`, `virial` (1 at equilibrium), `virial_mcse`, `interval(bound)`, `n_chains`,
        `n_steps`; `mean` is another name for `llc`.
        Without units (nats of free energy per log n).  `rhat` is NaN for one chain, and the pooled
        values are NaN when the chains do not share nbeta, gamma and step_size (attrs["pooled"]).
        attrs["excluded"] names the chains left out.
        Before `llc_chain` existed, `llc` had the dim `chain` and `mean` was the pooled value:
        `pooled_llc` and `chain_llc` read datasets of both forms.

    Raises:
        InputError: Fewer than 2 steps after burn-in.  Diverged: No chain left.

    References: Lau et al. 2023 (arXiv:2308.12108); R-hat, ESS, MCSE: Vehtari et al. 2021
    (arXiv:1903.08008).

    >>> dims = ("chain", "step")
    >>> losses = {"loss": (dims, [[1.1, 1.3, 1.1, 1.3]]), "init_loss": (dims, [[1.0] * 4])}
    >>> round(float(llc(xr.Dataset(losses, {"nbeta": ("chain", [10.0])}))["llc"]), 6)
    2.0
    """
    if not 0 < level < 1:
        raise InputError(say(f"level={level}", "between 0 and 1", "use level=0.95"))
    steps = steps_after_burnin(resolve(run), burnin)
    values = gains(steps, unpaired)
    reason = steps.difference
    pooled = _pooled(values, level) if not reason else dict.fromkeys(_POOLED, np.nan)
    chains = steps.data.sizes[names.CHAIN]
    each = np.full(chains, np.nan)
    each[steps.used] = values.mean(1)
    interval = pooled["mean"] + np.array([-1.0, 1.0]) * pooled.pop("half")
    variables: dict[str, Any] = {"llc": ((), pooled["mean"]), "llc_chain": (names.CHAIN, each)}
    variables |= {k: ((), v) for k, v in pooled.items()}
    variables |= {k: ((), v) for k, v in _virial(steps).items()}
    variables["interval"] = ("bound", interval)
    variables["n_chains"] = ((), len(steps.used))
    variables["n_steps"] = ((), values.shape[1])
    keep = {k: v for k, v in steps.data.coords.items() if v.dims == (names.CHAIN,)}
    attrs = {
        names.A_KIND: "llc",
        names.A_FORMULA: "nbeta * mean(loss - init_loss)",
        names.A_SOURCE: "arXiv:2308.12108",
        "baseline": "one number (unpaired)" if unpaired else "paired: the same batch at w*",
        "burnin": steps.start,
        "level": level,
        "pooled": f"no: {reason}" if reason else "over chains",
        "excluded": "; ".join(f"chain {k} {v}" for k, v in steps.excluded.items()) or "none",
    }
    for key in (names.A_COMPONENT, names.A_DATA_SIZE, names.A_SPACE_DIM):
        if key in steps.data.attrs:
            attrs[key] = steps.data.attrs[key]
    return xr.Dataset(variables, keep | {"bound": ["lower", "upper"]}, attrs)


_POOLED = ("mean", "mcse", "ess", "rhat", "half")


def pooled_llc(found: xr.Dataset) -> xr.DataArray:
    """Return the LLC over all chains from what `llc` returned, also from older datasets.

    >>> float(pooled_llc(xr.Dataset({"llc": ("chain", [1.0, 3.0]), "mean": 2.0})))
    2.0
    """
    pooled = "llc" in found and names.CHAIN not in found["llc"].dims
    return found["llc"] if pooled else found["mean"]


def chain_llc(found: xr.Dataset) -> xr.DataArray:
    """Return the LLC of each chain from what `llc` returned, also from older datasets.

    >>> chain_llc(xr.Dataset({"llc": ("chain", [1.0, 3.0]), "mean": 2.0})).values
    array([1., 3.])
    """
    return found["llc_chain"] if "llc_chain" in found else found["llc"]


def gains(steps: Steps, unpaired: bool = False) -> np.ndarray:
    """Return `nbeta (L_B(w) - L_B(w*))` of every step used, `[chain, step]`.

    Args:
        steps: The steps used.
        unpaired: Subtract the mean of `L_B(w*)` over all steps, burn-in included.
    """
    own = steps.series(names.INIT_LOSS)
    base = np.nanmean(steps.whole(names.INIT_LOSS)) if unpaired else own
    return steps.nbeta[:, None] * (steps.series(names.LOSS) - base)


def summary(values: np.ndarray) -> dict[str, float]:
    """Return `mean`, `mcse`, `ess` and `rhat` of one quantity `[chain, step]`, by ArviZ.

    A constant quantity has MCSE 0, an ESS of the number of steps, and no R-hat (NaN).  Below 4
    steps all but the mean are NaN.
    """
    from arviz_stats.base import array_stats  # pyright: ignore

    mean = float(values.mean())
    if values.shape[1] < 4:
        return {"mean": mean, "mcse": np.nan, "ess": np.nan, "rhat": np.nan}
    if np.ptp(values) <= np.finfo(float).resolution:
        return {"mean": mean, "mcse": 0.0, "ess": float(values.size), "rhat": np.nan}
    axes: dict[str, Any] = {"chain_axis": 0, "draw_axis": 1}
    stats: Any = array_stats
    return {
        "mean": mean,
        "mcse": float(stats.mcse(values, method="mean", **axes)),
        "ess": float(stats.ess(values, method="mean", **axes)),
        "rhat": float(stats.rhat(values, method="rank", **axes)) if len(values) > 1 else np.nan,
    }


def _pooled(values: np.ndarray, level: float) -> dict[str, float]:
    found = summary(values)
    return found | {"half": mixing.half_width(values, found["mcse"], found["ess"], level)}


def _virial(steps: Steps) -> dict[str, float]:
    if names.VIRIAL not in steps.data:
        return {"virial": np.nan, "virial_mcse": np.nan}
    values = steps.series(names.VIRIAL)
    if not np.isfinite(values).all():
        return {"virial": np.nan, "virial_mcse": np.nan}
    found = summary(values)
    return {"virial": found["mean"], "virial_mcse": found["mcse"]}
