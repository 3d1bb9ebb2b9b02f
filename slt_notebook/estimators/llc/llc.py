"""How degenerate is the loss around the trained weights?  The local learning coefficient (LLC)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.array import mixing as _mixing
from slt_notebook.results.steps import Steps, steps_after_burnin


def llc(
    run: Any, *, burnin: int | None = None, level: float = 0.95, unpaired: bool = False
) -> xr.Dataset:
    """The local learning coefficient with its uncertainty.

        llc = nbeta * mean over steps after burn-in of ( L_B(w) - L_B(w*) )

    for the very batch B of each step: the **paired** baseline, whose batch noise cancels.  It
    estimates `lambda(nbeta, gamma) = nbeta (E[L(w)] - L(w*))` under the localized tempered
    posterior, which approaches the learning coefficient only as nbeta grows and gamma / nbeta
    falls.  Authors of the method trust the order of values at one setting, not their size.

    The interval is the wider of a t interval from MCSE and ESS and one from batch means
    (`_mixing.half_width`), hence at least 2 MCSE on each side and often a little more.  It covers
    Monte Carlo error, not the bias of a large step or of a burn-in that was too short: see
    `health`.

    Args:
        run: A run, finished or not, or its group `sampling`.
        burnin: Steps to leave out; the run's own burn-in if None.
        level: Of the interval.
        unpaired: For comparison, subtract one number from all steps instead of each batch's own:
            the mean of the baseline over all steps.  Its own error is not counted, which favours
            it.

    Returns:
        Dataset with `llc(chain)` (NaN where left out), `mean`, `mcse`, `ess`, `rhat`, `virial`
        (1 at equilibrium), `virial_mcse`, `interval(bound)`, `n_chains`, `n_steps`.
        Without units (nats of free energy per log n).  `rhat` is NaN for one chain, and the pooled
        values are NaN when the chains do not share nbeta, gamma and step_size (attrs["pooled"]).
        attrs["excluded"] names the chains left out.

    Raises:
        InputError: Fewer than 2 steps after burn-in.  Diverged: No chain left.

    References: Lau et al. 2023 (arXiv:2308.12108); R-hat, ESS, MCSE: Vehtari et al. 2021
    (arXiv:1903.08008).
    """
    if not 0 < level < 1:
        raise InputError(say(f"level={level}", "between 0 and 1", "use level=0.95"))
    steps = steps_after_burnin(run, burnin)
    values = gains(steps, unpaired)
    reason = steps.comparable()
    pooled = _pooled(values, level) if not reason else dict.fromkeys(_POOLED, np.nan)
    chains = steps.data.sizes[names.CHAIN]
    each = np.full(chains, np.nan)
    each[steps.used] = values.mean(1)
    interval = pooled["mean"] + np.array([-1.0, 1.0]) * pooled.pop("half")
    variables = {"llc": (names.CHAIN, each)} | {k: ((), v) for k, v in pooled.items()}
    variables |= {k: ((), v) for k, v in _virial(steps).items()}
    variables["interval"] = ("bound", interval)
    variables["n_chains"] = ((), len(steps.used))
    variables["n_steps"] = ((), values.shape[1])
    keep = {k: v for k, v in steps.data.coords.items() if v.dims == (names.CHAIN,)}
    attrs = {
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


def gains(steps: Steps, unpaired: bool = False) -> np.ndarray:
    """`nbeta (L_B(w) - L_B(w*))` of every step used, `[chain, step]`."""
    own = steps.series(names.INIT_LOSS)
    base = np.nanmean(steps.whole(names.INIT_LOSS)) if unpaired else own
    return steps.nbeta()[:, None] * (steps.series(names.LOSS) - base)


def summary(values: np.ndarray) -> dict[str, float]:
    """Mean, MCSE, ESS and R-hat of one quantity, `[chain, step]`, through ArviZ.

    A quantity that never changes has MCSE 0, as many effective steps as steps, and no R-hat.
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
    return found | {"half": _mixing.half_width(values, found["mcse"], found["ess"], level)}


def _virial(steps: Steps) -> dict[str, float]:
    if names.VIRIAL not in steps.data:
        return {"virial": np.nan, "virial_mcse": np.nan}
    values = steps.series(names.VIRIAL)
    if not np.isfinite(values).all():
        return {"virial": np.nan, "virial_mcse": np.nan}
    found = summary(values)
    return {"virial": found["mean"], "virial_mcse": found["mcse"]}
