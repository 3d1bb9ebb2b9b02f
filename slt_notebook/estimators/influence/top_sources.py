"""The training losses with the strongest influence on one query loss, without the matrix.

One pass over the losses on disk, with memory for running sums per source and group of draws.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError, nearest, say
from slt_notebook.estimators.array.grouped_error import (
    correlation_deviations,
    covariance_deviations,
    draw_groups,
    grouped_error,
)
from slt_notebook.estimators.array.moments import Raw
from slt_notebook.estimators.deprecated import UNIT, renamed
from slt_notebook.estimators.losses import gather, slabs
from slt_notebook.results.result import resolve
from slt_notebook.results.selection import check_unit, pick, result_dims

ORDERS = ("absolute", "helpful", "harmful")


@renamed(**UNIT)
def top_sources(
    run: Any,
    query: Any,
    token: int | None = None,
    *,
    train: Any = None,
    unit: str = "token",
    k: int = 20,
    normalize: bool = False,
    order: str = "absolute",
) -> xr.Dataset:
    """Return the `k` training losses with the strongest influence on one query loss.

    The same numbers as `influence` (centred per chain), with neither the matrix nor the traces in
    memory: sums of products are accumulated in float64 in one pass over the store.

    Args:
        run: A run, or a probe Dataset.
        query: An example id, or a part of a probe that holds one example.
        token: Which of its tokens (a value of the coordinate `token`); the sum of all if None.
        train: The sources, as in `influence`; the only probe if None.
        unit: What a source is: "token" or "sequence".
        k: How many.
        normalize: Minus the correlation instead of minus the covariance.
        order: "absolute", "helpful" (most negative first) or "harmful" (most positive first).

    Returns:
        Dataset over `rank`, strongest first: `influence`, `stderr`, and coords `example_`,
        `token_`, `token_text_` where there are any.

    Raises:
        InputError: Unknown names or options.  Diverged: No chain with two finite draws.

    References: Kreer et al. 2025 (arXiv:2509.26544).
    """
    if order not in ORDERS:
        raise InputError(say(f"order={order!r}{nearest(order, ORDERS)}", str(ORDERS), "name one"))
    if k < 1:
        raise InputError(say(f"k={k}", "at least 1", "pass k=20"))
    check_unit(unit)
    result = resolve(run)
    target = _one_query(pick(result, query), token)
    where = pick(result, train)
    y = gather(target[names.LOSS], unit="sequence", skip=result.diverged)
    shares = _accumulate(where[names.LOSS], y, unit, result.diverged)
    value, error = _estimate(*shares, normalize)
    return _ranked(where, value, error, unit, min(k, value.size), order, normalize)


def _one_query(data: xr.Dataset, token: int | None) -> xr.Dataset:
    if data.sizes[names.EXAMPLE] != 1:
        count = data.sizes[names.EXAMPLE]
        raise InputError(say(f"{count} query examples", "one", "pass one example id"))
    if token is None or names.TOKEN not in data[names.LOSS].dims:
        return data
    known = list(data[names.TOKEN].values)
    if token not in known:
        raise InputError(say(f"token {token}", f"{known[0]} to {known[-1]}", "name one of them"))
    return data.isel({names.TOKEN: [known.index(token)]})


def _accumulate(
    loss: xr.DataArray, y: Raw, unit: str, skip: Container[Any]
) -> tuple[np.ndarray, list[float], np.ndarray, np.ndarray]:
    """Return what every group of draws adds to the covariance of every series of `loss` with y.

    Returns:
        Shares `m_g [group, series]` of the covariance, weights of the groups, and the shares of the
        variances of the series and of y.  Sums are shifted by the first draw of each chain, so that
        little is lost to cancellation.
    """
    lengths, spans = [], []
    for c in np.unique(y.chain):
        rows = np.flatnonzero((y.chain == c) & np.isfinite(y.x[:, 0]))
        if len(rows) >= 2:
            lengths.append(len(rows))
            spans.append((c, rows))
    if not spans:
        raise Diverged(say("no chain with two finite draws", "at least one", "sample longer"))
    groups = draw_groups(lengths)
    freedom = sum(lengths) - len(lengths)
    place = {}
    at = 0
    for c, rows in spans:
        for i, r in enumerate(rows):
            number = next(g for g, s in enumerate(groups) if s.start <= at + i < s.stop)
            place[int(c), int(y.draw[r])] = (number, float(y.x[r, 0] - y.x[rows[0], 0]))
        at += len(rows)
    sums, scalars = None, np.zeros((len(groups), 3))
    shift: dict[int, np.ndarray] = {}
    owner = np.zeros(len(groups), int)
    for c, d, piece in slabs(loss, skip):
        x = _series(piece, unit)
        hits = [(i, *place[c, d + i]) for i in range(len(x)) if (c, d + i) in place]
        if not hits:
            continue
        shift.setdefault(c, x[hits[0][0]].copy())
        if sums is None:  # [group, (n, y, yy) or (x, xx, xy), series]
            sums = np.zeros((len(groups), 3, x.shape[1]))
        index, number, values = (np.array(h) for h in zip(*hits, strict=True))
        for g in np.unique(number):
            on = number == g
            xs, ys = x[index[on]] - shift[c], values[on]
            sums[g] += np.stack([xs.sum(0), (xs * xs).sum(0), ys @ xs])
            scalars[g] += [len(ys), ys.sum(), ys @ ys]
            owner[g] = c
    if sums is None:
        raise Diverged(say("no draw that query and sources share", "some", "sample longer"))
    return _centred_shares(sums, scalars, owner, freedom)


def _series(piece: np.ndarray, unit: str) -> np.ndarray:
    x = piece.astype(np.float64)
    if unit == "sequence" and x.ndim == 3:
        padding = np.isnan(x[0])
        total = np.where(padding, 0.0, x).sum(2)
        total[:, padding.all(1)] = np.nan
        return total
    return x.reshape(len(x), -1)


def _centred_shares(
    sums: np.ndarray, scalars: np.ndarray, owner: np.ndarray, freedom: int
) -> tuple[np.ndarray, list[float], np.ndarray, np.ndarray]:
    """Subtract the mean of each chain from the sums, and divide by the degrees of freedom."""
    mxy, mxx, myy = (np.empty_like(sums[:, 0]) for _ in range(3))
    for c in np.unique(owner):
        of = owner == c
        n = scalars[of, 0].sum()
        xbar, ybar = sums[of, 0].sum(0) / n, scalars[of, 1].sum() / n
        for g in np.flatnonzero(of):
            count, sy, syy = scalars[g]
            sx, sxx, sxy = sums[g]
            mxy[g] = sxy - xbar * sy - ybar * sx + count * xbar * ybar
            mxx[g] = sxx - 2 * xbar * sx + count * xbar**2
            myy[g] = syy - 2 * ybar * sy + count * ybar**2
    weights = (scalars[:, 0] / scalars[:, 0].sum()).tolist()
    return mxy / freedom, weights, mxx / freedom, myy / freedom


def _estimate(
    m: np.ndarray, weights: list[float], mxx: np.ndarray, myy: np.ndarray, normalize: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return minus the covariance or correlation, and its standard error."""
    vx, vy = mxx.sum(0), myy.sum(0)
    value = m.sum(0)
    if normalize:
        scale = np.sqrt(vx * vy)
        flat = ~(scale > 0) & np.isfinite(scale)
        scale = np.where(flat, 1.0, scale)
        value = np.where(flat, 0.0, value / scale)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = grouped_error(correlation_deviations(m / scale, mxx / vx, myy / vy, value))
        return -value, np.where(flat, 0.0, error)
    return -value, grouped_error(covariance_deviations(m, weights, value))


