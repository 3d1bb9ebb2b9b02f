"""Posterior gain and variance of the loss of every example."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.estimators.array import mixing
from slt_notebook.estimators.array.grouped_error import covariance_deviations, grouped_error
from slt_notebook.estimators.array.moments import Traces, by_chain, centre
from slt_notebook.estimators.deprecated import UNIT, renamed
from slt_notebook.estimators.losses import gather
from slt_notebook.results.result import resolve
from slt_notebook.results.selection import excluded_text, pick, result_dims


@renamed(**UNIT)
def loss_moments(run: Any, *, probe: Any = None, unit: str = "sequence") -> xr.Dataset:
    """Return the posterior loss gain and variance of every example.

        gain(x) = E[l(x; w)] - l(x; w*),     variance(x) = Var l(x; w) = K(x, x)

    over draws from the local posterior.  Both grow where the model is unsure, and are much larger
    for examples that contradict the rest of the data (wrong labels).  Summed over the training set
    the variances are Watanabe's functional variance, a term of WAIC.

    Args:
        run: A run, or a probe Dataset.
        probe: A probe's name, example ids, or a (part of a) probe; the only probe if None.
        unit: "sequence" (losses summed over tokens) or "token".

    Returns:
        Dataset over (example[, token]): `gain`, `gain_stderr` (`sd / sqrt(ESS)`, which includes
        the spread between chains), `variance` (within chains), `variance_stderr` (from groups of
        draws, see `loss_kernel`), `ess`, `rhat` (NaN for one chain), `init_loss`.  nats, nats^2.

    Raises:
        InputError: Unknown names.  Diverged: No chain with two finite draws.

    References: Adam et al. 2025 (arXiv:2509.26537); Watanabe 2010 (arXiv:1004.2316).
    """
    result = resolve(run)
    data = pick(result, probe)
    raw = gather(data[names.LOSS], unit=unit, skip=result.diverged)
    traces = centre(raw)
    dims, coords, sizes = result_dims(data, unit)
    init = data[names.INIT_LOSS].transpose(*(d for d in ("example", "token") if d in data.sizes))
    start = np.asarray(init.values, np.float64)
    if unit == "sequence" and start.ndim == 2:
        start = np.where(np.isnan(start).all(1), np.nan, np.nansum(start, 1))
    start = start.ravel()
    x = by_chain(raw)
    shape = tuple(sizes.values())
    with np.errstate(invalid="ignore"):
        mean = x.mean((0, 1), dtype=np.float64)
        effective = mixing.ess(x)
        error = x.std((0, 1), dtype=np.float64) / np.sqrt(effective)
    found = {
        "gain": np.where(traces.usable, mean - start, np.nan),
        "gain_stderr": error,
        "variance": traces.sd**2,
        "variance_stderr": _variance_error(traces),
        "ess": effective,
        "rhat": mixing.rhat(x),
        "init_loss": start,
    }
    attrs = {
        names.A_FORMULA: "E[l] - l(w*); Var l",
        names.A_SOURCE: "arXiv:2509.26537",
        "units": "nat, nat^2",
        "chains": traces.chains,
        "draws": len(traces.z),
        "functional_variance": float(np.nansum(traces.sd**2)),
        "excluded": excluded_text(result.diverged),
    }
    return xr.Dataset({k: (dims, v.reshape(shape)) for k, v in found.items()}, coords, attrs)


def _variance_error(traces: Traces) -> np.ndarray:
    square = lambda z: np.einsum("ij,ij->j", z, z, dtype=np.float64)
    shares = [square(traces.z[g]) / traces.freedom for g in traces.groups]
    whole = np.nan_to_num(traces.sd) ** 2
    error = grouped_error(covariance_deviations(shares, traces.weights, whole))
    return np.where(traces.usable, error, np.nan)
