"""Where does each example lie in the loss kernel, and who is near it?  Without the matrix.

The kernel of N examples over D draws has rank at most D, so that everything a map or a list of
neighbours needs is in the `D x N` centred losses: their thin singular value decomposition, and
products with one block of examples at a time.  10,000 to 100,000 examples never meet in a matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.estimators.array import moments as _moments
from slt_notebook.results import selection as _pick

MEASURES = ("correlation", "squared", "covariance")
_ROWS = 1024  # examples whose kernel rows are in memory at once


def kernel_map(
    run: Any,
    *,
    probe: Any = None,
    modes: int = 50,
    normalize: bool = True,
    level: str = "sequence",
    chains: str = "within",
) -> xr.Dataset:
    """Coordinates whose inner products are the loss kernel: its best approximation of rank `modes`.

        Z [draw, example]: losses, each chain's mean taken off;   Z / sqrt(freedom) = U S V'
        K = V S^2 V',   coordinates X = V S,   so that X X' = K

    With `normalize=True` the columns of Z have variance 1 first, X X' is the correlation kernel R
    and an example that does not vary lies at 0.  The decomposition is that of the smaller of the
    two Gram matrices (D x D or N x N), in float64.  These rows are what UMAP, PCA and clustering
    want: Euclidean distance between rows of X is `sqrt(2 - 2 R)` for normalised kernels.

    Args:
        run: A run, or a probe Dataset.
        probe: A probe's name, example ids, or a (part of a) probe; the only probe if None.
        modes: How many to keep; fewer where the rank is lower.
        normalize: R instead of K.
        level, chains: As in `loss_kernel`.

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
    data = _pick.pick(run, probe)
    traces = _traces(run, data, level, chains, normalize)
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
    dims, coords, sizes = _pick.result_dims(data, level)
    alive = int((traces.sd > 0).sum())
    edge = (1 + np.sqrt(alive / max(traces.freedom, 1))) ** 2 / max(alive, 1)
    attrs = {
        names.A_FORMULA: "X X' = Corr(l(x), l(x'))" if normalize else "X X' = Cov(l(x), l(x'))",
        names.A_SOURCE: "arXiv:2509.26537",
        "normalized": int(normalize),
        "level": level,
        "chains": traces.chains,
        "draws": rows,
        "zero_variance": int(traces.flat.sum()),
        "noise": float(edge) if normalize else np.nan,
        "stderr": "none stated for coordinates",
        "excluded": _pick.joined([f"chain {c}: {t}" for c, t in _pick.skipped(run).items()]),
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


def neighbours(
    run: Any,
    *,
    probe: Any = None,
    k: int = 10,
    measure: str = "correlation",
    level: str = "sequence",
    chains: str = "within",
) -> xr.Dataset:
    """The `k` nearest examples of every example in the loss kernel, with their standard errors.

    Exact (no approximate search): kernel rows are made in blocks of 1,024 examples and dropped.

    Args:
        run: A run, or a probe Dataset.
        probe: A probe's name, example ids, or a (part of a) probe; the only probe if None.
        k: How many; an example is no neighbour of itself.
        measure: "correlation" (most alike first), "squared" (R^2: alike *or* opposite, which says
            "same mechanism" where the sign says "same answer") or "covariance".
        level, chains: As in `loss_kernel`.

    Returns:
        Dataset over (example, rank): `neighbour` (position in the probe), `value` (R, R^2 keeps
        the sign of R in `value`; K for "covariance") and `stderr`.  At token level the dim
        `example` counts tokens.  -1 and NaN where an example has no loss or does not vary.

    Raises:
        InputError: Unknown names or options.  Diverged: No chain with two finite draws.

    References: Adam et al. 2025 (arXiv:2509.26537).
    """
    if measure not in MEASURES:
        known = f"one of {', '.join(MEASURES)}"
        raise InputError(say(f"measure={measure!r}{nearest(measure, MEASURES)}", known, "name one"))
    data = _pick.pick(run, probe)
    normalize = measure != "covariance"
    traces = _traces(run, data, level, chains, normalize)
    alive = np.flatnonzero(traces.sd > 0)
    if not 1 <= k < len(alive):
        most = f"1 to {len(alive) - 1} (the examples that vary, less one)"
        raise InputError(say(f"k={k}", most, "pass k=10"))
    total = traces.series
    found = np.full((total, k), -1)
    value = np.full((total, k), np.nan, np.float32)
    error = np.full((total, k), np.nan, np.float32)
    z = traces.z if len(alive) == total else traces.z[:, alive]
    groups, freedom = traces.groups, traces.freedom
    for start in range(0, len(alive), _ROWS):
        own = np.arange(start, min(start + _ROWS, len(alive)))
        c = z[:, own].T @ z
        c /= np.float32(freedom)
        score = np.square(c) if measure == "squared" else c
        score[np.arange(len(own)), own] = -np.inf
        best = np.argpartition(score, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(score, best, 1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, 1)
        if measure != "squared":
            c[np.arange(len(own)), own] = 0
        found[alive[own]] = alive[best]
        value[alive[own]] = np.take_along_axis(c, best, 1)
        error[alive[own]] = _errors(z, own, best, groups, freedom, normalize)
    dims, coords, _ = _pick.result_dims(data, level)
    names_ = coords if len(dims) == 1 else {}
    attrs = {
        names.A_FORMULA: "Corr(l(x), l(x'))" if normalize else "Cov(l(x), l(x'))",
        names.A_SOURCE: "arXiv:2509.26537",
        "measure": measure,
        "chains": traces.chains,
        "draws": len(traces.z),
        "stderr_from": f"{len(groups)} groups of draws",
    }
    variables = {"neighbour": found, "value": value, "stderr": error}
    return xr.Dataset(
        {key: (("example", "rank"), v) for key, v in variables.items()},
        names_ | {"rank": np.arange(1, k + 1)},
        attrs,
    )


def _traces(run, data, level, chains, normalize) -> _moments.Traces:
    skip = tuple(_pick.skipped(run))
    raw = _moments.gather(data[names.LOSS], level=_pick.check_level(level), skip=skip)
    traces = _moments.centre(raw, chains)
    if normalize:
        scale = np.where(traces.sd > 0, 1 / np.where(traces.sd > 0, traces.sd, 1.0), 0.0)
        traces.z[...] *= scale.astype(np.float32)  # in place: z is ours
    return traces


def _gram(a: np.ndarray) -> np.ndarray:
    """`a a'` in float64, summed over blocks of columns."""
    total = np.zeros((len(a), len(a)))
    for i in range(0, a.shape[1], 4096):
        part = a[:, i : i + 4096].astype(np.float64)
        total += part @ part.T
    return total


def _largest(values: np.ndarray, modes: int) -> np.ndarray:
    rank = int((values > values[-1] * 1e-10).sum()) if values[-1] > 0 else 1
    return np.arange(len(values))[::-1][: min(modes, rank)]


def _errors(z, own, best, groups, freedom, correlation: bool) -> np.ndarray:
    """Standard errors of single entries, by the formula of `_moments.block`."""
    rows, (count, k) = len(z), best.shape
    m = np.empty((len(groups), count, k), np.float32)
    va, vb = np.empty((len(groups), count, 1), np.float32), np.empty_like(m)
    for n, g in enumerate(groups):
        part = z[g]
        square = np.einsum("ij,ij->j", part, part) / freedom
        va[n, :, 0], vb[n] = square[own], square[best]
        for r in range(k):
            m[n, :, r] = np.einsum("ij,ij->j", part[:, own], part[:, best[:, r]]) / freedom
    c = m.sum(0)
    if correlation:
        m -= c * (va + vb) / 2
    else:
        share = np.array([(g.stop - g.start) / rows for g in groups], np.float32)
        m -= share[:, None, None] * c
    factor = len(groups) / (len(groups) - 1) if len(groups) > 1 else np.nan
    return np.sqrt(factor * (m**2).sum(0))
