"""Coordinates and nearest neighbours of examples in the loss kernel, without the matrix.

The kernel of N examples over D draws has rank at most D.  A map needs the thin singular value
decomposition of the `D x N` centred losses, and neighbours their products with one block of
examples at a time, so that 100,000 examples need no `N x N` matrix.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.estimators.array.grouped_error import (
    correlation_deviations,
    covariance_deviations,
    grouped_error,
)
from slt_notebook.estimators.array.moments import Traces, centre, standardized
from slt_notebook.estimators.deprecated import CENTERING, renamed
from slt_notebook.estimators.losses import gather
from slt_notebook.results.result import Result, resolve
from slt_notebook.results.selection import excluded_text, pick, result_dims

MEASURES = ("correlation", "squared", "covariance")
_ROWS = 1024  # rows of the kernel that are in memory at once


@renamed(**CENTERING)
def kernel_map(
    run: Any,
    *,
    probe: Any = None,
    modes: int = 50,
    normalize: bool = True,
    unit: str = "sequence",
    centering: str = "within",
) -> xr.Dataset:
    """Return coordinates whose inner products approximate the loss kernel best at rank `modes`.

        Z [draw, example]: losses, centred per chain;   Z / sqrt(freedom) = U S V'
        K = V S^2 V',   coordinates X = V S,   so that X X' = K

    With `normalize=True` the columns of Z have variance 1 first, X X' is the correlation kernel R
    and an example that does not vary lies at 0.  The decomposition is that of the smaller of the
    two Gram matrices (D x D or N x N), in float64.  UMAP, PCA and clustering take the rows of X;
    the distance between two of them is `sqrt(2 - 2 R)` for a normalized kernel.

    Args:
        run: A run, or a probe Dataset.
        probe: A probe's name, example ids, or a (part of a) probe; the only probe if None.
        modes: How many to keep; fewer where the rank is lower.
        normalize: R instead of K.
        unit: As in `loss_kernel`.
        centering: As in `loss_kernel`.

    Returns:
        Dataset `coordinate(example[, token], mode)`, `share(mode)` (of the trace of the kernel),
        `singular(mode)`.  NaN at padding.  Units: nats, or none with `normalize`.  Coordinates have
        no stated error: attrs["noise"] is the share that one mode of as many independent draws
        would have at most (the edge of the Marchenko-Pastur law), below which a mode is noise.

    Raises:
        InputError: Unknown names or options.  Diverged: No chain with two finite draws.

    References: Adam et al. 2025 (arXiv:2509.26537).
    """
    if modes < 1:
        raise InputError(say(f"modes={modes}", "at least 1", "pass modes=50"))
    result = resolve(run)
    data = pick(result, probe)
    traces = _traces(result, data, unit, centering, normalize)
    a = traces.z / np.float32(np.sqrt(traces.freedom))
    rows, series = a.shape
    trace = float(np.einsum("ij,ij->", a, a, dtype=np.float64))
    if rows <= series:
        values, u = np.linalg.eigh(_gram(a))
        keep = _largest(values, modes)
        x = a.T @ u[:, keep].astype(np.float32)
    else:
        values, v = np.linalg.eigh(_gram(np.ascontiguousarray(a.T)))
        keep = _largest(values, modes)
        x = (v[:, keep] * np.sqrt(values[keep])).astype(np.float32)
    x[traces.flat] = 0  # exactly, whatever the eigenvectors round to
    x[~traces.usable] = np.nan
    dims, coords, sizes = result_dims(data, unit)
    alive = int(traces.varies.sum())
    edge = (1 + np.sqrt(alive / max(traces.freedom, 1))) ** 2 / max(alive, 1)
    attrs = {
        names.A_FORMULA: "X X' = Corr(l(x), l(x'))" if normalize else "X X' = Cov(l(x), l(x'))",
        names.A_SOURCE: "arXiv:2509.26537",
        "normalized": int(normalize),
        "unit": unit,
        "chains": traces.chains,
        "draws": rows,
        "zero_variance": int(traces.flat.sum()),
        "noise": float(edge) if normalize else np.nan,
        "stderr": "none stated for coordinates",
        "excluded": excluded_text(result.diverged),
    }
    return xr.Dataset(
        {
            "coordinate": ([*dims, "mode"], x.reshape(*sizes.values(), len(keep))),
            "share": ("mode", values[keep] / trace if trace else np.zeros(len(keep))),
            "singular": ("mode", np.sqrt(np.maximum(values[keep], 0))),
        },
        coords | {"mode": np.arange(1, len(keep) + 1)},
        attrs,
    )


@renamed(**CENTERING)
def neighbours(
    run: Any,
    *,
    probe: Any = None,
    k: int = 10,
    measure: str = "correlation",
    unit: str = "sequence",
    centering: str = "within",
) -> xr.Dataset:
    """Return the `k` nearest examples of every example in the loss kernel, with standard errors.

    The search is exact; the kernel is computed in blocks of 1,024 rows.

    Args:
        run: A run, or a probe Dataset.
        probe: A probe's name, example ids, or a (part of a) probe; the only probe if None.
        k: How many; an example is not its own neighbour.
        measure: "correlation" (most alike first), "squared" (R^2: alike *or* opposite, as
            where a mechanism is shared but not the answer) or "covariance".
        unit: As in `loss_kernel`.
        centering: As in `loss_kernel`.

    Returns:
        Dataset over (example, rank): `neighbour` (position in the probe), `value` (R, R^2 keeps
        the sign of R in `value`; K for "covariance") and `stderr`.  With unit="token" the dim
        `example` counts tokens.  -1 and NaN where an example has no loss or a constant one.

    Raises:
        InputError: Unknown names or options.  Diverged: No chain with two finite draws.

    References: Adam et al. 2025 (arXiv:2509.26537).
    """
    if measure not in MEASURES:
        known = f"one of {', '.join(MEASURES)}"
        raise InputError(say(f"measure={measure!r}{nearest(measure, MEASURES)}", known, "name one"))
    result = resolve(run)
    data = pick(result, probe)
    normalize = measure != "covariance"
    traces = _traces(result, data, unit, centering, normalize)
    alive = np.flatnonzero(traces.varies)
    if not 1 <= k < len(alive):
        most = f"1 to {len(alive) - 1} (one less than the examples whose loss varies)"
        raise InputError(say(f"k={k}", most, "pass k=10"))
    total = traces.series
    found = np.full((total, k), -1)
    value = np.full((total, k), np.nan, np.float32)
    error = np.full((total, k), np.nan, np.float32)
    z = traces.z if len(alive) == total else traces.z[:, alive]
    alive_traces = replace(traces, z=z)
    for start in range(0, len(alive), _ROWS):
        own = np.arange(start, min(start + _ROWS, len(alive)))
        c = z[:, own].T @ z
        c /= np.float32(traces.freedom)
        score = np.square(c) if measure == "squared" else c
        score[np.arange(len(own)), own] = -np.inf
        best = np.argpartition(score, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(score, best, 1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, 1)
        if measure != "squared":
            c[np.arange(len(own)), own] = 0
        found[alive[own]] = alive[best]
        value[alive[own]] = np.take_along_axis(c, best, 1)
        error[alive[own]] = _errors(alive_traces, own, best, normalize)
    dims, coords, _ = result_dims(data, unit)
    names_ = coords if len(dims) == 1 else {}
    attrs = {
        names.A_FORMULA: "Corr(l(x), l(x'))" if normalize else "Cov(l(x), l(x'))",
        names.A_SOURCE: "arXiv:2509.26537",
        "measure": measure,
        "chains": traces.chains,
        "draws": len(traces.z),
        "stderr_from": f"{len(traces.groups)} groups of draws",
    }
    variables = {"neighbour": found, "value": value, "stderr": error}
    return xr.Dataset(
        {key: (("example", "rank"), v) for key, v in variables.items()},
        names_ | {"rank": np.arange(1, k + 1)},
        attrs,
    )


def _traces(result: Result, data: xr.Dataset, unit: str, centering: str, normalize: bool) -> Traces:
    raw = gather(data[names.LOSS], unit=unit, skip=result.diverged)
    traces = centre(raw, centering)
    return standardized(traces, in_place=True) if normalize else traces


def _gram(a: np.ndarray) -> np.ndarray:
    """Return `a a'` in float64, summed over blocks of columns."""
    total = np.zeros((len(a), len(a)))
    for i in range(0, a.shape[1], 4096):
        part = a[:, i : i + 4096].astype(np.float64)
        total += part @ part.T
    return total


def _largest(values: np.ndarray, modes: int) -> np.ndarray:
    rank = int((values > values[-1] * 1e-10).sum()) if values[-1] > 0 else 1
    return np.arange(len(values))[::-1][: min(modes, rank)]


def _errors(traces: Traces, own: np.ndarray, best: np.ndarray, correlation: bool) -> np.ndarray:
    """Return standard errors of single entries `[own, rank]`, see `grouped_error`."""
    z, groups, (count, k) = traces.z, traces.groups, best.shape
    shares = np.empty((len(groups), count, k), np.float32)
    for n, g in enumerate(groups):
        part = z[g]
        for r in range(k):
            products = np.einsum("ij,ij->j", part[:, own], part[:, best[:, r]])
            shares[n, :, r] = products / traces.freedom
    whole = shares.sum(0)
    if not correlation:
        return grouped_error(covariance_deviations(shares, traces.weights, whole))
    variances = [traces.variance_shares(g) for g in groups]
    rows, columns = ([v[own][:, None] for v in variances], [v[best] for v in variances])
    return grouped_error(correlation_deviations(shares, rows, columns, whole))
