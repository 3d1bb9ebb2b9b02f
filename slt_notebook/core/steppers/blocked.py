"""How does a chain of millions of coordinates make a step in little memory?  A block at a time.

A kernel whose step goes coordinate by coordinate may be asked for it in blocks that stay in the
cache: noise, gradient of the potential and metric exist for one block only, and what is known of
the whole row (virial, norms, finiteness) is summed on the way.  It is the kernel's own `step` that
is called, so every number is the one that it gives for the whole row at once.

The state is changed in place.  Besides it there are, for each worker, the gradient of one chain
(which turns into its new position) and what the metric and the momentum become.
"""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from slt_notebook.core import streams
from slt_notebook.core.potential import Potential
from slt_notebook.core.reductions import LONG, row_totals
from slt_notebook.core.steppers import in_place
from slt_notebook.core.steppers.fused import has_form
from slt_notebook.core.types import Batch, Evaluation, column

BLOCK = 1 << 17
"""Coordinates of a block.  What a step touches fits into a core's cache, and temporaries stay below
the size from which the allocator asks the system for each anew: at 1 << 18 a sum takes 15 times as
long."""
PART = 1 << 12
"""Coordinates of a sum that is never split over threads: it rounds the same everywhere."""

LARGE = 1 << 24
"""Coordinates from which there is one Metropolis test at a time: it holds two more rows."""
_TESTING = threading.Lock()


class Rows(NamedTuple):
    """What is known of a step besides the state, a number a chain."""

    loss: Tensor
    counted: Tensor
    virial: Tensor  # (w - w*) . grad U / dim
    grad_norm: Tensor  # |grad U|
    finite_grad: Tensor  # bool
    finite_position: Tensor  # bool
    distance: Tensor  # |w - w*| after the step
    accept: Tensor | None


class _Moved(NamedTuple):
    """Where a step leads a chain, and sums over its coordinates."""

    leaves: list[Tensor]  # of the new state
    virial: Tensor  # (w - w*) . grad U
    square: Tensor  # |grad U|^2
    away: Tensor  # |w' - w*|^2


def applies(kernel: Any, potential: Potential) -> bool:
    """Whether chains can be stepped in this way, and gain by it."""
    return (
        potential.center.device.type == "cpu"
        and potential.space.dim >= LONG
        and potential.fit.chains == 1
        and potential.together is None
        and not potential.closed_form
        and getattr(kernel, "elementwise", False)
        and getattr(kernel.metric, "elementwise", False)
    )


def of_chains(kernel: Any, rows: Sequence[int]) -> Any:
    """The kernel of the chains in `rows`: fields with a number per chain are picked from."""
    several = {f: getattr(kernel, f) for f in kernel.per_chain if np.ndim(getattr(kernel, f))}
    return replace(kernel, **{f: tuple(v[row] for row in rows) for f, v in several.items()})


