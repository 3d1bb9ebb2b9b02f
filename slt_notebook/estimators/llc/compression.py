"""Critical compression levels, and their fits on the LLC and other predictors.

The measurements come from `slt.critical_compression`; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.llc.llc import pooled_llc

# Not "tolerance": that is a keyword of xarray's own `sel`, which would then select nothing.
LEVEL, TOLERANCE, BOUND = "level", "epsilon", "bound"
Z95 = 1.959963984540054


def crossing(levels, gap, tolerance: float, *, log: bool, between: bool = True) -> float:
    """Return the compression level at which the gap first rises above `tolerance`.

    Between the two levels that bracket the crossing, the level (its logarithm if `log`) is
    interpolated linearly in the logarithm of the gap, or in the gap where that is not positive;
    without `between` it is the last level within the tolerance.

    Args:
        levels: `[level]`, from the least compression on.
        gap: `[level]`, rise of the loss.
        tolerance: Of the rise.
        log: Interpolate in the logarithm of the level.
        between: Interpolate between levels.

    Returns:
        The level; -inf if the first one is above the tolerance already, inf if none is.

    >>> crossing([1.0, 2.0, 3.0], [0.01, 0.1, 1.0], 0.1, log=False)
    2.0
    """
    gap = np.asarray(gap, float)
    above = gap > tolerance
    if not above.any():
        return float("inf")
    k = int(above.argmax())
    if k == 0:
        return float("-inf")
    if not between:
        return float(levels[k - 1])
    place = np.log if log else (lambda v: v)
    back = np.exp if log else (lambda v: v)
    low, high = gap[k - 1], gap[k]
    if low > 0 and np.isfinite(high):
        share = (np.log(tolerance) - np.log(low)) / (np.log(high) - np.log(low))
    else:
        share = (tolerance - low) / (high - low) if np.isfinite(high) else 0.0
    a, b = place(float(levels[k - 1])), place(float(levels[k]))
    return float(back(a + share * (b - a)))


def crossings(
    levels, gap, stderr, tolerances, *, log: bool, between: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return critical levels `[tolerance]` and their 95 % intervals `[tolerance, 2]`, ascending.

    The interval has the crossings of `gap +- 1.96 stderr` as its ends: it is about other examples
    of the same distribution, not about other weights.

    Args:
        levels: `[level]`, from the least compression on.
        gap: `[level]`, rise of the loss.
        stderr: `[level]`, of the gap.
        tolerances: `[tolerance]`.
        log: As in `crossing`.
        between: As in `crossing`.
    """
    gap, stderr = np.asarray(gap, float), np.asarray(stderr, float)
    one = lambda g, t: crossing(levels, g, t, log=log, between=between)
    found = np.array([one(gap, t) for t in tolerances])
    ends = [[one(gap + s * Z95 * stderr, t) for s in (-1, 1)] for t in tolerances]
    if levels[0] > levels[-1]:  # a larger level is less compression: swap what was never crossed
        flip = lambda v: -v if np.isinf(v) else v
        found = np.array([flip(v) for v in found])
        ends = [[flip(v) for v in pair] for pair in ends]
    return found, np.sort(np.array(ends), axis=1)


