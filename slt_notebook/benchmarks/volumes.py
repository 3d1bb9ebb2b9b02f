"""Exact volumes of almost optimal weights for three basins in the plane.

    V(eps) = Vol{w in [-1, 1]^2 : K(w) <= eps} / 4  ~  c eps^lambda (log 1/eps)^(m - 1)

so that -log V(1/n) = lambda log n - (m - 1) log log n + O(1): the number of nats that single out a
hypothesis as good as the best on n observations (2510.12077, theorem 1).  numpy only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Basin:
    """A loss on [-1, 1]^2 whose sublevel volumes are known.

    Attributes:
        name, formula: for people.
        learning_coefficient, multiplicity: lambda and m.
        loss: `(w1, w2) -> K`.
        log_volume: `log n -> log V(1/n)`, exact, and in logarithms so that n = 1e200 is no problem.
    """

    name: str
    formula: str
    learning_coefficient: float
    multiplicity: int
    loss: Callable
    log_volume: Callable

    def volume(self, eps):
        """`V(eps)`, the share of the square, for eps in (0, 1]."""
        return np.exp(self.log_volume(-np.log(eps)))


REGULAR = Basin(
    "regular", "w1^2 + w2^2", 1.0, 1,
    lambda a, b: a**2 + b**2,
    lambda size: np.log(np.pi / 4) - np.asarray(size, float),
)  # fmt: skip
NODE = Basin(
    "node", "w1^2 w2^2", 0.5, 2,
    lambda a, b: (a * b) ** 2,
    lambda size: -np.asarray(size, float) / 2 + np.log1p(np.asarray(size, float) / 2),
)  # fmt: skip
CUSP = Basin(
    "cusp", "w1^2 w2^4", 0.25, 1,
    lambda a, b: a**2 * b**4,
    lambda size: -np.asarray(size, float) / 4 + np.log(2 - np.exp(-np.asarray(size, float) / 4)),
)  # fmt: skip

BASINS = (REGULAR, NODE, CUSP)
