"""MALA: Langevin proposals with a Metropolis test, which sample without a bias of the step size."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from slt_notebook.core.kernels.metrics import Identity
from slt_notebook.core.kernels.sgld import acceptance, positive
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


class MALAState(NamedTuple):
    """State of chains under MALA: the position and the potential there."""

    position: Tensor  # [chain, dim] float32
    known: Tensor  # [chain] whether the rest is the potential at `position`
    loss: Tensor  # [chain]
    counted: Tensor  # [chain] int64
    potential: Tensor  # [chain]
    loss_grad: Tensor  # [chain, dim]
    grad: Tensor  # [chain, dim]
    metric: Any


@dataclass(frozen=True)
class MALA:
    """The Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996).

        w' = w - (step_size / 2) G grad U(w) + sqrt(step_size G) xi
        accepted with probability min(1, exp(U(w) - U(w') + log q(w | w') - log q(w' | w)))

    The target is exact at any step size; too large a step shows as rejections, and a proposal at
    which the loss is not finite is rejected.  That holds for exact gradients only, so a run with
    batches is refused (there SGLD's acceptance is recorded, as a diagnostic).  One gradient a step:
    the potential at the current position is kept.

    Attributes:
        step_size: as in SGLD, one number or one per chain; an acceptance near 0.57 mixes best.
        metric: the preconditioner G: `Identity`, `Fixed`, or one with `adapt="burnin"`.

    >>> MALA(step_size=1e-2)
    MALA(step_size=0.01, metric=Identity())
    """

    step_size: Floats = 1e-3
    metric: Metric = field(default_factory=Identity)

    uniforms: ClassVar[bool] = True
    elementwise: ClassVar[bool] = False
    full_batch: ClassVar[bool] = True
    per_chain: ClassVar[tuple[str, ...]] = ("step_size",)

    def __post_init__(self):
        read_numbers(self)
        if self.metric.adapt == "always" or self.metric.follows != "gradient":
            raise InputError(
                say(
                    f"MALA with {self.metric!r}",
                    "a metric that does not depend on the chain: moving under it would bias what "
                    "the Metropolis test makes exact",
                    "pass metric=slt.RMSProp(adapt='burnin') and a burn-in, or slt.Fixed(...)",
                )
            )

    def init(self, position: Tensor) -> MALAState:
        """Return the state of chains that start at `position` `[chain, dim]`."""
        one, all_ = position.new_zeros(len(position)), torch.zeros_like(position)
        counted = torch.zeros_like(one, dtype=torch.int64)
        metric = self.metric.init(position)
        return MALAState(
            position, one, one.clone(), counted, one.clone(), all_, all_.clone(), metric
        )

    def step(
        self, state: MALAState, evaluate: Evaluate, noise: Tensor, uniform: Tensor
    ) -> tuple[MALAState, Info]:
        """One step; `noise` holds standard normals `[chain, dim]`, `uniform` numbers in [0, 1)."""
        here = Evaluation(state.loss, state.loss_grad, state.potential, state.grad, state.counted)
        if not bool(state.known.all()):
            fresh = evaluate(state.position)
            here = _choose(state.known > 0, here, fresh)
        metric, scale = self.metric.update(state.metric, here.loss_grad)
        step = column(self.step_size, noise) * scale
        proposed = state.position + (noise * step.sqrt() - here.grad * (step / 2))
        there = evaluate(proposed)
        alpha = acceptance(here, there, step, state.position, proposed)
        # A loss that became NaN is not counted, and must not pass as padding.
        possible = there.loss.isfinite() & (there.counted >= here.counted)
        possible &= there.grad.isfinite().all(1)
        alpha = torch.where(possible & alpha.isfinite(), alpha, torch.zeros_like(alpha))
        moved = uniform < alpha
        position = torch.where(moved[:, None], proposed, state.position)
        at = _choose(moved, there, here)
        known = torch.ones_like(state.known)
        new = MALAState(
            position, known, at.loss, at.counted, at.potential, at.loss_grad, at.grad, metric
        )
        return new, Info(here.loss, here.counted, here.grad, scale, alpha)

    def acceptance(
        self, state: MALAState, new: MALAState, scale: Tensor, before: Evaluation, after: Evaluation
    ) -> Tensor:
        """Of the move that was made; the probability for the proposal itself is in `Info`."""
        step = column(self.step_size, before.grad) * scale
        return acceptance(before, after, step, state.position, new.position)

    def free_variance(self, gamma: Tensor, scale: Tensor) -> Tensor:
        """`1 / gamma`, at any step size."""
        return positive(1 / gamma).expand(len(gamma), scale.shape[1])


def _choose(rows: Tensor, yes: Evaluation, no: Evaluation) -> Evaluation:
    """Return the rows (chains) of `yes` where `rows` is true, else those of `no`."""
    wide = rows[:, None]
    return Evaluation(
        torch.where(rows, yes.loss, no.loss),
        torch.where(wide, yes.loss_grad, no.loss_grad),
        torch.where(rows, yes.potential, no.potential),
        torch.where(wide, yes.grad, no.grad),
        torch.where(rows, yes.counted.to(torch.int64), no.counted.to(torch.int64)),
    )
