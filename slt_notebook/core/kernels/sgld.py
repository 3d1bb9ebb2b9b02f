"""SGLD, the simplest transition kernel, and what all kernels share.

A kernel is a frozen dataclass with pure `init` and `step`.  A sampler is the product
potential x metric x kernel: the potential carries temperature, localization and restriction; the
metric scales; the kernel moves.  The noise is an argument, so that a kernel on a quadratic
potential is an affine map whose stationary law is linear algebra.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from slt_notebook.core.kernels.metrics import Identity
from slt_notebook.core.reductions import row_totals
from slt_notebook.core.types import (
    Evaluate,
    Evaluation,
    Floats,
    Info,
    Metric,
    column,
    read_numbers,
)


class SGLDState(NamedTuple):
    """State of chains under SGLD."""

    position: Tensor  # [chain, dim] float32
    metric: Any


@dataclass(frozen=True)
class SGLD:
    """Stochastic gradient Langevin dynamics (Welling and Teh 2011; localized: 2308.12108).

        w' = w - (step_size / 2) G grad U(w) + sqrt(step_size G) xi,    xi ~ N(0, 1)

    Drift and noise are added to each other first and to the position once, in float32.
    On `U = a w^2 / 2` with fixed G the stationary variance is `1 / (a (1 - step_size G a / 4))`:
    the bias is of first order in the step size.

    Attributes:
        step_size: epsilon, one number or one per chain (devinterp's `lr`, same value).
        metric: the preconditioner G; with `Adam` the drift follows its running mean.

    >>> SGLD(step_size=1e-4)
    SGLD(step_size=0.0001, metric=Identity())
    """

    step_size: Floats = 1e-3
    metric: Metric = field(default_factory=Identity)

    uniforms: ClassVar[bool] = False
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False
    per_chain: ClassVar[tuple[str, ...]] = ("step_size",)

    def __post_init__(self):
        read_numbers(self)

    def init(self, position: Tensor) -> SGLDState:
        """Return the state of chains that start at `position` `[chain, dim]`."""
        return SGLDState(position, self.metric.init(position))

    def step(self, state: SGLDState, evaluate: Evaluate, noise: Tensor) -> tuple[SGLDState, Info]:
        """One step; `noise` holds standard normals `[chain, dim]`."""
        at = evaluate(state.position)
        metric, scale = self.metric.update(state.metric, at.loss_grad)
        drift = descent(at, self.metric.direction(metric, at.loss_grad))
        step = column(self.step_size, drift) * scale
        move = (noise * step.sqrt()).sub_(drift * (step / 2))
        return (
            SGLDState(move.add_(state.position), metric),
            Info(at.loss, at.counted, at.grad, scale),
        )

    def acceptance(
        self, state: SGLDState, new: SGLDState, scale: Tensor, before: Evaluation, after: Evaluation
    ) -> Tensor:
        """Probability that a Metropolis test accepts the step, as if its drift were grad U."""
        step = column(self.step_size, before.grad) * scale
        return acceptance(before, after, step, state.position, new.position)

    def free_variance(self, gamma: Tensor, scale: Tensor) -> Tensor:
        """`1 / (gamma (1 - step_size G gamma / 4))`, Adam included: without a loss its m is 0."""
        step = column(self.step_size, gamma) * scale
        return positive(1 / (gamma * (1 - step * gamma / 4)))


def descent(at: Evaluation, direction: Tensor) -> Tensor:
    """The gradient that the drift follows: `at.grad` with `direction` for the loss gradient."""
    if direction is at.loss_grad:
        return at.grad
    return at.grad + at.nbeta * (direction - at.loss_grad)


def positive(variance: Tensor) -> Tensor:
    """`variance`, NaN where it is not positive and finite: the step is not stable there."""
    return torch.where((variance > 0) & variance.isfinite(), variance, torch.nan)


def acceptance(
    before: Evaluation, after: Evaluation, step: Tensor, position: Tensor, new: Tensor
) -> Tensor:
    """Probability that a Metropolis correction would accept the step, on the step's own batch.

        alpha = min(1, exp(U(w) - U(w') + log q(w | w') - log q(w' | w)))
        q(w' | w) = N(w - (step/2) grad U(w), step)

    Roberts and Tweedie 1996 (MALA); as a diagnostic of SGLD: Lau et al., 2308.12108.

    Args:
        before: the potential at `position`.
        after: the potential at `new`, on the same batch.
        step: step size times metric, broadcastable to `[chain, dim]`; the same G both ways.
        position: before the step, `[chain, dim]`.
        new: after it.

    Returns:
        `[chain]`, in [0, 1].
    """

    # (|w' - w + s g / 2|^2 - |w - w' + s g' / 2|^2) / 2s, without the difference of large squares.
    def terms(old: Tensor, new: Tensor, step: Tensor, slope: Tensor, later: Tensor) -> Tensor:
        slope, later = slope.double(), later.double()
        return (slope - later).mul_(step / 4).add_(new - old).mul_(slope + later).mul_(0.5)

    every = (position, new, step.expand_as(position), before.grad, after.grad)
    log_q = row_totals(terms, *every)
    log_alpha = before.potential.double() - after.potential.double() + log_q
    return log_alpha.clamp(max=0).exp().float()
