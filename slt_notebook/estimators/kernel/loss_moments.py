"""Which examples are hard, and which are mislabelled?  Gain and variance of every loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.estimators.array import mixing as _mixing
from slt_notebook.estimators.array import moments as _moments
from slt_notebook.results import selection as _pick


def loss_moments(run: Any, *, probe: Any = None, level: str = "sequence") -> xr.Dataset:
    """Posterior loss gain and variance of every example.

        gain(x) = E[l(x; w)] - l(x; w*),     variance(x) = Var l(x; w) = K(x, x)

    over draws from the local posterior.  Both grow where the model is unsure, and are much larger
    for examples that it fits against the rest of the data (wrong labels).  Summed over the training
    set the variances are Watanabe's functional variance, from which WAIC is made.

    Args:
        run: A run, or a probe Dataset.
        probe: A probe's name, example ids, or a (part of a) probe; the only probe if None.
        level: "sequence" (losses summed over tokens) or "token".

    Returns:
        Dataset over (example[, token]): `gain`, `gain_stderr` (`sd / sqrt(ESS)`, which sees the
        spread between chains), `variance` (within chains), `variance_stderr` (from groups of
        draws, see `loss_kernel`), `ess`, `rhat` (NaN for one chain), `init_loss`.  nats, nats^2.

    Raises:
        InputError: Unknown names.  Diverged: No chain with two finite draws.

    References: Adam et al. 2025 (arXiv:2509.26537); Watanabe 2010 (arXiv:1004.2316).
    """
    data = _pick.pick(run, probe)
    raw = _moments.gather(
        data[names.LOSS], level=_pick.check_level(level), skip=tuple(_pick.skipped(run))
    )
    traces = _moments.centre(raw)
    dims, coords, sizes = _pick.result_dims(data, level)
    init = data[names.INIT_LOSS].transpose(*(d for d in ("example", "token") if d in data.sizes))
    start = np.asarray(init.values, np.float64)
    if level == "sequence" and start.ndim == 2:
        start = np.where(np.isnan(start).all(1), np.nan, np.nansum(start, 1))
    start = start.ravel()
    x = _square(raw)
    shape = tuple(sizes.values())
    with np.errstate(invalid="ignore"):
        mean = x.mean((0, 1), dtype=np.float64)
        effective = _mixing.ess(x)
        error = x.std((0, 1), dtype=np.float64) / np.sqrt(effective)
    found = {
        "gain": np.where(traces.usable, mean - start, np.nan),
        "gain_stderr": error,
        "variance": traces.sd**2,
        "variance_stderr": _variance_error(traces),
        "ess": effective,
        "rhat": _mixing.rhat(x),
        "init_loss": start,
    }
    attrs = {
        names.A_FORMULA: "E[l] - l(w*); Var l",
        names.A_SOURCE: "arXiv:2509.26537",
        "units": "nat, nat^2",
        "chains": traces.chains,
        "draws": len(traces.z),
        "functional_variance": float(np.nansum(traces.sd**2)),
        "excluded": _pick.joined([f"chain {c}: {t}" for c, t in _pick.skipped(run).items()]),
    }
    return xr.Dataset({k: (dims, v.reshape(shape)) for k, v in found.items()}, coords, attrs)


def _square(raw: _moments.Raw) -> np.ndarray:
    """`[chain, draw, series]` of the chains with at least half of the longest's draws."""
    labels, counts = np.unique(raw.chain, return_counts=True)
    kept = labels[counts * 2 >= counts.max()]
    length = counts[np.isin(labels, kept)].min()
    if len(kept) * length == len(raw.x):
        return raw.x.reshape(len(kept), length, -1)
    return np.stack([raw.x[raw.chain == c][:length] for c in kept])


def _variance_error(traces: _moments.Traces) -> np.ndarray:
    total = np.zeros(traces.series)
    variance = np.nan_to_num(traces.sd) ** 2
    for g in traces.groups:
        share = np.einsum("ij,ij->j", traces.z[g], traces.z[g], dtype=np.float64) / traces.freedom
        total += (share - variance * (g.stop - g.start) / len(traces.z)) ** 2
    count = len(traces.groups)
    factor = count / (count - 1) if count > 1 else np.nan
    return np.where(traces.usable, np.sqrt(factor * total), np.nan)