def _ranked(
    where: xr.Dataset,
    value: np.ndarray,
    error: np.ndarray,
    unit: str,
    k: int,
    order: str,
    normalize: bool,
) -> xr.Dataset:
    key = {"absolute": -np.abs(value), "helpful": value, "harmful": -value}[order]
    key = np.where(np.isfinite(key), key, np.inf)
    best = np.argpartition(key, k - 1)[:k]
    best = best[np.argsort(key[best], kind="stable")]
    best = best[np.isfinite(value[best])]
    dims, coords, sizes = result_dims(where, unit, "_")
    place = np.unravel_index(best, tuple(sizes.values()))
    chosen = {}
    for key_, (on, values) in coords.items():
        on = [on] if isinstance(on, str) else on
        chosen[key_] = ("rank", np.asarray(values)[tuple(place[dims.index(d)] for d in on)])
    attrs = {
        names.A_SIGN: "negative = helpful",
        names.A_FORMULA: "-Corr(l_q, l_t)" if normalize else "-Cov(l_q, l_t)",
        names.A_SOURCE: "arXiv:2509.26544",
        "sequence_loss": "sum over tokens",
        "sources": int(np.isfinite(value).sum()),
    }
    variables = {"influence": ("rank", value[best]), "stderr": ("rank", error[best])}
    return xr.Dataset(variables, chosen | {"rank": np.arange(len(best))}, attrs)
