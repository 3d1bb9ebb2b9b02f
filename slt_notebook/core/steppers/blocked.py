"""The step of long rows on a CPU in little memory: chain after chain, block after block.

A kernel whose step goes coordinate by coordinate may be asked for it in blocks that stay in the
cache: noise, gradient of the potential and metric exist for one block only, and what is known of
the whole row (virial, norms, finiteness) is summed on the way.

The state is changed in place.  Besides it there are, for each worker, the gradient of one chain
(which turns into its new position) and what the metric and the momentum become.
"""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.potential import BatchGradient, Potential, energy, gradient
from slt_notebook.core.reductions import LONG, row_totals
from slt_notebook.core.steppers.block import Block, Scratch, Update, kernel_update
from slt_notebook.core.steppers.protocol import Finite, StepInput, StepOutput, divergence
from slt_notebook.core.types import Batch, Evaluation, Kernel, column, kernel_of_chains

BLOCK = 1 << 17
"""Coordinates of a block.  What a step touches fits into a core's cache, and temporaries stay below
the size from which the allocator asks the system for each anew: at 1 << 18 a sum takes 15 times as
long."""
PART = 1 << 12
"""Coordinates of a sum that is never split over threads: it rounds the same everywhere."""

LARGE = 1 << 24
"""Coordinates from which there is one Metropolis test at a time: it holds two more rows."""
_TESTING = threading.Lock()


def supports(kernel: Kernel, potential: Potential) -> bool:
    """Whether chains can be stepped in blocks, and gain by it."""
    return (
        potential.center.device.type == "cpu"
        and potential.space.dim >= LONG
        and potential.fit.chains == 1
        and potential.joint_gradient is None
        and not potential.closed_form
        and getattr(kernel, "elementwise", False)  # what a user's kernel need not say
        and getattr(kernel.metric, "elementwise", False)
    )


class _Row(NamedTuple):
    """One chain: views of its state, and what its step is made of."""

    place: int  # among the chains of the stepper
    leaves: list[Tensor]  # of its state, `[1, size]` each
    spec: TreeSpec
    at: BatchGradient
    nbeta: Tensor  # [1, 1]
    gamma: Tensor  # [1, 1]


class _Moved(NamedTuple):
    """Where a step leads a chain, and sums over its coordinates."""

    leaves: list[Tensor]  # of the new state
    virial: Tensor  # (w - w*) . grad U
    square: Tensor  # |grad U|^2
    away: Tensor  # |w' - w*|^2
    metric: Tensor  # the state of the metric
    rest: Tensor  # that of the kernel besides it and the position