class Walker:
    """Steps chains one after the other; keeps the memory that it needs for one of them."""

    def __init__(self, potential: Potential, seed: int, chains: Sequence[int]):
        self.potential, self.seed, self.chains = potential, seed, chains
        self._room: list[Tensor] = []
        self._grad: Tensor | None = None
        self._scratch: in_place.Scratch | None = None

    def step(
        self, kernel: Any, state: Any, batches: list[Batch], expected: Tensor, alive: Tensor,
        index: int, test: bool,
    ) -> Rows:  # fmt: skip
        """One step of all chains that are alive; a chain that is not finite stays where it was.

        Args:
            expected: how many losses each batch must count `[chain]`.
            test: also spend an evaluation on the Metropolis diagnostic.
        """
        size = len(batches)
        loss = torch.zeros(size)
        found = Rows(
            loss, torch.zeros(size, dtype=torch.int64), loss.clone(), loss.clone(),
            torch.ones(size, dtype=torch.bool), torch.ones(size, dtype=torch.bool), loss.clone(),
            loss.clone() if test else None,
        )  # fmt: skip
        for place in range(size):
            if not alive[place]:
                continue
            values = self._one(kernel, state, batches[place], expected[place], place, index, test)
            for to, value in zip(found, values, strict=True):
                if to is not None:
                    to[place] = value
        return found

    def _one(self, kernel, state, batch, expected, place, index, test):
        potential = self.potential
        kernel = of_chains(kernel, [place])
        leaves, spec = tree_flatten(state)
        mine = [leaf[place : place + 1] for leaf in leaves]
        if self._grad is None:
            self._grad = torch.empty_like(mine[0][0])
        at = potential.one(mine[0][0], batch, self._grad)
        weights = column(potential.nbeta[place], mine[0]), column(potential.gamma[place], mine[0])
        with _TESTING if test and potential.space.dim >= LARGE else nullcontext():
            moved = self._moved(kernel, spec, mine, at, weights, place, index, keep=test)
            accept = None
            if test:
                accept = self._accept(kernel, spec, mine, moved.leaves, batch, at, *weights)
        loss, _, counted = at
        # A float64 sum of squares of float32 numbers is finite exactly where all of them are.
        good = moved.away.isfinite()
        if loss.isfinite() and counted >= expected and moved.square.isfinite() and good:
            for leaf, value in zip(mine, moved.leaves, strict=True):
                leaf.copy_(value)
        norm = moved.square.sqrt()
        virial = moved.virial / potential.space.dim
        distance = moved.away.sqrt()
        return loss, counted, virial, norm, norm.isfinite(), good, distance, accept

    def _moved(self, kernel, spec, mine, at, weights, place, index, keep) -> _Moved:
        """The kernel's step, block by block; the state is left as it is, the gradient if `keep`."""
        potential = self.potential
        (loss, loss_grad, counted), (nbeta, gamma) = at, weights
        new = self._new(mine, loss_grad, keep)
        center, fast = potential.center, has_form(kernel)
        dots, squares, lengths = [], [], []
        for cut, room in self._noise(self.chains[place], index):
            old = tree_unflatten([_cut(leaf, cut) for leaf in mine], spec)
            slope = loss_grad[None, cut]
            if fast:
                step_size = column(kernel.step_size, slope)
                to = tree_unflatten([_cut(leaf, cut) for leaf in new], spec)
                in_place.step(kernel, old, to, center[cut], slope, nbeta, gamma, step_size, room)
            else:
                away = torch.sub(old.position, center[cut], out=room.one)
                room.away.copy_(away[0])
                grad = (nbeta * slope).add_(away.mul_(gamma))
                here = Evaluation(loss[None], slope, loss[None], grad, counted[None], nbeta)
                after, info = kernel.step(old, lambda _, here=here: here, room.noise)
                for to, value in zip(new, tree_flatten(after)[0], strict=True):
                    _cut(to, cut).copy_(value)
                room.slope.copy_(info.grad[0])
                room.moved.copy_(torch.sub(after.position, center[cut], out=room.one)[0])
            dots += _sums(room.away.mul_(room.slope))
            squares += _sums(room.slope.square_())
            lengths += _sums(room.moved.square_())
        return _Moved(new, *(torch.cat(parts).sum() for parts in (dots, squares, lengths)))

    def _new(self, mine: list[Tensor], loss_grad: Tensor, keep: bool) -> list[Tensor]:
        """Where the new state of a chain is written: the position over the gradient, if it may."""
        if not self._room:
            self._room = [torch.empty_like(leaf) for leaf in mine[1:]]
        first = torch.empty_like(mine[0]) if keep else loss_grad[None]
        return [first, *self._room]

    def _noise(self, chain: int, index: int) -> Iterator[tuple[slice, in_place.Scratch]]:
        """Blocks of the row, and a room with their noise: what `streams.noise` gives the row."""
        if self._scratch is None:
            self._scratch = in_place.Scratch.of(min(BLOCK + 16, self.potential.space.dim))
        generator = streams.generator(self.seed, chain, index, torch.device("cpu"))
        dim = self.potential.space.dim
        edges = [*range(0, dim, BLOCK), dim]
        if len(edges) > 2 and edges[-1] - edges[-2] < 16:  # torch draws normals 16 at a time
            del edges[-2]
        for start, stop in itertools.pairwise(edges):
            room = self._scratch.cut(stop - start)
            room.noise.normal_(generator=generator)
            yield slice(start, stop), room

    def _accept(self, kernel, spec, mine, new, batch, at, nbeta, gamma) -> Tensor:
        potential = self.potential
        old, after = tree_unflatten(mine, spec), tree_unflatten(new, spec)
        scale = kernel.metric.current(after.metric, after.position)

        def evaluation(position: Tensor, found) -> Evaluation:
            loss, slope, counted = found
            away = row_totals(
                lambda w, center: (w - center).square(), position, potential.center[None]
            )
            for cut in _cuts(potential.space.dim):  # the gradient of the loss turns into that of U
                pull = (position[0, cut] - potential.center[cut]).mul_(gamma[0])
                slope[cut].mul_(nbeta[0]).add_(pull)
            energy = nbeta[:, 0] * loss + gamma[:, 0] / 2 * away.to(loss)
            return Evaluation(loss[None], slope[None], energy, slope[None], counted[None], nbeta)

        later = evaluation(after.position, potential.one(after.position[0], batch))
        return kernel.acceptance(old, after, scale, evaluation(old.position, at), later)[0]


def _sums(values: Tensor) -> list[Tensor]:
    """Sums of a block, part by part."""
    whole = len(values) // PART * PART
    parts = [values[:whole].view(-1, PART).sum(1)]
    return parts if whole == len(values) else [*parts, values[whole:].sum()[None]]


def _cuts(dim: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, dim, BLOCK)]


def _cut(leaf: Tensor, cut: slice) -> Tensor:
    """The block of a leaf `[1, dim]`; counters `[1, 1]` are the same for all blocks."""
    return leaf[:, cut] if leaf.shape[1] > 1 else leaf
