"""SGNHT: a kernel whose friction adapts to gradient noise of unknown size, by a thermostat."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from slt_notebook.core.kernels.metrics import Identity
from slt_notebook.core.kernels.sghmc import check, shadow_acceptance
from slt_notebook.core.kernels.sgld import positive
from slt_notebook.core.types import (
    Evaluate,
    Evaluation,
    Floats,
    Info,
    Metric,
    column,
    read_numbers,
)
from slt_notebook.errors import InputError, say


class SGNHTState(NamedTuple):
    """State of chains under SGNHT."""

    position: Tensor  # [chain, dim] float32
    momentum: Tensor  # [chain, dim], of unit variance in equilibrium
    drag: Tensor  # [chain, 1] friction rate times time step, learned; may be negative for a while
    metric: Any


@dataclass(frozen=True)
class SGNHT:
    """Stochastic gradient Nose-Hoover thermostat (Ding et al. 2014), integrated by BADODAB.

    As `SGHMC`, but the friction is a variable z that grows while the momenta are too hot:

        p <- p - h grad U(w)                                       (B)
        w <- w + h p / 2                                           (A)
        z <- z + (rate / 2) (|p|^2 / dim - 1)                      (D)
        p <- exp(-z) p + sqrt(A (1 - exp(-2 z)) / z) xi            (O)
        z <- z + (rate / 2) (|p|^2 / dim - 1)                      (D)
        w <- w + h p / 2                                           (A)

    with `h = sqrt(step_size G)`, `A = -log(1 - friction)` and z = A at the start.  Gradient noise
    that is the same in every coordinate adds to A what z then takes away, so the target is kept;
    noise that differs between coordinates is corrected on average only.  `grad U` includes the
    localization.  z has the stationary variance `rate / dim` about its mean.

    Attributes:
        step_size: square of the time step, one number or one per chain; as in SGHMC.
        friction: share of the momentum lost in a step before the thermostat acts, in (0, 1).
        rate: how fast the thermostat learns, per step.  It is dimensionless: with the time of the
            dynamics as its unit it would not move at the small steps of sharp posteriors.
        metric: the preconditioner G; not `Adam`.

    >>> SGNHT(step_size=1e-4)
    SGNHT(step_size=0.0001, friction=0.1, rate=0.01, metric=Identity())

    References: Ding et al. 2014 (NeurIPS); Leimkuhler and Shang 2016 (BADODAB), SIAM J. Sci.
    Comput. 38 (2).
    """

    step_size: Floats = 1e-3
    friction: Floats = 0.1
    rate: float = 0.01
    metric: Metric = field(default_factory=Identity)

    uniforms: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False
    full_batch: ClassVar[bool] = False
    per_chain: ClassVar[tuple[str, ...]] = ("step_size", "friction")

    def __post_init__(self):
        read_numbers(self)
        check(self, upper_included=False)
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise InputError(say(f"rate={self.rate}", "positive and finite", "pass rate=0.01"))

    def init(self, position: Tensor) -> SGNHTState:
        """Return the state of chains that start at `position` `[chain, dim]` without momentum."""
        drag = self._power(position).expand(len(position), 1).clone()
        return SGNHTState(position, torch.zeros_like(position), drag, self.metric.init(position))

    def step(self, state: SGNHTState, evaluate: Evaluate, noise: Tensor) -> tuple[SGNHTState, Info]:
        """One step; `noise` holds standard normals `[chain, dim]`."""
        at = evaluate(state.position)
        metric, scale = self.metric.update(state.metric, at.loss_grad)
        time = (column(self.step_size, noise) * scale).sqrt()
        before = state.momentum - time * at.grad
        drag = state.drag + self.rate / 2 * excess(before)
        momentum = (-drag).exp() * before + self._kick(drag) * noise
        drag = drag + self.rate / 2 * excess(momentum)
        position = state.position + time / 2 * (before + momentum)
        return (
            SGNHTState(position, momentum, drag, metric),
            Info(at.loss, at.counted, at.grad, scale),
        )

    def acceptance(
        self,
        state: SGNHTState,
        new: SGNHTState,
        scale: Tensor,
        before: Evaluation,
        after: Evaluation,
    ) -> Tensor:
        """As for SGHMC; the thermostat's own error does not count."""
        time = (column(self.step_size, before.grad) * scale).sqrt()
        return shadow_acceptance(before, after, time, state.momentum, new.momentum)

    def free_variance(self, gamma: Tensor, scale: Tensor) -> Tensor:
        """`1 / gamma` while the step is stable: exact for many coordinates, when z does not move.

        For a few it is off by less than `rate * step_size * G * gamma`, relatively.
        """
        stable = column(self.step_size, gamma) * scale * gamma < 4
        return torch.where(stable, positive(1 / gamma), torch.nan)

    def _power(self, like: Tensor) -> Tensor:
        return -torch.log1p(-column(self.friction, like))

    def _kick(self, drag: Tensor) -> Tensor:
        small = drag.abs() < 1e-4
        safe = torch.where(small, torch.ones_like(drag), drag)
        # (1 - exp(-2 z)) / z = 2 - 2 z + ... near 0
        ratio = torch.where(small, 2 - 2 * drag, -torch.expm1(-2 * safe) / safe)
        return (self._power(drag) * ratio).sqrt()


def excess(momentum: Tensor) -> Tensor:
    """`|p|^2 / dim - 1` `[chain, 1]`; the rounding does not depend on the number of chains."""
    rows = torch.stack([row.dot(row) for row in momentum.double()])
    return (rows / momentum.shape[1] - 1).to(momentum)[:, None]
