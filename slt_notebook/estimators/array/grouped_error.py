"""Monte Carlo standard errors from groups of draws: the one place of the formula.

Draws are cut into G groups (chains, or batches of successive draws, see `draw_groups`), and an
estimate is a sum of one share per group, `c = sum_g m_g`.  With the deviation u_g of each share
from what the whole would give to that group,

    se^2 = G / (G - 1) sum_g u_g^2

    u_g = m_g - w_g c                       of a covariance; w_g is the group's share of the rows
    u_g = m_g - r (v_g,a + v_g,b) / 2       of a correlation r, by the delta method; v_g is the
                                            group's share of each of the two variances
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_BATCHES = 16  # batches that the draws of two chains, or of one, are cut into


def grouped_error(deviations: Iterable[Array]) -> Array:
    """Return `sqrt(G / (G - 1) sum_g u_g^2)`; NaN of a single group.

    Args:
        deviations: u_g, one array per group, all of the same shape.  They are overwritten.

    >>> grouped_error([np.array([0.5, 1.0]), np.array([-0.5, 1.0])])
    array([1., 2.])
    """
    total: Array | None = None
    count = 0
    for u in deviations:
        u *= u
        total = u if total is None else np.add(total, u, out=total)
        count += 1
    if total is None:
        raise ValueError("no groups")
    total *= count / (count - 1) if count > 1 else np.nan
    return np.sqrt(total, out=total)


def covariance_deviations(
    shares: Iterable[Array], weights: Sequence[float], whole: Array
) -> Iterator[Array]:
    """Yield `u_g = m_g - w_g c`, in place of each share.

    Args:
        shares: m_g, one array per group.  They are overwritten.
        weights: w_g, which sum to 1.
        whole: c, the sum of the shares.
    """
    work = np.empty_like(whole)
    for m, w in zip(shares, weights, strict=True):
        m -= np.multiply(whole, whole.dtype.type(w), out=work)
        yield m


def correlation_deviations(
    shares: Iterable[Array], a: Iterable[Array], b: Iterable[Array], whole: Array
) -> Iterator[Array]:
    """Yield `u_g = m_g - r (v_g,a + v_g,b) / 2`, in place of each share.

    Args:
        shares: m_g of traces of variance 1, one array per group.  They are overwritten.
        a: v_g,a, each group's share of the variance of the rows, broadcast with m_g.
        b: v_g,b, the same of the columns.
        whole: r, the sum of the shares.
    """
    work = np.empty_like(whole)
    kind = whole.dtype
    for m, va, vb in zip(shares, a, b, strict=True):
        np.add((va / 2).astype(kind), (vb / 2).astype(kind), out=work)
        m -= np.multiply(work, whole, out=work)
        yield m


def draw_groups(lengths: Sequence[int]) -> tuple[slice, ...]:
    """Return the rows of each group, for chains of these lengths that follow each other.

    Groups are the chains when there are three or more, else batches of at least 10 successive
    draws within them (two batches at least).

    >>> draw_groups([4, 4, 4])
    (slice(0, 4, None), slice(4, 8, None), slice(8, 12, None))
    >>> draw_groups([20])
    (slice(0, 10, None), slice(10, 20, None))
    """
    pieces = 1 if len(lengths) >= 3 else _BATCHES // len(lengths)
    groups: list[slice] = []
    at = 0
    for n in lengths:
        count = 1 if pieces == 1 else int(np.clip(n // 10, 2, pieces))
        edges = [at + int(e) for e in np.linspace(0, n, count + 1).round()]
        groups += [slice(a, b) for a, b in itertools.pairwise(edges)]
        at += n
    return tuple(groups)