class Blocked:
    """Steps chains one after the other in blocks; keeps the memory that one chain needs."""

    def __init__(
        self,
        potential: Potential,
        seed: int,
        chains: Sequence[int],
        update: Update = kernel_update,
    ) -> None:
        """Make a stepper of `chains`, which makes the step of each block by `update`."""
        self.potential, self.seed, self.chains, self.update = potential, seed, chains, update
        self._state: list[Tensor] = []  # of one chain, besides its position
        self._grad: Tensor | None = None
        self._scratch: Scratch | None = None

    def step(self, kernel: Kernel, state: Any, given: StepInput) -> StepOutput:
        """See `Stepper.step`; `grad_norm` and `distance` are known anyway."""
        size = len(given.batches)
        zeros = torch.zeros(size, dtype=torch.float32)
        out = StepOutput(
            state, torch.zeros(size, dtype=torch.int8), zeros, zeros.clone(), zeros.clone(),
            zeros.clone() if given.test else None, zeros.clone(),
        )  # fmt: skip
        for place in range(size):
            if given.alive[place]:
                values = self._chain(kernel, state, given, place)
                for to, value in zip(out[1:], values, strict=True):
                    if to is not None and value is not None:
                        to[place] = value
        return out

    def _chain(
        self, kernel: Kernel, state: Any, given: StepInput, place: int
    ) -> tuple[Tensor | None, ...]:
        """One step of one chain: the fields of a `StepOutput` after `state`."""
        potential, test = self.potential, given.test
        kernel = kernel_of_chains(kernel, [place])
        leaves, spec = tree_flatten(state)
        mine = [leaf[place : place + 1] for leaf in leaves]
        if self._grad is None:
            self._grad = torch.empty_like(mine[0][0])
        at = BatchGradient(*potential.one(mine[0][0], given.batches[place], self._grad))
        weights = column(potential.nbeta[place], mine[0]), column(potential.gamma[place], mine[0])
        row = _Row(place, mine, spec, at, *weights)
        with _TESTING if test and potential.space.dim >= LARGE else nullcontext():
            moved = self._moved(kernel, row, given.number, keep=test)
            accept = self._accept(kernel, row, moved, given.batches[place]) if test else None
        # A float64 sum of float32 numbers, or of squares, is finite exactly where all of them are.
        totals = (moved.square, moved.away, moved.metric, moved.rest)
        finite = Finite(*(total.isfinite() for total in totals))
        status = divergence(at.loss, at.counted, given.expected[place], finite)
        if int(status) == names.STATUS_OK:
            for leaf, value in zip(mine, moved.leaves, strict=True):
                leaf.copy_(value)
        virial = moved.virial / potential.space.dim
        return status, at.loss, virial, moved.square.sqrt(), accept, moved.away.sqrt()

    def _moved(self, kernel: Kernel, row: _Row, index: int, keep: bool) -> _Moved:
        """Return the step of one chain; its state is left as it is, and the gradient if `keep`."""
        center, grad = self.potential.center, row.at.grad
        new = self._new(row.leaves, grad, keep)
        dots: list[Tensor] = []
        squares: list[Tensor] = []
        lengths: list[Tensor] = []
        metric: list[Tensor] = [torch.zeros((), dtype=torch.float64)]
        rest = metric.copy()
        for part, scratch in self._noise(self.chains[row.place], index):
            old, to = (
                tree_unflatten([_part(leaf, part) for leaf in leaves], row.spec)
                for leaves in (row.leaves, new)
            )
            block = Block(
                old, to, center[part], row.at.loss[None], grad[None, part], row.at.counted[None],
                row.nbeta, row.gamma, scratch,
            )  # fmt: skip
            self.update(kernel, block)
            dots += _sums(scratch.away.mul_(scratch.grad))
            squares += _sums(scratch.grad.square_())
            lengths += _sums(scratch.moved.square_())
            metric += [leaf.sum(dtype=torch.float64) for leaf in tree_leaves(to.metric)]
            others = [getattr(to, name) for name in to._fields[1:] if name != "metric"]
            rest += [leaf.sum(dtype=torch.float64) for leaf in tree_leaves(others)]
        totals = [torch.cat(sums).sum() for sums in (dots, squares, lengths)]
        return _Moved(new, *totals, *(torch.stack(sums).sum() for sums in (metric, rest)))

    def _new(self, leaves: list[Tensor], loss_grad: Tensor, keep: bool) -> list[Tensor]:
        """Where the new state of a chain is written: the position over the gradient, if it may."""
        if not self._state:
            self._state = [torch.empty_like(leaf) for leaf in leaves[1:]]
        first = torch.empty_like(leaves[0]) if keep else loss_grad[None]
        return [first, *self._state]

    def _noise(self, chain: int, index: int) -> Iterator[tuple[slice, Scratch]]:
        """Blocks of the row, and scratch with their noise: what `streams.noise` gives the row."""
        if self._scratch is None:
            self._scratch = Scratch.of(min(BLOCK + 16, self.potential.space.dim))
        generator = streams.generator(self.seed, chain, index, torch.device("cpu"))
        dim = self.potential.space.dim
        edges = [*range(0, dim, BLOCK), dim]
        if len(edges) > 2 and edges[-1] - edges[-2] < 16:  # torch draws normals 16 at a time
            del edges[-2]
        for start, stop in itertools.pairwise(edges):
            scratch = self._scratch.first(stop - start)
            scratch.noise.normal_(generator=generator)
            yield slice(start, stop), scratch

    def _accept(self, kernel: Kernel, row: _Row, moved: _Moved, batch: Batch) -> Tensor:
        """Return the acceptance probability of the step, on its own batch."""
        potential = self.potential
        old, new = tree_unflatten(row.leaves, row.spec), tree_unflatten(moved.leaves, row.spec)
        scale = kernel.metric.current(new.metric, new.position)

        def evaluation(position: Tensor, at: BatchGradient) -> Evaluation:
            away = row_totals(_squares, position, potential.center[None])
            for start in range(0, potential.space.dim, BLOCK):  # in place of the loss gradient
                part = slice(start, start + BLOCK)
                pull = position[0, part] - potential.center[part]
                gradient(at.grad[part], pull, row.nbeta[0], row.gamma[0], out=at.grad[part])
            value, grad = energy(at.loss, away, row.nbeta, row.gamma), at.grad[None]
            return Evaluation(at.loss[None], grad, value, grad, at.counted[None], row.nbeta)

        after = evaluation(new.position, BatchGradient(*potential.one(new.position[0], batch)))
        return kernel.acceptance(old, new, scale, evaluation(old.position, row.at), after)[0]


def _squares(position: Tensor, center: Tensor) -> Tensor:
    return (position - center).square()


def _sums(values: Tensor) -> list[Tensor]:
    """Return the sums of a block, part by part."""
    whole = len(values) // PART * PART
    parts = [values[:whole].view(-1, PART).sum(1)]
    return parts if whole == len(values) else [*parts, values[whole:].sum()[None]]


def _part(leaf: Tensor, part: slice) -> Tensor:
    """Return the block of a leaf `[1, dim]`; counters `[1, 1]` are the same for all blocks."""
    return leaf[:, part] if leaf.shape[1] > 1 else leaf
