"""Quantization: weights rounded to a uniform grid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from slt_notebook.core.types import Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.compression.protocol import Candidate


def odd_grid(low: int = 3, high: int = 1023, count: int = 26) -> tuple[int, ...]:
    """Odd numbers, log-spaced, from the finest down: grids that hold zero (255: int8, 15: int4).

    >>> odd_grid(3, 15, 4)
    (15, 9, 5, 3)
    """
    raw = torch.logspace(0, 1, count, high / low, dtype=torch.float64) * low
    return tuple(sorted({int(2 * round((float(v) - 1) / 2) + 1) for v in raw}, reverse=True))


@dataclass(frozen=True)
class Quantize:
    """Round every weight to a symmetric uniform grid of `n_q` levels on [-r, r].

        spacing 2 r / (n_q - 1),   r = f max|w|,   f the one of `ranges` with the least loss

    The maximum is over all of the chosen weights ("global"), over each tensor or over each of its
    rows ("channel", axis 0); f is shared.  An odd n_q holds zero; int8 has 255 and int4 15 of them.
    References: Urdshals et al. 2025 (arXiv:2510.12077), section 3.
    """

    granularity: str = "tensor"
    ranges: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)

    name: ClassVar[str] = "quantize"
    unit: ClassVar[str] = "levels of the grid"
    log: ClassVar[bool] = True
    between: ClassVar[bool] = True
    pick: ClassVar[str] = "best"

    def __post_init__(self) -> None:
        if self.granularity not in ("global", "tensor", "channel"):
            expected = "'global', 'tensor' or 'channel'"
            raise InputError(say(f"granularity={self.granularity!r}", expected, "choose one"))
        if not self.ranges or not all(f > 0 for f in self.ranges):
            raise InputError(say(f"ranges={self.ranges}", "fractions above 0", "leave it out"))

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels by default, from the least compression to the most."""
        return odd_grid()

    def check(self, levels: Sequence[float]) -> None:
        """Raise `InputError` for levels out of range."""
        if any(v != int(v) or v < 2 for v in levels):
            raise InputError(say(f"levels {levels}", "whole numbers from 2 on", "pass odd ones"))

    def prepare(self, params: Params) -> Any:
        """Return what all levels need of the chosen weights."""
        top = max(float(v.abs().max()) for v in params.values())
        scale = {}
        for name, value in params.items():
            if self.granularity == "global":
                scale[name] = value.new_tensor(top)
            elif self.granularity == "tensor":
                scale[name] = value.abs().max()
            else:
                axes = tuple(range(1, value.ndim))
                scale[name] = value.abs().amax(axes, keepdim=True) if axes else value.abs()
        return params, scale

    def candidates(self, prepared: Any, level: float) -> Iterator[Candidate]:
        """Yield the changed parameters at one level."""
        params, scale = prepared
        for fraction in self.ranges:
            out = {k: on_grid(v, fraction * scale[k], int(level)) for k, v in params.items()}
            yield Candidate(fraction, out)


def on_grid(value: Tensor, reach: Tensor, levels: int) -> Tensor:
    """The nearest of `levels` equally spaced values from -reach to reach (0 where reach is 0).

    >>> on_grid(torch.tensor([0.3, -0.9]), torch.tensor(1.0), 3).tolist()
    [0.0, -1.0]
    """
    spacing = 2 * reach / (levels - 1)
    safe = torch.where(spacing > 0, spacing, torch.ones_like(spacing))
    index = ((value + reach) / safe).round().clamp(0, levels - 1)
    return index * spacing - reach
