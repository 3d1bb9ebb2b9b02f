"""The reference stepper: the kernel's own step, of all chains at once, on any device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.potential import Potential, energy
from slt_notebook.core.reductions import finite_leaves, finite_rows, row_dots, row_norms
from slt_notebook.core.steppers.protocol import Finite, StepInput, StepOutput, divergence
from slt_notebook.core.types import Batch, Evaluate, Evaluation, Info, Kernel, column

Normals = Callable[[int, tuple[int, ...], int, int, torch.device], Tensor]
"""`(seed, chains, step, dim, device) -> [chain, dim]`: the noise of a step."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Steps chains by calling `kernel.step`.

    Attributes:
        potential: what is sampled.
        seed, chains: of the noise; indices of the chains.
        ask: whether the host may read values of a step: it then leaves out dead chains, and copies
            no state where no chain is dead.
        normals: the noise of a step.
    """

    potential: Potential
    seed: int
    chains: tuple[int, ...]
    ask: bool = True
    normals: Normals = streams.noise

    def step(self, kernel: Kernel, state: Any, given: StepInput) -> StepOutput:
        """See `Stepper.step`."""
        potential = self.potential
        dim, device = potential.space.dim, state.position.device
        randomness = (self.normals(self.seed, self.chains, given.number, dim, device),)
        if kernel.uniforms:
            randomness += (streams.uniform(self.seed, self.chains, given.number, device),)

        def evaluate(position: Tensor) -> Evaluation:
            if self.ask:
                return _of_living(potential, position, given.batches, given.alive)
            return potential.evaluate(position, given.batches)

        new, info = kernel.step(state, evaluate, *randomness)
        virial = (row_dots(state.position, info.grad, potential.center) / dim).float()
        status = divergence(info.loss, info.counted, given.expected, _finite(new, info))
        accept = info.accept
        if accept is None and given.test:
            accept = _acceptance(potential, kernel, state, new, info, evaluate)
        norms = row_norms(info.grad) if given.norm else None
        stopped = ~given.alive | (status != names.STATUS_OK)
        if not self.ask or bool(stopped.any()):
            new = _restore(state, new, stopped)
        return StepOutput(new, status, info.loss, virial, norms, accept)


def _of_living(
    potential: Potential, position: Tensor, batches: list[Batch], alive: Tensor
) -> Evaluation:
    """The potential at `position`; rows of chains that are dead hold any value."""
    if bool(alive.any()):
        return potential.evaluate(position, batches, None if bool(alive.all()) else alive)
    zero, zeros = position.new_zeros(len(position)), torch.zeros_like(position)
    counted = zero.to(torch.int64)
    return Evaluation(zero, zeros, zero.clone(), zeros.clone(), counted, zero.clone()[:, None])


def _finite(new: Any, info: Info) -> Finite:
    """What is finite of the step to the state `new`."""
    metric = [*tree_leaves(new.metric), info.scale.expand(len(new.position), -1)]
    others = [getattr(new, name) for name in new._fields if name not in ("position", "metric")]
    return Finite(
        finite_rows(info.grad), finite_rows(new.position), finite_leaves(metric),
        finite_leaves(tree_leaves(others)),
    )  # fmt: skip


def _acceptance(
    potential: Potential, kernel: Kernel, state: Any, new: Any, info: Info, evaluate: Evaluate
) -> Tensor:
    """The acceptance probability `[chain]` of the step from `state` to `new`, on its own batch."""
    after = evaluate(new.position)
    nbeta, gamma = column(potential.nbeta, info.grad), column(potential.gamma, info.grad)
    away = state.position - potential.center
    value = energy(info.loss, row_dots(away, away), nbeta, gamma)
    before = Evaluation(info.loss, info.grad, value, info.grad, info.counted)
    return kernel.acceptance(state, new, info.scale, before, after)


def _restore(old: Any, new: Any, rows: Tensor) -> Any:
    """Return `new`, with the rows (chains) of `old` where `rows` is true."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(rows.reshape(-1, *[1] * (a.dim() - 1)), a, b)

    return tree_map(pick, old, new)
