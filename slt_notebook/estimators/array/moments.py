"""What are the covariances of many loss traces, and how sure are they?  Arrays without labels.

Losses arrive as `[chain, draw, series...]`, possibly on disk, possibly with NaN: padding (a series
that is NaN at every draw) and chains that stopped early (NaN at every later draw).  Neither
spreads.  Traces are centred in float64, kept in float32, and multiplied in blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError, say
from slt_notebook.results.tree import read

Array = np.ndarray
_BLOCK = 512  # series on a side: a block and its groups stay in the cache of the processor
_SLAB = 2**26  # bytes of raw losses read at a time
_BATCHES = 16  # pieces that two chains or one are cut into for standard errors


@dataclass(frozen=True)
class Raw:
    """Losses at draws: `x [row, series]`; `chain` and `draw` say where each row comes from."""

    x: Array
    chain: Array
    draw: Array


@dataclass(frozen=True)
class Traces:
    """Centred losses, and the groups of draws whose disagreement is the standard error."""

    z: Array  # [row, series]; 0 in series that are not usable
    groups: tuple[slice, ...]
    freedom: int  # rows minus means taken off
    sd: Array  # [series] float64
    usable: Array  # [series] False: padding, or not finite at some draw
    flat: Array  # [series] True: the same loss at every draw
    chains: int

    @property
    def series(self) -> int:
        return self.z.shape[1]


def slabs(array: xr.DataArray, skip: tuple = ()) -> Iterator[tuple[int, int, Array]]:
    """Losses in pieces: `(chain, first draw, [draw, example(, token)])`, in the order stored.

    A piece is a run of draws of one chain, at most 64 MB.  Chains whose label is in `skip` are
    left out.
    """
    rest = [d for d in (names.EXAMPLE, names.TOKEN) if d in array.dims]
    array = array.transpose(names.CHAIN, names.DRAW, *rest)
    one_draw = max(1, int(np.prod([array.sizes[d] for d in rest]))) * array.dtype.itemsize
    many = max(1, _SLAB // one_draw)
    labels = array[names.CHAIN].values if names.CHAIN in array.coords else None
    for c in range(array.sizes[names.CHAIN]):
        if labels is not None and labels[c] in skip:
            continue
        for d in range(0, array.sizes[names.DRAW], many):
            piece = array.isel({names.CHAIN: c, names.DRAW: slice(d, d + many)})
            yield c, d, read(piece)


def gather(array: xr.DataArray, *, level: str = "token", skip: tuple = ()) -> Raw:
    """All draws that exist, one row each.  `level="sequence"` sums over tokens, skipping padding.

    A sequence in which a token other than padding is not finite is NaN at that draw.
    """
    summed = level == "sequence" and names.TOKEN in array.dims
    parts, chain, draw, padding = [], [], [], None
    for c, d, piece in slabs(array, skip):
        flat = piece.reshape(len(piece), -1)
        rows = np.flatnonzero(~np.isnan(flat).all(1))
        if not len(rows):
            continue
        if summed:
            missing = np.isnan(piece[rows])
            if padding is None:
                padding = missing[0]
            totals = np.where(missing, 0.0, piece[rows]).sum(2, dtype=np.float64)
            totals[(missing != padding).any(2)] = np.nan
            totals[:, padding.all(1)] = np.nan
            parts.append(totals)
        else:
            parts.append(flat if len(rows) == len(flat) else flat[rows])
        chain.append(np.full(len(rows), c))
        draw.append(d + rows)
    if not parts:
        raise Diverged(say("no finite draw", "at least 2 draws of a chain", "sample longer"))
    return Raw(
        parts[0] if len(parts) == 1 else np.concatenate(parts),
        np.concatenate(chain),
        np.concatenate(draw),
    )


def common(a: Raw, b: Raw) -> tuple[Raw, Raw]:
    """Both, restricted to the draws that both have (a live run may have written only one yet)."""
    if np.array_equal(a.chain, b.chain) and np.array_equal(a.draw, b.draw):
        return a, b
    wide = 1 + max(a.draw.max(), b.draw.max())
    keys_a, keys_b = a.chain * wide + a.draw, b.chain * wide + b.draw
    in_a, in_b = np.isin(keys_a, keys_b), np.isin(keys_b, keys_a)
    return (
        Raw(a.x[in_a], a.chain[in_a], a.draw[in_a]),
        Raw(b.x[in_b], b.chain[in_b], b.draw[in_b]),
    )


def centre(raw: Raw, chains: str = "within", dtype: Any = np.float32) -> Traces:
    """Subtract the mean over draws, per chain (`"within"`) or over all of them (`"pool"`).

    Differences between the means of chains that have not mixed are bias, not covariance, so
    `"within"` is the default of every estimator; `"pool"` is what devinterp calls "stack".
    """
    if chains not in ("within", "pool"):
        raise InputError(say(f"chains={chains!r}", "'within' or 'pool'", "use chains='within'"))
    _ids, first, counts = np.unique(raw.chain, return_index=True, return_counts=True)
    keep = counts >= 2
    spans = [slice(f, f + n) for f, n in zip(first[keep], counts[keep], strict=True)]
    if not spans:
        raise Diverged(say("chains of one draw", "at least 2 draws of a chain", "sample longer"))
    rows = sum(s.stop - s.start for s in spans)
    z = np.empty((rows, raw.x.shape[1]), dtype)
    variance = np.empty(raw.x.shape[1])
    peak = np.empty(raw.x.shape[1])
    width = max(1, _SLAB // (16 * rows))
    freedom = rows - (len(spans) if chains == "within" else 1)
    for i in range(0, raw.x.shape[1], width):
        x = np.concatenate([raw.x[s, i : i + width] for s in spans]).astype(np.float64)
        x[~np.isfinite(x)] = np.nan
        peak[i : i + width] = np.abs(x).max(0)  # NaN marks what is not usable
        at = 0
        for n in [s.stop - s.start for s in spans] if chains == "within" else [rows]:
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
    return Traces(z, _groups(lengths), freedom, sd, usable, flat, len(spans))


def _groups(lengths: list[int]) -> tuple[slice, ...]:
    """Chains when there are three or more, else batches of successive draws within them."""
    pieces = 1 if len(lengths) >= 3 else _BATCHES // len(lengths)
    groups, at = [], 0
    for n in lengths:
        count = 1 if pieces == 1 else int(np.clip(n // 10, 2, pieces))
        edges = at + np.linspace(0, n, count + 1).round().astype(int)
        groups += [slice(a, b) for a, b in itertools.pairwise(edges)]
        at += n
    return tuple(groups)


def standardised(traces: Traces) -> Traces:
    """The same with every series of variance 1, so that products are correlations.

    The zero-variance rule: a series that does not vary correlates 0 with everything, itself too.
    """
    scale = np.where(traces.sd > 0, 1 / np.where(traces.sd > 0, traces.sd, 1.0), 0.0)
    z = traces.z * scale.astype(traces.z.dtype)
    sd = np.where(traces.usable, np.where(traces.sd > 0, 1.0, 0.0), np.nan)
    return Traces(z, traces.groups, traces.freedom, sd, traces.usable, traces.flat, traces.chains)


def block(
    a: Traces, b: Traces, i: slice, j: slice, *, correlation: bool, errors: bool
) -> tuple[Array, Array | None]:
    """`Cov(a_i, b_j)` for a block of series, and its standard error.

    With groups g of draws (chains, or batches), `m_g = Z_g' Z_g / freedom` and `c = sum_g m_g`:
    `se^2 = G / (G - 1) sum_g u_g^2`, where `u_g = m_g - w_g c` (w_g: share of the rows) for a
    covariance and, by the delta method, `u_g = m_g - r (v_g,i + v_g,j) / 2` for a correlation r
    of standardised traces with `v_g` the group's share of the variance.
    """
    za, zb = a.z[:, i], b.z[:, j]
    if not errors:
        c = za.T @ zb
        c /= a.freedom
        return c, None
    parts = [za[g].T @ zb[g] for g in a.groups]
    c = parts[0].copy()
    for m in parts[1:]:
        c += m
    c /= a.freedom
    total = np.zeros_like(c)
    work = np.empty_like(c)
    rows = len(za)
    for g, m in zip(a.groups, parts, strict=True):
        m /= a.freedom
        if correlation:
            va = (np.einsum("ij,ij->j", za[g], za[g]) / (2 * a.freedom)).astype(c.dtype)
            vb = (np.einsum("ij,ij->j", zb[g], zb[g]) / (2 * a.freedom)).astype(c.dtype)
            np.add(va[:, None], vb[None, :], out=work)
            work *= c
        else:
            np.multiply(c, c.dtype.type((g.stop - g.start) / rows), out=work)
        m -= work
        m *= m
        total += m
    total *= len(parts) / (len(parts) - 1) if len(parts) > 1 else np.nan
    return c, np.sqrt(total, out=total)


def matrix(
    a: Traces,
    b: Traces,
    *,
    sign: float = 1.0,
    correlation: bool = False,
    errors: bool = True,
    rows: slice = slice(None),
) -> tuple[Array, Array | None]:
    """`sign * Cov(a, b)` (or correlation, of standardised traces) and its standard error.

    Shape [series of a in `rows`, series of b].  Unusable series are NaN.  Of a matrix of a with
    itself only one triangle is computed.
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
