"""How do several chains walk in step, and what is known after each step?

The loop owns no storage and no clock.  A chain whose loss, gradient or position is not finite
stops where it last was finite; the others go on, and never see it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.potential import Potential
from slt_notebook.core.reductions import finite_rows, row_dots, row_norms
from slt_notebook.core.steppers import fused
from slt_notebook.core.steppers.blocked import Walker, applies
from slt_notebook.core.types import Batch, Evaluation, Kernel, column


class Step(NamedTuple):
    """One transition of all chains."""

    index: int  # number of the step, from 0
    state: Any  # kernel state after the step
    loss: Tensor  # [chain] of the batch, before the step; NaN for chains that stand still
    virial: Tensor  # [chain] (w - w*) . grad U / dim, before the step; 1 in equilibrium
    grad_norm: Tensor | None  # [chain] |grad U| before the step, where it was asked for
    status: Tensor  # [chain] int8, a code of `names.STATUS_TEXT`
    accept: Tensor | None  # [chain], where it was asked for or the kernel has it anyway
    distance: Tensor | None = None  # [chain] |w - w*| after the step, where it is known anyway


def never(step: int) -> bool:
    return False


def walk(
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
) -> Iterator[Step]:
    """Steps `first` to `last - 1`.

    Args:
        state: kernel state before step `first`; it is taken over (long rows change in place).
        batches: step -> (a batch for every chain, how many losses each must count `[chain]`).
        status: `[chain]` int8 before step `first`; chains that are not `STATUS_OK` stand still.
        burnin: the step from which on a metric with `adapt="burnin"` stands still.
        accept_at: at which steps to spend one more evaluation on the Metropolis diagnostic.
        norm_at: at which steps to compute `grad_norm`.
        ask: whether the host may look at values in a step.  That saves work where a chain stands
            still; on a GPU it would wait for the device each time, so there it is not done.
    """
    settled = replace(kernel, metric=kernel.metric.after_burnin())  # pyright: ignore
    device = state.position.device
    ask = device.type == "cpu" if ask is None else ask
    rows = Walker(potential, seed, chains) if ask else None
    for index in range(first, last):
        moving = kernel if index < burnin else settled
        here, expected = batches(index)
        alive = status == names.STATUS_OK
        test, distance = accept_at(index), None
        if rows is not None and applies(moving, potential):
            found = rows.step(moving, state, here, expected, alive, index, test)
            fresh = _causes(found.loss, found.counted, expected, found.finite_grad,
                            found.finite_position, alive)  # fmt: skip
            status = torch.where(alive, fresh, status)
            still = status != names.STATUS_OK
            values = (found.loss, found.virial.float(), found.grad_norm, found.accept)
            distance = found.distance
        elif fused.applies(moving, potential) and not test:
            key = fused.keys(seed, chains, index, device)
            loss, slope, counted = potential.loss_and_grad(state.position, here)
            moved = fused.step(moving, potential, state, slope, key)
            fine = moved.finite_grad, moved.finite_position
            fresh = _causes(loss, counted, expected, *fine, alive)
            status = torch.where(alive, fresh, status)
            still = status != names.STATUS_OK
            state = fused.finish(state, moved.state, still)
            values = (loss, moved.virial, moved.grad_norm if norm_at(index) else None, None)
        else:
            new, values, fresh = _together(
                moving, potential, state, here, expected, alive, seed, chains, index,
                test, norm_at(index), ask,
            )  # fmt: skip
            status = torch.where(alive, fresh, status)
            still = status != names.STATUS_OK
            if not ask or bool(still.any()):
                new = _keep(state, new, still)
            state = new
        loss, virial, norm, accept = (
            None if value is None else torch.where(still, torch.nan, value) for value in values
        )
        yield Step(index, state, loss, virial, norm, status, accept, distance)  # pyright: ignore


def _together(
    kernel, potential, state, batches, expected, alive, seed, chains, index, test, norm, ask
):
    """A step of all chains at once: state, (loss, virial, norm, accept) and causes."""
    dim, device = potential.space.dim, state.position.device
    if fused.applies(kernel, potential):
        randomness = (fused.noise(fused.keys(seed, chains, index, device), dim),)
    else:
        randomness = (streams.noise(seed, chains, index, dim, device),)
    if kernel.uniforms:
        randomness += (streams.uniform(seed, chains, index, device),)

    def evaluate(position: Tensor) -> Evaluation:
        if ask:
            return _of_living(potential, position, batches, alive)
        return potential.evaluate(position, batches)

    new, info = kernel.step(state, evaluate, *randomness)
    virial = (row_dots(state.position, info.grad, potential.center) / dim).float()
    fine = finite_rows(info.grad), finite_rows(new.position)
    fresh = _causes(info.loss, info.counted, expected, *fine, alive)
    accept = info.accept
    if accept is None and test:
        accept = _acceptance(potential, kernel, state, new, info, evaluate)
    norms = row_norms(info.grad) if norm else None
    return new, (info.loss, virial, norms, accept), fresh


def _of_living(potential: Potential, position: Tensor, batches: list[Batch], alive: Tensor):
    if bool(alive.all()):
        return potential.evaluate(position, batches)
    chains = len(position)
    zero, zeros = position.new_zeros(chains), torch.zeros_like(position)
    whole = Evaluation(
        zero, zeros, zero.clone(), zeros.clone(), zero.clone(), zero.clone()[:, None]
    )
    rows = alive.nonzero()[:, 0]
    if len(rows):
        living = [batches[i] for i in rows.tolist()]
        part = potential.evaluate(position[rows], living, rows)
        for to, value in zip(whole, part, strict=True):
            to[rows] = value.to(to)  # pyright: ignore
    return whole


def _causes(
    loss: Tensor, counted: Tensor, expected: Tensor, grad: Tensor, position: Tensor, alive: Tensor
) -> Tensor:
    """What stopped each living chain in this step: codes `[chain]` int8.

    Args:
        grad, position: whether gradient and new position are finite, bool `[chain]`.
    """
    # A loss that is NaN where it counted at w* would otherwise pass as padding.
    bad_loss = ~loss.isfinite() | (counted < expected)
    code = torch.zeros_like(alive, dtype=torch.int8)
    code = torch.where(position, code, names.STATUS_POSITION)
    code = torch.where(grad, code, names.STATUS_GRADIENT)
    code = torch.where(bad_loss, names.STATUS_LOSS, code)
    return torch.where(alive, code, names.STATUS_OK).to(torch.int8)


def _acceptance(potential, kernel, state, new, info, evaluate):
    after = evaluate(new.position)
    nbeta, gamma = column(potential.nbeta, info.grad), column(potential.gamma, info.grad)
    away = state.position - potential.center
    energy = nbeta[:, 0] * info.loss + gamma[:, 0] / 2 * row_dots(away, away).to(info.loss)
    before = Evaluation(info.loss, info.grad, energy, info.grad, info.counted)
    return kernel.acceptance(state, new, info.scale, before, after)


def _keep(old: Any, new: Any, rows: Tensor) -> Any:
    """`new`, but with the rows (chains) of `old` where `rows` is true."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(rows.reshape(-1, *[1] * (a.dim() - 1)), a, b)

    return tree_map(pick, old, new)
