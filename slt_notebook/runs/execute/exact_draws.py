"""Independent draws from the exact law at nbeta = 0, where no loss pulls the chains.

    w - w* ~ N(0, v),   v the kernel's own stationary variance on gamma/2 |w - w*|^2

A result that looks the same here does not come from the loss: this is the control for every
susceptibility and refined LLC.  No gradient is taken, and no draw depends on the one before.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.potential import Potential, mean_loss
from slt_notebook.core.reductions import finite_rows, row_norms
from slt_notebook.core.sampler_loop import Step
from slt_notebook.core.steppers.protocol import Finite, divergence
from slt_notebook.core.types import Batch, Kernel, column


def exact_deviation(kernel: Kernel, potential: Potential, state: Any) -> Tensor | None:
    """Return the standard deviation of every coordinate `[chain, dim]` at nbeta = 0.

    None where a loss pulls or there is no stationary law.  Only kernels without memory are drawn in
    this way: a momentum would have to be drawn too.
    """
    if len(state) != 2 or bool((potential.nbeta != 0).any() | (potential.gamma <= 0).any()):
        return None
    if kernel.metric.adapt != "never":
        return None
    scale = kernel.metric.current(state.metric, state.position)
    variance = kernel.free_variance(column(potential.gamma, state.position), scale)
    return variance.sqrt().expand_as(state.position) if bool((variance > 0).all()) else None


def exact_steps(
    potential: Potential,
    state: Any,
    deviation: Tensor,
    *,
    seed: int,
    chains: tuple[int, ...],
    batches: Callable[[int], tuple[list[Batch], Tensor]],
    status: Tensor,
    first: int,
    last: int,
) -> Iterator[Step]:
    """Independent positions w* + `deviation` z, one a step, in the form of the sampler loop.

    A chain that has stopped stays where it was, although its next position would be another: as
    after a status no draw of it is used.

    Args:
        potential: as in `core.sampler_loop.sampler_steps`, like all that follow.
        state: of the kernel.
        deviation: of `exact_deviation`.
        seed: of the noise.
        chains: their indices.
        batches: step -> the batches, and how many losses each must count.
        status: of the chains.
        first: the first step.
        last: the step after the last.
    """
    loss_at: Any = potential.loss
    gamma = column(potential.gamma, state.position)
    for index in range(first, last):
        here, expected = batches(index)
        alive = status == names.STATUS_OK
        noise = streams.noise(seed, chains, index, potential.space.dim, state.position.device)
        away = deviation * noise
        position = potential.center + away
        found = []
        for row, batch in zip(position, here, strict=True):
            params = potential.space.unflatten(row.clone(), potential.base)
            found.append(mean_loss(loss_at.evaluate(params, batch).float()))
        loss, counted = (torch.stack(values) for values in zip(*found, strict=True))
        grad = gamma * away
        finite = Finite(finite_rows(grad), finite_rows(position))
        status = torch.where(alive, divergence(loss, counted, expected, finite), status)
        going = (status == names.STATUS_OK)[:, None]
        state = state._replace(position=torch.where(going, position, state.position))
        virial = ((away.double() * grad).sum(1) / potential.space.dim).float()
        loss, virial, norm = (
            torch.where(going[:, 0], v, torch.nan) for v in (loss, virial, row_norms(grad))
        )
        yield Step(index, state, loss, virial, norm, status, None)
