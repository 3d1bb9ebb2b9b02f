"""SGHMC: a kernel with momentum, underdamped Langevin dynamics integrated by BAOAB.

Explicit Euler (as in Chen et al. 2014) heats the chain by its own discretization; the splitting
does not, at the same price of one gradient a step.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from slt_notebook.core.kernels.metrics import Identity
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


class SGHMCState(NamedTuple):
    """State of chains under SGHMC."""

    position: Tensor  # [chain, dim] float32
    momentum: Tensor  # [chain, dim], of unit variance in equilibrium
    metric: Any


@dataclass(frozen=True)
class SGHMC:
    """Stochastic gradient Hamiltonian Monte Carlo (Chen et al. 2014), integrated by BAOAB.

    With the time step `h = sqrt(step_size G)` and `c = 1 - friction`, one step is

        p <- p - h grad U(w)                                 (B: the two half kicks in one)
        w <- w + h p / 2                                     (A)
        p <- c p + sqrt(1 - c^2) xi,      xi ~ N(0, 1)       (O)
        w <- w + h p / 2                                     (A)

    `step_size` is the *square* of the time step, which makes it mean what it means in SGLD: the
    drift is `step_size G grad U / 2` when all momentum is renewed, and both are stable up to
    `step_size G a < 4` on `U = a w^2 / 2`.  There the stationary variance is exactly `1 / a` at any
    stable step; elsewhere the bias is of first order in `step_size` (second in the time step).
    Batch noise heats the chain as it does in SGLD, and more so the smaller the friction.

    Attributes:
        step_size: square of the time step, one number or one per chain.
        friction: share of the momentum that is lost in a step, in (0, 1], one or one per chain; 1
            is the scheme of Leimkuhler and Matthews (2013).
        metric: the preconditioner G (an inverse mass); not `Adam`.

    >>> SGHMC(step_size=1e-4, friction=0.2)
    SGHMC(step_size=0.0001, friction=0.2, metric=Identity())

    References: Leimkuhler and Matthews 2013 (BAOAB), Applied Mathematics Research eXpress 2013 (1).
    """

    step_size: Floats = 1e-3
    friction: Floats = 0.1
    metric: Metric = field(default_factory=Identity)

    uniforms: ClassVar[bool] = False
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False
    per_chain: ClassVar[tuple[str, ...]] = ("step_size", "friction")

    def __post_init__(self):
        read_numbers(self)
        check(self, upper_included=True)

    def init(self, position: Tensor) -> SGHMCState:
        """Return the state of chains that start at `position` `[chain, dim]` without momentum."""
        return SGHMCState(position, torch.zeros_like(position), self.metric.init(position))

    def step(self, state: SGHMCState, evaluate: Evaluate, noise: Tensor) -> tuple[SGHMCState, Info]:
        """One step; `noise` holds standard normals `[chain, dim]`."""
        at = evaluate(state.position)
        metric, scale = self.metric.update(state.metric, at.loss_grad)
        time = (column(self.step_size, noise) * scale).sqrt()
        keep = 1 - column(self.friction, noise)
        before = state.momentum - time * at.grad
        momentum = keep * before + (1 - keep.square()).sqrt() * noise
        position = state.position + time / 2 * (before + momentum)
        return SGHMCState(position, momentum, metric), Info(at.loss, at.counted, at.grad, scale)

    def acceptance(
        self,
        state: SGHMCState,
        new: SGHMCState,
        scale: Tensor,
        before: Evaluation,
        after: Evaluation,
    ) -> Tensor:
        """By the energy that the deterministic parts of the step gained: `shadow_acceptance`."""
        time = (column(self.step_size, before.grad) * scale).sqrt()
        return shadow_acceptance(before, after, time, state.momentum, new.momentum)

    def free_variance(self, gamma: Tensor, scale: Tensor) -> Tensor:
        """`1 / gamma`, while the step is stable."""
        stable = column(self.step_size, gamma) * scale * gamma < 4
        return torch.where(stable, positive(1 / gamma), torch.nan)


def shadow_acceptance(
    before: Evaluation, after: Evaluation, time: Tensor, start: Tensor, end: Tensor
) -> Tensor:
    """`min(1, exp(-W))`, W the work that kicks and drifts of a BAOAB step did on the chain.

        W = U(w') - U(w) + (|p_1|^2 - |p_0|^2 + |p_3|^2 - |p_2|^2) / 2

    p_0 before and p_1 after the first half kick, p_2 before and p_3 after the second.  The parts
    that renew momentum leave its law as it is and do not count.

    Args:
        before: the potential at the start of the step.
        after: the potential at its end, on the same batch.
        time: the time step, broadcastable to `[chain, dim]`.
        start: momenta before the whole kick of the step.
        end: momenta after their renewal.

    Returns:
        `[chain]`, in [0, 1].

    References: Sivak, Chodera and Crooks 2013 (shadow work), Physical Review X 3, 011007.
    """
    half0, half1 = time / 2 * before.grad, time / 2 * after.grad
    first = (start - 2 * half0).double().square() - (start - half0).double().square()
    second = (end - half1).double().square() - end.double().square()
    work = after.potential.double() - before.potential.double() + (first + second).sum(1) / 2
    return (-work).clamp(max=0).exp().float()


def check(kernel: Any, upper_included: bool) -> None:
    """Check that the friction is a share and that the metric leaves the drift to the kernel.

    Args:
        kernel: with `friction` and `metric`.
        upper_included: whether a friction of 1 is allowed.

    Raises:
        InputError: otherwise.
    """
    try:
        shares = np.asarray(kernel.friction, dtype=float)
        good = shares.ndim <= 1 and bool((shares > 0).all() and (shares <= 1).all())
        good = good and (upper_included or bool((shares < 1).all()))
    except (TypeError, ValueError):
        good = False
    name = type(kernel).__name__
    if not good:
        top = "1" if upper_included else "below 1"
        raise InputError(
            say(f"friction={kernel.friction!r}", f"above 0, up to {top}", "pass friction=0.1")
        )
    if kernel.metric.follows != "gradient":
        raise InputError(
            say(
                f"{name} with {type(kernel.metric).__name__}, which puts a running mean in place "
                "of the gradient",
                f"a metric that only scales: {name} has a momentum of its own",
                "pass metric=slt.RMSProp(), or use slt.SGLD",
            )
        )
