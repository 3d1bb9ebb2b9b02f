"""The sampler loop: steps of several chains, and what is known after each of them.

The loop owns no storage and no clock.  A chain whose loss, gradient, preconditioner, momentum or
position is not finite stays where it last was finite; the others continue, and their numbers do not
depend on it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slt_notebook import names
from slt_notebook.core.potential import Potential
from slt_notebook.core.steppers.choice import choose_stepper
from slt_notebook.core.steppers.protocol import StepInput, Stepper
from slt_notebook.core.types import Batch, Kernel


class Step(NamedTuple):
    """One transition of all chains."""

    index: int  # number of the step, from 0  # pyright: ignore[reportIncompatibleMethodOverride]  # of a tuple
    state: Any  # kernel state after the step
    loss: Tensor  # [chain] of the batch, before the step; NaN for chains that have diverged
    virial: Tensor  # [chain] (w - w*) . grad U / dim, before the step; 1 in equilibrium
    grad_norm: Tensor | None  # [chain] |grad U| before the step, where it was asked for
    status: Tensor  # [chain] int8, a code of `names.STATUS_TEXT`; see `sampler_steps`
    accept: Tensor | None  # [chain], where it was asked for or the kernel has it anyway
    distance: Tensor | None = None  # [chain] |w - w*| after the step, where it is known anyway


def never(step: int) -> bool:
    """Return False, at every step."""
    return False


def sampler_steps(
    kernel: Kernel,
    potential: Potential,
    state: Any,
    *,
    seed: int,
    chains: tuple[int, ...],
    batches: Callable[[int], tuple[list[Batch], Tensor]],
    status: Tensor,
    first: int,
    last: int,
    burnin: int = 0,
    accept_at: Callable[[int], bool] = never,
    norm_at: Callable[[int], bool] = never,
    ask: bool | None = None,
    stepper: Stepper | None = None,
) -> Iterator[Step]:
    """Make the steps `first` to `last - 1`.

    Who reads a step may write a code into its `status`, in place: that chain then stays where it
    is.  (A probe may not be finite where the loss of the batch is.)

    Args:
        kernel: the transition rule, with hyperparameters of these chains.
        potential: what is sampled, with hyperparameters of these chains.
        state: kernel state before step `first`; it may be changed in place.
        seed: of the noise.
        chains: indices of the chains.
        batches: step -> (a batch for every chain, how many losses each must count `[chain]`).
        status: `[chain]` int8 before step `first`; chains that are not `STATUS_OK` do not move.
        first: number of the first step.
        last: number of the step at which to end, which is not made.
        burnin: the step from which on a metric with `adapt="burnin"` is fixed.
        accept_at: at which steps to spend one more evaluation on the Metropolis diagnostic.
        norm_at: at which steps to compute `grad_norm`.
        ask: whether the host may read values of a step.  That saves work where a chain has
            diverged; on a GPU the host would wait for the device each time, so there it is not
            done by default.
        stepper: how steps are computed; None for the fastest, which gives the same numbers.
    """
    settled = replace(kernel, metric=kernel.metric.after_burnin())  # pyright: ignore[reportArgumentType]  # kernels are dataclasses
    if ask is None:
        ask = potential.center.device.type == "cpu"
    if stepper is None:
        stepper = choose_stepper(kernel, potential, seed, chains, ask)
    for index in range(first, last):
        moving = kernel if index < burnin else settled
        here, expected = batches(index)
        alive = status == names.STATUS_OK
        given = StepInput(index, here, expected, alive, accept_at(index), norm_at(index))
        done = stepper.step(moving, state, given)
        state, status = done.state, torch.where(alive, done.status, status)
        stopped = status != names.STATUS_OK
        loss, virial = (torch.where(stopped, torch.nan, v) for v in (done.loss, done.virial))
        norm, accept = (
            None if v is None else torch.where(stopped, torch.nan, v)
            for v in (done.grad_norm, done.accept)
        )
        yield Step(index, state, loss, virial, norm, status, accept, done.distance)
