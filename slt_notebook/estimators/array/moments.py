"""Covariances and correlations of many loss traces, with their standard errors.

Losses arrive as `[row, series]`, one row per draw, possibly with NaN: padding (a series that is NaN
at every draw), and series that are not finite at some draw.  Neither affects other series.  Traces
are centred in float64, kept in float32 and multiplied in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slt_notebook.errors import Diverged, InputError, say
from slt_notebook.estimators.array.grouped_error import (
    correlation_deviations,
    covariance_deviations,
    draw_groups,
    grouped_error,
)

Array = NDArray[Any]
_BLOCK = 512  # series on a side: a block and its groups stay in the cache of the processor
_SLAB = 2**26  # bytes of losses that are centred at a time
CENTERINGS = ("within", "pool")


@dataclass(frozen=True)
class Raw:
    """Losses at draws.

    Attributes:
        x: `[row, series]`, one row per draw.
        chain: `[row]`, the position of the chain that a row comes from.
        draw: `[row]`, the number of the draw within its chain.
    """

    x: Array
    chain: Array
    draw: Array


@dataclass(frozen=True)
class Traces:
    """Centred losses, and the groups of draws that standard errors are made of.

    Attributes:
        z: `[row, series]`; 0 in series that are not usable.
        groups: Rows of each group.
        freedom: Rows minus the number of means that were subtracted.
        sd: `[series]` float64, standard deviation over draws; NaN where not usable.
        usable: `[series]`, False of padding and where a draw is not finite.
        flat: `[series]`, True where the loss is the same at every draw.
        chains: Their number.
    """

    z: Array
    groups: tuple[slice, ...]
    freedom: int
    sd: Array
    usable: Array
    flat: Array
    chains: int

    @property
    def series(self) -> int:
        """Number of series."""
        return int(self.z.shape[1])

    @property
    def weights(self) -> list[float]:
        """Share of the rows of each group."""
        return [(g.stop - g.start) / len(self.z) for g in self.groups]

    @property
    def varies(self) -> Array:
        """`[series]`, True where the standard deviation is above 0."""
        return np.asarray(self.sd > 0)

    def variance_shares(self, group: slice, series: Any = slice(None)) -> Array:
        """Return `[series]`, what a group of draws adds to the variance of each series."""
        part = self.z[group, series]
        return np.einsum("ij,ij->j", part, part) / self.freedom


def common(a: Raw, b: Raw) -> tuple[Raw, Raw]:
    """Return both, restricted to the draws that both have.

    Of a run that is being written, one may hold a draw that the other does not hold yet.
    """
    if np.array_equal(a.chain, b.chain) and np.array_equal(a.draw, b.draw):
        return a, b
    wide = 1 + max(a.draw.max(), b.draw.max())
    keys_a, keys_b = a.chain * wide + a.draw, b.chain * wide + b.draw
    in_a, in_b = np.isin(keys_a, keys_b), np.isin(keys_b, keys_a)
    return (
        Raw(a.x[in_a], a.chain[in_a], a.draw[in_a]),
        Raw(b.x[in_b], b.chain[in_b], b.draw[in_b]),
    )


def centre(raw: Raw, centering: str = "within", dtype: DTypeLike = np.float32) -> Traces:
    """Subtract the mean over draws, of each chain (`"within"`) or of all of them (`"pool"`).

    Differences between the means of chains that have not mixed are bias, not covariance, so
    `"within"` is the default of every estimator; `"pool"` is what devinterp calls "stack".

    Raises:
        InputError: Another centering.  Diverged: No chain with two draws.
    """
    if centering not in CENTERINGS:
        do = "use centering='within'"
        raise InputError(say(f"centering={centering!r}", "'within' or 'pool'", do))
    _, first, counts = np.unique(raw.chain, return_index=True, return_counts=True)
    keep = counts >= 2
    spans = [slice(f, f + n) for f, n in zip(first[keep], counts[keep], strict=True)]
    if not spans:
        raise Diverged(say("chains of one draw", "at least 2 draws of a chain", "sample longer"))
    rows = sum(s.stop - s.start for s in spans)
    z = np.empty((rows, raw.x.shape[1]), dtype)
    variance = np.empty(raw.x.shape[1])
    peak = np.empty(raw.x.shape[1])
    width = max(1, _SLAB // (16 * rows))
    freedom = rows - (len(spans) if centering == "within" else 1)
    for i in range(0, raw.x.shape[1], width):
        x = np.concatenate([raw.x[s, i : i + width] for s in spans]).astype(np.float64)
        x[~np.isfinite(x)] = np.nan
        peak[i : i + width] = np.abs(x).max(0)  # NaN marks what is not usable
        at = 0
        for n in [s.stop - s.start for s in spans] if centering == "within" else [rows]:
            x[at : at + n] -= x[at : at + n].mean(0)
            at += n
        variance[i : i + width] = np.einsum("ij,ij->j", x, x) / freedom
        z[:, i : i + width] = x
    usable = np.isfinite(peak)
    # What float32 losses of one value leave behind after centring is rounding, not variance.
    flat = usable & (variance <= (2 * np.finfo(np.float32).eps * peak) ** 2)
    if not (usable & ~flat).all():
        z[:, ~usable | flat] = 0
    sd = np.where(usable, np.where(flat, 0.0, np.sqrt(variance)), np.nan)
    lengths = [s.stop - s.start for s in spans]
    return Traces(z, draw_groups(lengths), freedom, sd, usable, flat, len(spans))


def standardized(traces: Traces, *, in_place: bool = False) -> Traces:
    """Return the traces with every series of variance 1, so that products are correlations.

    A series that does not vary correlates 0 with every series, itself included.

    Args:
        traces: Centred losses.
        in_place: Overwrite their `z`.
    """
    scale = np.where(traces.varies, 1 / np.where(traces.varies, traces.sd, 1.0), 0.0)
    scale = scale.astype(traces.z.dtype)
    z = np.multiply(traces.z, scale, out=traces.z) if in_place else traces.z * scale
    sd = np.where(traces.usable, np.where(traces.varies, 1.0, 0.0), np.nan)
    return replace(traces, z=z, sd=sd)


def by_chain(raw: Raw, series: Any = slice(None), *, least: float = 0.5) -> Array:
    """Return `[chain, draw, series]` of chains cut to one length.

    Args:
        raw: Losses at draws.
        series: Which series.
        least: Leave out chains with a smaller share of the draws of the longest one.
    """
    labels, counts = np.unique(raw.chain, return_counts=True)
    kept = counts >= least * counts.max()
    length = int(counts[kept].min())
    if kept.all() and len(labels) * length == len(raw.x) and isinstance(series, slice):
        return raw.x[:, series].reshape(len(labels), length, -1)
    return np.stack([raw.x[raw.chain == c][:length, series] for c in labels[kept]])


def block(
    a: Traces, b: Traces, i: slice, j: slice, *, correlation: bool, errors: bool
) -> tuple[Array, Array | None]:
    """Return `Cov(a_i, b_j)` for a block of series, and its standard error (`grouped_error`).

    Args:
        a: Traces of the rows.
        b: Traces of the columns, at the same draws.
        i: Series of a.
        j: Series of b.
        correlation: The traces are standardized and the product is a correlation.
        errors: Compute the standard error, or return None in its place.
    """
    za, zb = a.z[:, i], b.z[:, j]
    if not errors:
        c = za.T @ zb
        c /= a.freedom
        return c, None
    shares: list[Array] = [za[g].T @ zb[g] for g in a.groups]
    c = shares[0].copy()
    for m in shares[1:]:
        c += m
    c /= a.freedom
    for m in shares:
        m /= a.freedom
    if not correlation:
        return c, grouped_error(covariance_deviations(shares, a.weights, c))
    va = (a.variance_shares(g, i)[:, None] for g in a.groups)
    vb = (b.variance_shares(g, j)[None, :] for g in a.groups)
    return c, grouped_error(correlation_deviations(shares, va, vb, c))


def matrix(
    a: Traces,
    b: Traces,
    *,
    sign: float = 1.0,
    correlation: bool = False,
    errors: bool = True,
    rows: slice = slice(None),
) -> tuple[Array, Array | None]:
    """Return `sign * Cov(a, b)` and its standard error, `[series of a in rows, series of b]`.

    Series that are not usable are NaN.  Of the matrix of `a` with itself one triangle is computed.

    Args:
        a: Traces of the rows.
        b: Traces of the columns, at the same draws.
        sign: Factor of the values.
        correlation: The traces are standardized and the products are correlations.
        errors: Compute the standard errors, or return None in their place.
        rows: Which series of a.
    """
    start, stop, _ = rows.indices(a.series)
    value = np.empty((stop - start, b.series), a.z.dtype)
    error = np.empty_like(value) if errors else None
    mirror = a is b and start == 0 and stop == a.series
    for i in range(start, stop, _BLOCK):
        si = slice(i, min(i + _BLOCK, stop))
        for j in range(i if mirror else 0, b.series, _BLOCK):
            sj = slice(j, min(j + _BLOCK, b.series))
            c, e = block(a, b, si, sj, correlation=correlation, errors=errors)
            if sign != 1:
                c *= c.dtype.type(sign)
            at = (slice(si.start - start, si.stop - start), sj)
            for out, part in ((value, c), (error, e)):
                if out is not None and part is not None:
                    out[at] = part
                    if mirror and i != j:
                        out[sj, si] = part.T
    for out in (value, error):
        if out is not None:
            out[~a.usable[start:stop]] = np.nan
            if not b.usable.all():
                out[:, ~b.usable] = np.nan
    return value, error
