"""The exact learning coefficient of a deep linear network, and where it holds.

A deep linear network of widths `H_0, ..., H_L` computes `f(x; w) = W_L ... W_1 x`.  When the truth
is such a product of rank r, its real log canonical threshold is known in closed form, which makes
these networks the benchmark of local samplers (Hitchcock and Hoogland 2025, arXiv:2507.21449).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from slt_notebook.errors import InputError, say


def learning_coefficient(widths: Sequence[int], rank: int) -> tuple[float, int]:
    """Return the learning coefficient of a deep linear network and its multiplicity, `(lambda, m)`.

    With `D_i = H_i - r`, there is a set S of l + 1 layers (the narrowest) such that
    `max_S D < min_{not S} D`, `sum_S D >= l max_S D` and `sum_S D < l min_{not S} D`.  With
    `s = sum_S D`, `M = ceil(s / l)` and `a = s - (M - 1) l`,

        lambda = (r (H_0 + H_L) - r^2) / 2 + a (l - a) / (4 l)
                 - l (l - 1) / 4 (s / l)^2 + 1/2 sum_{i < j in S} D_i D_j
        m      = a (l - a) + 1

    It is the *global* threshold, the least over all factorizations of the truth; a given w* need
    not attain it, and then its local learning coefficient is higher.

    Args:
        widths: `H_0, ..., H_L`: input, hidden and output widths; at least two, each 1 or more.
        rank: r, the rank of the true product; 0 to min(widths).

    Returns:
        lambda (a multiple of 1 / (4 l), exact in binary or the nearest float) and m.

    Raises:
        InputError: Fewer than two widths, a width below 1, or an impossible rank.

    References: Aoyagi 2024, Neural Networks 172 (formula); Lau et al. 2023 (arXiv:2308.12108).

    >>> learning_coefficient([2, 2, 2], 1)
    (2.0, 2)
    >>> learning_coefficient([1, 1, 1], 0)  # (xy)^2
    (0.5, 2)
    """
    widths = _checked(widths, rank)
    excess = sorted(h - rank for h in widths)
    size, total = _narrowest(excess)
    chosen = excess[: size + 1]
    a = total - (-(-total // size) - 1) * size
    pairs = (total**2 - sum(d * d for d in chosen)) // 2  # sum over i < j of D_i D_j
    value = (
        Fraction(rank * (widths[0] + widths[-1]) - rank**2, 2)
        + Fraction(a * (size - a), 4 * size)
        - Fraction((size - 1) * total**2, 4 * size)
        + Fraction(pairs, 2)
    )
    return float(value), a * (size - a) + 1


@dataclass(frozen=True)
class Certificate:
    """What is proven about the learning coefficient at one point of a deep linear network.

    Attributes:
        rank: of the product.
        jacobian_rank: rho, the rank of the Jacobian of the product map at the point.
        codimension: of the largest part that was found of the fibre (all weights with the same
            product) through the point; never below rho.
        smooth: `codimension == jacobian_rank`: the fibre is a manifold there and the loss a
            nondegenerate square across it, so the coefficient at the point *is* rho / 2 and its
            multiplicity 1.
        local: rho / 2: the coefficient where `smooth`, else a lower bound of it.
        learning_coefficient, multiplicity: of the whole parameter space (`learning_coefficient`).
        certified: `smooth`, and the point attains the coefficient of the whole space.
    """

    rank: int
    jacobian_rank: int
    codimension: int
    smooth: bool
    local: float
    learning_coefficient: float
    multiplicity: int
    certified: bool


def certificate(
    widths: Sequence[int],
    ranks: Sequence[int],
    product: Mapping[tuple[int, int], int] | None = None,
) -> Certificate:
    """Whether weights of these ranks attain the learning coefficient of their architecture.

    With `r_ij` the rank of `W_j ... W_{i+1}` (`r_ii = H_i`), the image of the Jacobian is the sum
    over layers l of (columns of `W_L ... W_{l+1}`) x (rows of `W_{l-1} ... W_1`).  Both factors are
    flags, so its dimension is a staircase:

        rho = sum_{l=1}^{L} (r_{l,L} - r_{l-1,L}) r_{0,l-1},     with r_{0,L} -> 0 in the first term

    The weights are a sum of interval modules [i, j], each
    `m_ij = r_ij - r_{i-1,j} - r_{i,j+1} + r_{i-1,j+1}` times, which gives the dimension of their
    orbit under changes of basis, and so the codimension of their stratum in the fibre:

        codim = d - (sum H_k^2 - sum m_ij m_kl [k <= i <= l <= j]) + r (H_0 + H_L - r)

    A stratum is in the closure of those that [i, j] + [k, l] -> [i, l] + [k, j] leads to
    (i < k <= j + 1 <= l); steepest descent of the codimension along such moves that leave the
    product alone looks for one of codimension rho.  What it finds is proof (a fibre whose dimension
    is that of its tangent space is smooth); that it finds none is not one of the contrary.

    Args:
        widths: `H_0, ..., H_L`.
        ranks: of `W_1, ..., W_L`.
        product: `{(i, j): r_ij}` for j > i + 1 where the layers are not in general position; in
            general position a product has the least rank of its factors.

    Raises:
        InputError: impossible widths or ranks.

    References: strata and their closures: Abeasis and Del Fra 1980; codimension of the fibre:
    Lehalleur and Rimanyi 2024.  The bound rho / 2 is a Taylor expansion of the loss.

    >>> certificate([4, 3, 5], [3, 3]).certified, certificate([49, 8, 25], [1, 8]).local
    (True, 204.5)
    """
    last = len(widths) - 1
    if len(ranks) != last or any(
        not 0 <= k <= min(a, b) for k, a, b in zip(ranks, widths, widths[1:], strict=False)
    ):
        raise InputError(
            say(
                f"ranks={list(ranks)} for widths {list(widths)}", "a possible rank a layer", "check"
            )
        )
    r = {(i, i): int(h) for i, h in enumerate(widths)}
    for i in range(last):
        for j in range(i + 1, last + 1):
            r[i, j] = int(min(ranks[i:j]))
    r |= dict(product or {})
    rank = r[0, last]
    at = lambda i, j: r.get((i, j), 0)  # beyond the ends there is nothing
    rho = sum(
        (at(k, last) - (at(k - 1, last) if k > 1 else 0)) * at(0, k - 1) for k in range(1, last + 1)
    )
    modules = {
        (i, j): at(i, j) - at(i - 1, j) - at(i, j + 1) + at(i - 1, j + 1)
        for i in range(last + 1)
        for j in range(i, last + 1)
    }
    if min(modules.values()) < 0:
        raise InputError(say(f"ranks of products {r}", "ranks that some weights have", "check"))
    codimension = _fibre(list(widths), modules, rank, rho)
    value, multiplicity = learning_coefficient(widths, rank)
    smooth = codimension == rho
    return Certificate(
        rank, rho, codimension, smooth, rho / 2, value, multiplicity, smooth and rho == 2 * value
    )


def _fibre(widths: list[int], modules: dict[tuple[int, int], int], rank: int, goal: int) -> int:
    """Codimension of the largest stratum that the descent meets; stops at `goal`."""
    last = len(widths) - 1
    keys = list(modules)
    place = {key: n for n, key in enumerate(keys)}
    hom = np.array([[k <= i <= e <= j for k, e in keys] for i, j in keys], dtype=np.int64)
    count = np.array([modules[key] for key in keys], dtype=np.int64)
    parameters = sum(a * b for a, b in pairwise(widths))
    fixed = parameters - sum(h * h for h in widths) + rank * (widths[0] + widths[-1] - rank)
    symmetric = hom + hom.T
    moves = []
    for i, j in keys:
        for k, e in keys:
            if i < k <= j + 1 <= e and (i, e) != (0, last):
                change = np.zeros(len(keys), np.int64)
                change[place[i, j]] -= 1
                change[place[k, e]] -= 1
                change[place[i, e]] += 1
                if k <= j:
                    change[place[k, j]] += 1
                moves.append((place[i, j], place[k, e], change, int(change @ hom @ change)))
    while True:
        here = fixed + int(count @ hom @ count)
        if here <= goal:
            return here
        slope = symmetric @ count
        best, chosen = 0.0, None
        for first, second, change, square in moves:
            room = int(min(count[first], count[second]))
            if room:
                times = max(1, room // 8)  # a share at a time: wide layers would take long
                gain = (times * int(slope @ change) + times**2 * square) / times
                if gain < best:
                    best, chosen = gain, times * change
        if chosen is None:
            return here
        count = count + chosen


def _narrowest(excess: list[int]) -> tuple[int, int]:
    """`(l, sum)` of the first prefix of the sorted `D` that satisfies the three conditions."""
    for size in range(1, len(excess)):
        total = sum(excess[: size + 1])
        inside, outside = excess[size], excess[size + 1 :]
        apart = not outside or (inside < outside[0] and total < size * outside[0])
        if apart and total >= size * inside:
            return size, total
    raise AssertionError(f"no set of layers for {excess}: the theorem says that there is one")


def _checked(widths: Sequence[int], rank: int) -> list[int]:
    try:
        whole = [int(h) for h in widths]
        exact = all(int(h) == h for h in widths) and int(rank) == rank
    except (TypeError, ValueError):
        whole, exact = [], False
    if not exact or len(whole) < 2 or min(whole) < 1:
        raise InputError(
            say(
                f"widths={widths!r}", "two or more whole numbers, each at least 1", "pass [4, 3, 8]"
            )
        )
    if not 0 <= rank <= min(whole):
        raise InputError(
            say(f"rank={rank} with widths {whole}", f"0 to {min(whole)}", "pass a possible rank")
        )
    return whole