def compression_series(
    steps: Sequence[float],
    sweeps: Sequence[Mapping[str, xr.Dataset]],
    llcs: Sequence[xr.Dataset],
    controls: Mapping[str, Sequence[float]] | None = None,
) -> xr.Dataset:
    """Return measurements at several checkpoints as one Dataset, for `slt.CompressionView`.

    Args:
        steps: Of the checkpoints.
        sweeps: For each checkpoint, label -> what `slt.critical_compression` returned; the same
            labels, levels and tolerances every time.
        llcs: For each checkpoint what `slt.llc` returned.
        controls: Name -> one number per checkpoint (trace of the Hessian, ...).

    Returns:
        Dataset `gap`, `gap_stderr (step, scheme, level)`, `knob (scheme, level)` (NaN where a
        scheme has fewer levels), `critical (step, scheme, epsilon)`, `interval`, `loss (step)`,
        `llc (step)`, `llc_mcse (step)` and the controls; `log`, `grid` and `unit (scheme)` say how
        to read the knob.

    Raises:
        InputError: Different lengths, labels or levels.
    """
    sizes = {"steps": len(steps), "sweeps": len(sweeps), "llcs": len(llcs)}
    sizes |= {name: len(values) for name, values in (controls or {}).items()}
    if len(set(sizes.values())) != 1 or not len(steps):
        raise InputError(say(f"lengths {sizes}", "one entry per checkpoint", "align them"))
    labels = list(sweeps[0])
    for one in sweeps:
        levels = all(k in one and one[k][LEVEL].equals(sweeps[0][k][LEVEL]) for k in labels)
        if list(one) != labels or not levels:
            raise InputError(say(f"sweeps {list(one)}", f"{labels}, equal levels", "sweep alike"))
    widest = max(sweeps[0][k].sizes[LEVEL] for k in labels)

    def padded(found: xr.Dataset) -> xr.Dataset:
        part = found[["gap", "gap_stderr", "critical", "interval"]].drop_vars(LEVEL)
        return part.pad({LEVEL: (0, widest - part.sizes[LEVEL])}, constant_values=np.nan)

    rows = [xr.concat([padded(one[k]) for k in labels], "scheme") for one in sweeps]
    out = xr.concat(rows, names.STEP).assign_coords({names.STEP: list(steps), "scheme": labels})
    first = [sweeps[0][k] for k in labels]
    knob = np.full((len(labels), widest), np.nan)
    for k, found in enumerate(first):
        knob[k, : found.sizes[LEVEL]] = found[LEVEL].values
    loss = [float(one[labels[0]][names.INIT_LOSS]) for one in sweeps]
    out = out.assign(
        knob=(("scheme", LEVEL), knob),
        log=("scheme", [int(f.attrs["log"]) for f in first]),
        grid=("scheme", [int("bits" in f) for f in first]),
        unit=("scheme", [str(f.attrs["unit"]) for f in first]),
        loss=(names.STEP, loss),
        llc=(names.STEP, [float(pooled_llc(found)) for found in llcs]),
        llc_mcse=(names.STEP, [float(found["mcse"]) for found in llcs]),
    )
    out = out.assign({k: (names.STEP, np.asarray(v, float)) for k, v in (controls or {}).items()})
    return out.assign_attrs({names.A_KIND: "compression"})


def compression_fit(
    response: Any, predictors: Mapping[str, Any], *, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return how well each predictor accounts for critical bits in a linear fit of its own.

    R^2 of the least-squares line and Spearman's rank correlation, with 95 % percentile intervals
    from resampling the points.  Checkpoints of one run are not independent: the intervals are
    those of a sample of checkpoints, and are too narrow for another run.  All quantities that
    change over training correlate with each other, so compare the LLC with controls (log step,
    loss, trace of the Hessian).

    Args:
        response: `[point]` critical bits (or another critical level); points that are not finite
            are left out for every predictor.
        predictors: Name -> `[point]`.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        One row per predictor: `r2`, `r2_low`, `r2_high`, `spearman`, `spearman_low`,
        `spearman_high`, `slope`, `intercept`, `points`.

    Raises:
        InputError: Fewer than 4 points, or different lengths.

    References: Urdshals et al. 2025 (arXiv:2510.12077).
    """
    y = np.asarray(response, float)
    columns = {name: np.asarray(value, float) for name, value in predictors.items()}
    wrong = {k: v.shape for k, v in columns.items() if v.shape != y.shape}
    if y.ndim != 1 or wrong:
        raise InputError(say(f"shapes {y.shape} and {wrong}", "one value per point", "align them"))
    use = np.isfinite(y) & np.all([np.isfinite(v) for v in columns.values()], axis=0)
    if use.sum() < 4:
        raise InputError(say(f"{int(use.sum())} finite points", "4 or more", "add checkpoints"))
    y = y[use]
    draws = np.random.default_rng(seed).integers(0, len(y), (resamples, len(y)))
    rows = {}
    for name, value in columns.items():
        x = value[use]
        slope, intercept = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (np.nan, np.nan)
        r2, rank = _r2(x[None], y[None]), _spearman(x[None], y[None])
        spread = [_r2(x[draws], y[draws]), _spearman(x[draws], y[draws])]
        (r_low, r_high), (s_low, s_high) = (np.nanquantile(v, (0.025, 0.975)) for v in spread)
        rows[name] = {
            "r2": r2[0], "r2_low": r_low, "r2_high": r_high,
            "spearman": rank[0], "spearman_low": s_low, "spearman_high": s_high,
            "slope": slope, "intercept": intercept, "points": len(y),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("predictor")


def _r2(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared correlation of each row; NaN where one does not vary."""
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    scale = (x**2).sum(1) * (y**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (x * y).sum(1) ** 2 / scale, np.nan)


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (x * y).sum(1) / scale, np.nan)
