"""The protocol of steppers: what a step of all chains gets, what it gives, and when it diverged.

A kernel says what a step is; a stepper says how it is computed.  `Reference` calls the kernel
itself; `Blocked` takes long rows block by block on a CPU, by the kernel's own step or by an update
in place; `Fused` is one pass over memory on a GPU.  All give the numbers of the reference: to the
last bit on a CPU, to float32 rounding for the same noise on a GPU.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from slt_notebook import names
from slt_notebook.core.types import Batch, Kernel


class StepInput(NamedTuple):
    """What a step of all chains is made of, besides their state."""

    number: int  # of the step, from 0
    batches: list[Batch]  # one for every chain
    expected: Tensor  # [chain] how many losses of its batch must be counted
    alive: Tensor  # [chain] bool: the chains that have not diverged before
    test: bool = False  # whether to spend one more evaluation on the Metropolis diagnostic
    norm: bool = False  # whether `grad_norm` is wanted


class StepOutput(NamedTuple):
    """The state after a step and what is known of it; rows of dead chains hold any value."""

    state: Any  # kernel state; chains that are dead or diverge in this step keep the old one
    status: Tensor  # [chain] int8: what this step did to each chain, see `divergence`
    loss: Tensor  # [chain] of the batch, before the step
    virial: Tensor  # [chain] (w - w*) . grad U / dim, before the step
    grad_norm: Tensor | None  # [chain] |grad U| before the step, where asked for or known anyway
    accept: Tensor | None  # [chain], where asked for or known anyway
    distance: Tensor | None = None  # [chain] |w - w*| after the step, where it is known anyway


class Stepper(Protocol):
    """Computes steps of all chains."""

    def step(self, kernel: Kernel, state: Any, given: StepInput) -> StepOutput:
        """One step of all chains that are alive.

        Args:
            kernel: of these chains.
            state: the kernel's state before the step; it may be changed in place.
            given: batches, and what is asked for.
        """
        ...


class Finite(NamedTuple):
    """Whether what a step gave is finite, bool of one shape each; None where there is none of it.

    A second moment that overflows makes G zero: its coordinate then stands still, with a gradient
    and a position that are finite.
    """

    grad: Tensor  # of the potential
    position: Tensor  # after the step
    metric: Tensor | None = None  # what G is made of
    rest: Tensor | None = None  # of the kernel's state: momentum, friction, energy


def divergence(loss: Tensor, counted: Tensor, expected: Tensor, finite: Finite) -> Tensor:
    """Return what made each chain diverge in a step: int8, `STATUS_OK` where nothing did.

    The code is the first cause of these: loss, gradient, preconditioner, momentum, position.

    Args:
        loss: of the batch, any shape (one number per chain).
        counted: how many losses of the batch were not NaN.
        expected: how many were not NaN at w*.  A loss that becomes NaN would otherwise pass as
            padding.
        finite: what else of the step is finite.
    """
    # As it is stored: a loss of a float64 network may be finite, and no float32 number.
    bad_loss = ~loss.float().isfinite() | (counted < expected)
    code = torch.zeros_like(finite.grad, dtype=torch.int8)
    for good, cause in (
        (finite.position, names.STATUS_POSITION),
        (finite.rest, names.STATUS_STATE),
        (finite.metric, names.STATUS_METRIC),
        (finite.grad, names.STATUS_GRADIENT),
        (~bad_loss, names.STATUS_LOSS),
    ):
        if good is not None:
            code = torch.where(good, code, cause)
    return code.to(torch.int8)
