"""Metrics: diagonal preconditioners G, which scale a step.

A kernel multiplies the drift by G and the noise by sqrt(G), in one place.  Moments see the loss
gradient alone: neither `nbeta` nor the localization (2507.21449, appendix D.3).  All metrics but
Adam leave the drift's direction as it is; what Adam puts in place of the loss gradient is what its
`direction` returns, and the kernel adds the localization to that.

An adapting metric is not stationary: the correction term Gamma(w) = sum_j d G_ij / d w_j is left
out, as in all of the field's samplers, so the target is reached only as far as G varies slowly.
`adapt="burnin"` holds G fixed after the burn-in, which removes that bias; the default is "always",
because that is the published algorithm, and because a burn-in of 0 leaves nothing to learn G from.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from slt_notebook.core.types import read_numbers
from slt_notebook.errors import InputError, say

ADAPT = ("always", "burnin")
_FROZEN = "frozen"  # what "burnin" turns into at its end


@dataclass(frozen=True)
class Identity:
    """G = 1: plain Langevin dynamics."""

    adapt = "never"
    elementwise = True
    follows = "gradient"

    def init(self, position: Tensor) -> tuple[()]:
        """Return the state of chains that start at `position` `[chain, dim]`."""
        return ()

    def update(self, state: tuple[()], loss_grad: Tensor) -> tuple[tuple[()], Tensor]:
        """Return the state after one more loss gradient, and G; see `Metric.update`."""
        return state, loss_grad.new_ones(1, 1)

    def current(self, state: tuple[()], position: Tensor) -> Tensor:
        """G as it is; see `Metric.current`."""
        return position.new_ones(1, 1)

    def direction(self, state: tuple[()], loss_grad: Tensor) -> Tensor:
        """Return what the drift follows; see `Metric.direction`."""
        return loss_grad

    def after_burnin(self) -> "Identity":
        """Return the metric after the burn-in; see `Metric.after_burnin`."""
        return self


@dataclass(frozen=True)
class Fixed:
    """G given, one number or one per coordinate (in the order of the sampled parameters).

    Under a fixed G every kernel leaves the same target as under G = 1; only the speed of each
    coordinate changes.  It is stored in the run's task number by number, so it is meant for
    problems of up to some ten thousand coordinates.

    Attributes:
        scale: positive and finite; arrays and tensors become a tuple.

    >>> Fixed(np.array([1.0, 0.5]))
    Fixed(scale=(1.0, 0.5))
    """

    scale: float | tuple[float, ...] = 1.0

    adapt = "never"
    follows = "gradient"

    def __post_init__(self):
        values = np.asarray(self.scale, dtype=float)
        if values.ndim > 1 or not values.size or not (np.isfinite(values) & (values > 0)).all():
            raise InputError(
                say(
                    f"scale={self.scale!r}", "positive numbers, one or one a coordinate", "pass 1.0"
                )
            )
        plain = float(values) if values.ndim == 0 else tuple(values.tolist())
        object.__setattr__(self, "scale", plain)

    @property
    def elementwise(self) -> bool:
        """Whether G is one number: a block of coordinates has no place in a longer one."""
        return not isinstance(self.scale, tuple)

    def init(self, position: Tensor) -> tuple[()]:
        """Return the state of chains that start at `position` `[chain, dim]`."""
        if isinstance(self.scale, tuple) and len(self.scale) != position.shape[1]:
            raise InputError(
                say(
                    f"a fixed metric of {len(self.scale)} numbers",
                    f"{position.shape[1]}, one for each sampled coordinate",
                    "pass one number, or one per coordinate of the component",
                )
            )
        return ()

    def update(self, state: tuple[()], loss_grad: Tensor) -> tuple[tuple[()], Tensor]:
        """Return the state after one more loss gradient, and G; see `Metric.update`."""
        return state, self.current(state, loss_grad)

    def current(self, state: tuple[()], position: Tensor) -> Tensor:
        """G as it is; see `Metric.current`."""
        return position.new_tensor(self.scale).reshape(1, -1)

    def direction(self, state: tuple[()], loss_grad: Tensor) -> Tensor:
        """Return what the drift follows; see `Metric.direction`."""
        return loss_grad

    def after_burnin(self) -> "Fixed":
        """Return the metric after the burn-in; see `Metric.after_burnin`."""
        return self


class RMSPropState(NamedTuple):
    """State of chains under RMSProp."""

    square: Tensor  # [chain, dim] running mean of squared loss gradients
    updates: Tensor  # [chain, 1] how many so far


@dataclass(frozen=True)
class RMSProp:
    """G = 1 / (sqrt(v_hat) + eps), v a running mean of squared loss gradients.

    `compat="paper"` (2507.21449, algorithm 3): v starts at 1 and is bias-corrected,
    `v_hat_t = v_t / (1 - decay^t)`.  `compat="devinterp"` (devinterp 2.x): v starts at 0, no
    correction.

    Attributes:
        decay: weight of the past in the running mean, in [0, 1).
        eps: added to the root; where the root is much smaller, the scheme is plain Langevin
            dynamics with a step of `step_size / eps`.
        compat: `"paper"` or `"devinterp"`.
        adapt: `"always"`, or `"burnin"` to hold G fixed after the burn-in.

    >>> RMSProp(adapt="burnin")
    RMSProp(decay=0.99, eps=0.1, compat='paper', adapt='burnin')
    """

    decay: float = 0.99
    eps: float = 0.1
    compat: str = "paper"
    adapt: str = "always"

    elementwise = True
    follows = "gradient"

    def __post_init__(self):
        read_numbers(self)
        _check(self.adapt, self.eps, decay=self.decay)
        if self.compat not in ("paper", "devinterp"):
            raise InputError(
                say(f"compat={self.compat!r}", "'paper' or 'devinterp'", "choose one of the two")
            )

    def init(self, position: Tensor) -> RMSPropState:
        """Return the state of chains that start at `position` `[chain, dim]`."""
        start = torch.ones_like if self.compat == "paper" else torch.zeros_like
        return RMSPropState(start(position), position.new_zeros(len(position), 1))

    def update(self, state: RMSPropState, loss_grad: Tensor) -> tuple[RMSPropState, Tensor]:
        """Return the state after one more loss gradient, and G; see `Metric.update`."""
        if self.adapt == _FROZEN:
            return state, self.current(state, loss_grad)
        square = torch.lerp(loss_grad.square(), state.square, self.decay)
        new = RMSPropState(square, state.updates + 1)
        return new, self.current(new, square)

    def current(self, state: RMSPropState, position: Tensor) -> Tensor:
        """G as it is; see `Metric.current`."""
        square = state.square
        if self.compat == "paper":
            square = _corrected(square, self.decay, state.updates, untouched=square)
        return 1 / (square.sqrt() + self.eps)

    def direction(self, state: RMSPropState, loss_grad: Tensor) -> Tensor:
        """Return what the drift follows; see `Metric.direction`."""
        return loss_grad

    def after_burnin(self) -> "RMSProp":
        """Return the metric after the burn-in; see `Metric.after_burnin`."""
        return replace(self, adapt=_FROZEN) if self.adapt == "burnin" else self


class AdamState(NamedTuple):
    """State of chains under Adam."""

    mean: Tensor  # [chain, dim] running mean of loss gradients
    square: Tensor  # [chain, dim] running mean of their squares
    updates: Tensor  # [chain, 1] of `mean`
    square_updates: Tensor  # [chain, 1] of `square`: fewer once it is frozen


@dataclass(frozen=True)
class Adam:
    """RMSProp's G, and a drift along a running mean of loss gradients (2507.21449, algorithm 2).

        m_t = mean_decay m_{t-1} + (1 - mean_decay) g_t,   m_hat_t = m_t / (1 - mean_decay^t)
        G   = 1 / (sqrt(v_hat_t) + eps)                    v as in RMSProp, starting at 1
        w'  = w - (step_size / 2) G (gamma (w - w*) + nbeta m_hat_t) + sqrt(step_size G) xi

    The localization acts at once and the loss with a delay of about `1 / (1 - mean_decay)` steps.
    That is a drift of its own and no preconditioner, so it is defined for `SGLD` alone (SGHMC and
    SGNHT carry a momentum of their own), and even with G fixed the law has an error of first order
    in the step size, larger than SGLD's.

    Attributes:
        mean_decay: weight of the past in m, in [0, 1).
        decay, eps: as in RMSProp.
        adapt: `"always"`, or `"burnin"` to hold G (never m) fixed after the burn-in.
    """

    mean_decay: float = 0.9
    decay: float = 0.99
    eps: float = 0.1
    adapt: str = "always"

    elementwise = True
    follows = "mean"

    def __post_init__(self):
        read_numbers(self)
        _check(self.adapt, self.eps, decay=self.decay, mean_decay=self.mean_decay)

    def init(self, position: Tensor) -> AdamState:
        """Return the state of chains that start at `position` `[chain, dim]`."""
        zero = position.new_zeros(len(position), 1)
        return AdamState(torch.zeros_like(position), torch.ones_like(position), zero, zero.clone())

    def update(self, state: AdamState, loss_grad: Tensor) -> tuple[AdamState, Tensor]:
        """Return the state after one more loss gradient, and G; see `Metric.update`."""
        mean = torch.lerp(loss_grad, state.mean, self.mean_decay)
        square, squares = state.square, state.square_updates
        if self.adapt != _FROZEN:
            square = torch.lerp(loss_grad.square(), square, self.decay)
            squares = squares + 1
        new = AdamState(mean, square, state.updates + 1, squares)
        return new, self.current(new, mean)

    def current(self, state: AdamState, position: Tensor) -> Tensor:
        """G as it is; see `Metric.current`."""
        square = _corrected(state.square, self.decay, state.square_updates, untouched=state.square)
        return 1 / (square.sqrt() + self.eps)

    def direction(self, state: AdamState, loss_grad: Tensor) -> Tensor:
        """Return what the drift follows; see `Metric.direction`."""
        return _corrected(state.mean, self.mean_decay, state.updates, untouched=loss_grad)

    def after_burnin(self) -> "Adam":
        """Return the metric after the burn-in; see `Metric.after_burnin`."""
        return replace(self, adapt=_FROZEN) if self.adapt == "burnin" else self


def _corrected(moment: Tensor, decay: float, updates: Tensor, untouched: Tensor) -> Tensor:
    """`moment / (1 - decay^updates)`; before the first update there is nothing to correct."""
    seen = 1 - decay ** updates.clamp(min=1)
    return torch.where(updates > 0, moment / seen, untouched)


def _check(adapt: str, eps: float, **decays: Any) -> None:
    for name, value in decays.items():
        if not 0 <= value < 1:
            raise InputError(say(f"{name}={value}", f"0 <= {name} < 1", f"pass {name}=0.99"))
    if not eps > 0:
        raise InputError(say(f"eps={eps}", "eps > 0", "pass eps=0.1"))
    if adapt not in (*ADAPT, _FROZEN):
        raise InputError(say(f"adapt={adapt!r}", "'always' or 'burnin'", "choose one of the two"))
