"""The exact learning coefficient of deep linear networks: three formulas, one answer."""

import doctest
import itertools
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest

from slt_notebook.benchmarks import dln
from slt_notebook.errors import InputError

TABLE = {
    ((1, 1, 1), 0): (0.5, 2),
    ((2, 2, 2), 0): (1.5, 1),
    ((2, 2, 2), 1): (2, 2),
    ((3, 2, 3), 2): (4, 1),
    ((5, 3, 5), 3): (10.5, 1),
    ((5, 4, 5), 2): (10.5, 1),
    ((2, 2, 2, 2, 2), 0): (1.5, 5),
    ((4, 3, 8), 0): (6, 1),
    ((3, 8, 4), 0): (6, 1),
    ((10, 10, 10), 5): (47, 2),
    ((10, 10, 10, 10), 5): (46, 3),
    ((10, 20, 20, 10), 10): (50, 1),
}


def lehalleur_rimanyi(widths, rank, reduced=True):
    """Half the codimension of the fibre of the product map (Lehalleur and Rimanyi 2024).

    With the *reduced* sorted widths d, m = max{l : sum_{i <= l} d_i >= l d_l}, S = d_0 + ... + d_m.
    """
    d = sorted(h - rank for h in widths)
    c = d if reduced else sorted(widths)
    m = max(k for k in range(1, len(c)) if sum(c[: k + 1]) >= k * c[k])
    s = sum(d[: m + 1])
    part = Fraction(s % m, m)
    pairs = sum(d[i] * d[j] for i in range(m + 1) for j in range(i + 1, m + 1))
    twice = (
        Fraction(m, 2) * part * (1 - part)
        - Fraction(m * (m - 1), 2) * Fraction(s, m) ** 2
        + pairs
        + rank * (widths[0] + widths[-1] - rank)
    )
    return twice / 2


def integer_program(widths, rank):
    """The same codimension as a minimum over how the rank is lost from layer to layer.

    2 lambda - r (H_0 + H_L - r) = min sum_{1 <= j <= i <= L} e_i (e_j + d_j - d_{j-1}), over whole
    numbers e_1, ..., e_L >= 0 of sum d_0, with d the sorted reduced widths.
    """
    d = sorted(h - rank for h in widths)
    last = len(d) - 1

    @lru_cache(None)
    def best(i, used):
        """The least of the terms of e_i, ..., e_L, when the earlier ones sum to `used`."""
        options = range(d[0] - used + 1) if i < last else [d[0] - used]
        # sum over j <= i of (e_j + d_j - d_{j-1}) = used + e_i + d_i - d_0
        return min(
            e * (used + e + d[i] - d[0]) + (best(i + 1, used + e) if i < last else 0)
            for e in options
        )

    return Fraction(best(1, 0) + rank * (widths[0] + widths[-1] - rank), 2)


def test_docstrings():
    assert doctest.testmod(dln).failed == 0


@pytest.mark.parametrize("case", TABLE)
def test_known_values(case):
    assert dln.learning_coefficient(*case) == TABLE[case]


def test_three_formulas_agree_on_3000_architectures():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        widths = rng.integers(1, 8, rng.integers(2, 7)).tolist()
        rank = int(rng.integers(0, min(widths) + 1))
        ours, multiplicity = dln.learning_coefficient(widths, rank)
        assert ours == float(lehalleur_rimanyi(widths, rank)), (widths, rank)
        assert ours == float(integer_program(widths, rank)), (widths, rank)
        assert multiplicity >= 1
        parameters = sum(a * b for a, b in itertools.pairwise(widths))
        assert 0 <= ours <= parameters / 2


def test_the_comparison_can_fail():
    """A known trap: with unreduced widths in the choice of m the second formula is wrong here."""
    assert dln.learning_coefficient([2, 5, 3], 2)[0] == 3.0  # a full-rank map, half of 6
    assert lehalleur_rimanyi([2, 5, 3], 2) == 3.0
    assert lehalleur_rimanyi([2, 5, 3], 2, reduced=False) == 2.5


def test_one_layer_is_regular():
    """H_0 H_1 parameters of a linear map, all identifiable: lambda = half of them, at any rank."""
    for rank in range(4):
        assert dln.learning_coefficient([3, 5], rank) == (7.5, 1)


def test_invariances():
    assert dln.learning_coefficient([4, 3, 8], 0) == dln.learning_coefficient([8, 4, 3], 0)
    for depth in (5, 8):  # constant width d, deeper than wide: d (d + 1) / 4 at rank 0
        assert dln.learning_coefficient([4] * (depth + 1), 0)[0] == 5.0


@pytest.mark.parametrize(
    "widths,rank", [([3], 1), ([3, 0], 0), ([3, 2.5], 1), ([3, 4], 4), ([3, 4], -1), ("ab", 0)]
)
def test_bad_input(widths, rank):
    with pytest.raises(InputError, match="What to do"):
        dln.learning_coefficient(widths, rank)
