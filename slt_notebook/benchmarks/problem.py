"""A problem with a known answer: a loss, its data, the answer, and how certain it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Problem:
    """A loss at its minimum w*, whose learning coefficient there is known.

    `slt.sample(problem.loss, problem.data, batch_size=problem.batch_size, ...)` samples it.

    Attributes:
        name: for tables.
        loss, data: what `slt.sample` takes.
        dim: number of parameters.
        learning_coefficient: lambda: the coefficient *at w** where that is proven, else what the
            formula for the whole parameter space says.
        multiplicity: its multiplicity.
        certified: whether `learning_coefficient` is proven to be the one at w*; statements of
            passing or failing should use certified problems alone.
        why: the certificate, or what is missing, in words.
        value: `(nbeta, gamma) -> nbeta (E[L] - L(w*))` under the localized tempered posterior,
            exact at this temperature; None where it is not known.
        details: what the problem was made from.
    """

    name: str
    loss: Any
    data: Any
    dim: int
    learning_coefficient: float
    multiplicity: int
    certified: bool
    why: str
    value: Callable[[float, float], float] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """All of the data up to 500 examples: exact gradients where that is cheap."""
        return min(len(self.data), 500)

    def exact(self, nbeta: float, gamma: float) -> float:
        """Return the LLC at this temperature and localization, or NaN where it is not known."""
        return math.nan if self.value is None else float(self.value(nbeta, gamma))

    def __repr__(self) -> str:
        sure = "certified" if self.certified else "not certified"
        return (
            f"Problem({self.name!r}, {self.dim:,} parameters, "
            f"lambda {self.learning_coefficient:g}, {sure})"
        )
