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
from slt_notebook.core.rows import finite_rows, row_dots
from slt_notebook.core.types import Batch, Evaluation, Info, Kernel, column


class Step(NamedTuple):
    """One transition of all chains."""

    index: int  # number of the step, from 0
    state: Any  # kernel state after the step
    info: Info
    virial: Tensor  # [chain] (w - w*) . grad U / dim, before the step; 1 in equilibrium
    status: Tensor  # [chain] int8, a code of `names.STATUS_TEXT`
    accept: Tensor | None  # [chain], where it was asked for or the kernel has it anyway


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
    accept_at: Callable[[int], bool] = lambda step: False,
) -> Iterator[Step]:
    """Steps `first` to `last - 1`.

    Args:
        state: kernel state before step `first`.
        batches: step -> (a batch for every chain, how many losses each must count `[chain]`).
        status: `[chain]` int8 before step `first`; chains that are not `STATUS_OK` stand still.
        burnin: the step from which on a metric with `adapt="burnin"` stands still.
        accept_at: at which steps to spend one more evaluation on the Metropolis diagnostic.
    """
    dim = potential.space.dim
    settled = replace(kernel, metric=kernel.metric.after_burnin())  # pyright: ignore
    for index in range(first, last):
        moving = kernel if index < burnin else settled
        here, expected = batches(index)
        alive = status == names.STATUS_OK
        randomness = (streams.noise(seed, chains, index, dim, state.position.device),)
        if kernel.uniforms:
            randomness += (streams.uniform(seed, chains, index, state.position.device),)

        def evaluate(position: Tensor, here=here, alive=alive) -> Evaluation:
            return _of_living(potential, position, here, alive)

        new, info = moving.step(state, evaluate, *randomness)
        virial = (row_dots(state.position, info.grad, potential.center) / dim).float()
        fresh = _causes(info, expected, new.position, alive)
        accept = info.accept
        if accept is None and accept_at(index):
            accept = _acceptance(potential, kernel, state, new, info, evaluate)
        died = fresh != names.STATUS_OK
        if bool((died | ~alive).any()):
            stopped = died | ~alive
            new = _keep(state, new, stopped)
            nan = torch.full_like(info.loss, torch.nan)
            info = info._replace(loss=torch.where(stopped, nan, info.loss))
            virial = torch.where(stopped, nan, virial)
            accept = None if accept is None else torch.where(stopped, nan, accept)
            status = torch.where(alive, fresh, status)
        state = new
        yield Step(index, state, info, virial, status, accept)


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


def _causes(info: Info, expected: Tensor, position: Tensor, alive: Tensor) -> Tensor:
    """What stopped each living chain in this step: codes `[chain]` int8."""
    # A loss that is NaN where it counted at w* would otherwise pass as padding.
    bad_loss = ~info.loss.isfinite() | (info.counted < expected)
    bad_grad = ~finite_rows(info.grad)
    bad_position = ~finite_rows(position)
    code = torch.zeros_like(alive, dtype=torch.int8)
    code[bad_position] = names.STATUS_POSITION
    code[bad_grad] = names.STATUS_GRADIENT
    code[bad_loss] = names.STATUS_LOSS
    code[~alive] = names.STATUS_OK
    return code


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
