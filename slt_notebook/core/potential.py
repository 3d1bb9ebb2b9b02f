"""The potential U(w) = nbeta L(w) + gamma/2 |w - w*|^2 that kernels descend, for many chains.

Gradients are batched over chains by `vmap`, in chunks, or taken chain after chain by plain
autograd (never `torch.func.grad` in a loop, which is the slowest of the three).  What does not fit
in memory is evaluated again in smaller parts: see `chunking`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from slt_notebook.core.backward import backward_into, leaf_of
from slt_notebook.core.capabilities import Capabilities, capabilities
from slt_notebook.core.chunking import Fit, attempt, refuse
from slt_notebook.core.compilation import Compile, Compiler, Function
from slt_notebook.core.reductions import LONG, row_dots
from slt_notebook.core.space import Space
from slt_notebook.core.types import Batch, Evaluation, LossFn, Params, column


def mean_loss(per_example: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the counted (not NaN) losses, and how many they are."""
    counted = (~per_example.isnan()).sum()
    return per_example.nansum() / counted, counted


def energy(loss: Tensor, distance2: Tensor, nbeta: Tensor, gamma: Tensor) -> Tensor:
    """`U = nbeta loss + gamma/2 |w - w*|^2`, in the dtype of `loss`.

    Args:
        loss: `[chain]`, or one number for one chain.
        distance2: `|w - w*|^2` `[chain]`.
        nbeta: `[chain, 1]`.
        gamma: `[chain, 1]`.
    """
    return nbeta[:, 0] * loss + gamma[:, 0] / 2 * distance2.to(loss)


def gradient(
    loss_grad: Tensor, away: Tensor, nbeta: Tensor, gamma: Tensor, out: Tensor | None = None
) -> Tensor:
    """`grad U = nbeta grad L + gamma (w - w*)`; `away` is overwritten by `gamma (w - w*)`.

    Args:
        loss_grad: grad L, of any shape.
        away: w - w*, of the same shape.
        nbeta: broadcastable to it.
        gamma: broadcastable to it.
        out: where the result is written; it may be `loss_grad`.
    """
    return torch.mul(loss_grad, nbeta, out=out).add_(away.mul_(gamma))


class BatchGradient(NamedTuple):
    """Mean loss of a batch, its gradient, and how many losses were counted."""

    loss: Tensor  # [] of one chain, [chain] of several
    grad: Tensor  # [dim], [chain, dim]
    counted: Tensor  # [], [chain]


@dataclass(frozen=True)
class Potential:
    """`nbeta * L + gamma/2 |w - w*|^2` of one loss function in one space.

    Attributes:
        loss: `(params, batch) -> [example, *token]`.
        space: the sampled coordinates.
        base: the trained parameters.
        center: w*, float32 `[dim]`.
        nbeta, gamma: `[chain]` tensors.
        fit: chains per `vmap` (1 is the plain autograd loop), examples per backward pass.
        compiler: for compiled gradients; None takes them as they are.
        joint_gradient: computes `loss_and_grad` instead, for this and other potentials at once.
    """

    loss: LossFn
    space: Space
    base: Params
    center: Tensor
    nbeta: Tensor
    gamma: Tensor
    fit: Fit = field(default_factory=Fit)
    compiler: Compiler | None = None
    joint_gradient: Callable[[Tensor, list[Batch]], tuple[Tensor, Tensor, Tensor]] | None = None

    @cached_property
    def can(self) -> Capabilities:
        """What the loss can do besides being called."""
        return capabilities(self.loss)

    def evaluate(
        self, position: Tensor, batches: list[Batch], alive: Tensor | None = None
    ) -> Evaluation:
        """Return the potential and its gradient at `position`, on a batch for each chain.

        Args:
            position: `[chain, dim]`.
            batches: one for each chain.
            alive: as in `loss_and_grad`.
        """
        loss, loss_grad, counted = self.loss_and_grad(position, batches, alive)
        nbeta, gamma = (column(value, position) for value in (self.nbeta, self.gamma))
        away = position - self.center
        value = energy(loss, row_dots(away, away), nbeta, gamma)
        grad = gradient(loss_grad, away, nbeta, gamma)
        return Evaluation(loss, loss_grad, value, grad, counted, nbeta)

    def loss_and_grad(
        self, position: Tensor, batches: list[Batch], alive: Tensor | None = None
    ) -> BatchGradient:
        """Mean loss `[chain]`, its gradient `[chain, dim]` and the counted losses `[chain]`.

        Args:
            position: `[chain, dim]`.
            batches: one for each row of `position`.
            alive: bool `[chain]`, chains whose numbers matter; rows of others hold any value.  A
                batched gradient keeps its size when a chain of it stops, since the others would
                else round differently; one without any living chain is left out.

        Raises:
            OutOfMemory: not even one example of one chain fits.
        """
        if self.joint_gradient is not None:
            return BatchGradient(*self.joint_gradient(position, batches))
        found: list[BatchGradient] = []
        start = 0
        while start < len(position):
            size = min(self.fit.chains, len(position) - start)
            part = slice(start, start + size)
            if alive is not None and not bool(alive[part].any()):
                found.append(_nothing(position[part]))
                start += size
                continue
            some = attempt(partial(self._chunk, position[part], batches[part]))
            if some is None:
                if size == 1:
                    raise refuse("the gradient of a batch", position.device)
                self.fit.fewer_chains(size)
                continue
            found.append(some)
            start += size
        if len(found) == 1:  # saves a copy of the gradients of a large model
            return found[0]
        return BatchGradient(*(torch.cat(values) for values in zip(*found, strict=True)))

    def _chunk(self, position: Tensor, batches: list[Batch]) -> BatchGradient:
        several = len(batches) > 1 and same_shapes(batches)
        if self.closed_form and (several or len(batches) == 1):
            return self._closed_form(position, batches)
        return self.batched(position, batches) if several else self.looped(position, batches)

    def _mean(
        self, vector: Tensor, batch: Batch, loss: LossFn | None = None
    ) -> tuple[Tensor, Tensor]:
        loss = loss or self.loss
        return mean_loss(loss(self.space.unflatten(vector, self.base), batch))

    def batched(self, position: Tensor, batches: list[Batch]) -> BatchGradient:
        """Return `loss_and_grad` by one `vmap` over all rows; batches are of the same shapes."""
        stacked = {key: torch.stack([b[key] for b in batches]) for key in batches[0]}
        self.can.prepare_thread()

        def gradients(loss: LossFn, position: Tensor, stacked: Batch):
            both = grad_and_value(partial(self._mean, loss=loss), has_aux=True)
            grad, (mean, counted) = vmap(both, randomness="error")(position, stacked)
            return mean.detach(), grad.detach(), counted

        plain = partial(gradients, self.can.batched)
        if self.compiler is None:
            return BatchGradient(*plain(position, stacked))

        def make(compiled: Compile) -> Function:
            return compiled(partial(gradients, self.can.traceable(True)))

        what = f"gradients of {len(batches)} chains"
        found = self.compiler.call(what, shapes(stacked), make, plain, position, stacked)
        return BatchGradient(*found)

    @cached_property
    def closed_form(self) -> bool:
        """Whether the loss has its gradient in closed form, and all of its parameters move."""
        if self.can.gradient is None or len(self.space.pieces) != len(self.base):
            return False
        return all(piece.shape == tuple(self.base[piece.name].shape) for piece in self.space.pieces)

    def _closed_form(self, position: Tensor, batches: list[Batch]) -> BatchGradient:
        assert self.can.gradient is not None
        sizes = [piece.size for piece in self.space.pieces]
        parts = torch.split(position, sizes, dim=1)
        pairs = zip(self.space.pieces, parts, strict=True)
        stacked = {p.name: part.reshape(-1, *p.shape) for p, part in pairs}
        batch = {key: torch.stack([b[key] for b in batches]) for key in batches[0]}
        with torch.no_grad():
            loss, grads = self.can.gradient(stacked, batch)
        flat = [grads[piece.name].reshape(len(position), -1) for piece in self.space.pieces]
        size = len(next(iter(batches[0].values())))
        counted = torch.full((len(position),), size, dtype=torch.int64, device=position.device)
        return BatchGradient(loss, torch.cat(flat, 1), counted)

    def looped(self, position: Tensor, batches: list[Batch]) -> BatchGradient:
        """Return `loss_and_grad` chain after chain."""
        found = [self.one(row, batch) for row, batch in zip(position, batches, strict=True)]
        losses, grads, counts = zip(*found, strict=True)
        every = grads[0][None] if len(grads) == 1 else torch.stack(grads)
        return BatchGradient(torch.stack(losses), every, torch.stack(counts))

    def one(self, row: Tensor, batch: Batch, out: Tensor | None = None) -> BatchGradient:
        """Mean loss, its gradient `[dim]` and the counted losses of one chain.

        Args:
            row: the position `[dim]`.
            batch: of the chain.
            out: where the gradient may be written, `[dim]`; the result may share its memory.

        Raises:
            OutOfMemory: not even one example of the batch fits.
        """
        examples = len(next(iter(batch.values())))
        while True:
            size = min(self.fit.examples or examples, examples)
            how = self._whole if size == examples else self._parts
            try:
                found = attempt(partial(how, row, batch, size, out))
            finally:
                self.can.release()
            if found is not None:
                return found
            if size == 1:
                raise refuse("the gradient of one example", row.device)
            self.fit.fewer_examples(size)

    def _whole(self, row: Tensor, batch: Batch, size: int, out: Tensor | None) -> BatchGradient:
        if self.compiler is None and row.device.type == "cpu" and len(row) >= LONG:
            return self._placed(row, batch, out)
        leaf = leaf_of(row).requires_grad_(True)

        def both(mean: Callable[..., tuple[Tensor, Tensor]], leaf: Tensor, batch: Batch):
            with torch.enable_grad():
                loss, counted = mean(leaf, batch)
                (grad,) = torch.autograd.grad(loss, leaf)
            return loss.detach(), grad, counted

        plain = partial(both, self._mean)
        if self.compiler is None:
            return BatchGradient(*plain(leaf, batch))

        def make(compiled: Compile) -> Function:
            # Forward and backward pass are compiled together, when the gradient is asked for.
            return partial(both, compiled(partial(self._mean, loss=self.can.traceable(False))))

        found = self.compiler.call("gradient", shapes(batch), make, plain, leaf, batch)
        return BatchGradient(*found)

    def _placed(self, row: Tensor, batch: Batch, out: Tensor | None) -> BatchGradient:
        """The same numbers; the gradient of each piece goes to its place as soon as it is made."""
        blocks = self.space.blocks(leaf_of(row))
        grad = torch.empty_like(row) if out is None else out
        with torch.enable_grad():
            leaves = [block.requires_grad_(True) for block in blocks]
            losses = self.loss(self.space.assemble(leaves, self.base), batch)
            loss, counted = mean_loss(losses)
            backward_into(loss, leaves, self.space.blocks(grad))
        return BatchGradient(loss.detach(), grad, counted)

    def _parts(self, row: Tensor, batch: Batch, size: int, out: Tensor | None) -> BatchGradient:
        """The same from backward passes over `size` examples each: activations of so many."""
        blocks = self.space.blocks(leaf_of(row))
        grad = torch.empty_like(row) if out is None else out
        places = self.space.blocks(grad)
        total, counted = row.new_zeros(()), None
        for start in range(0, len(next(iter(batch.values()))), size):
            part = {key: value[start : start + size] for key, value in batch.items()}
            with torch.enable_grad():
                leaves = [block.detach().requires_grad_(True) for block in blocks]
                losses = self.loss(self.space.assemble(leaves, self.base), part)
                summed = losses.nansum()
                backward_into(summed, leaves, places, add=start > 0)
            number = (~losses.isnan()).sum()
            total = total + summed.detach()
            counted = number if counted is None else counted + number
            del losses, summed
        assert counted is not None
        return BatchGradient(total / counted, grad.div_(counted), counted)


def _nothing(position: Tensor) -> BatchGradient:
    """Rows of chains that have stopped."""
    zero = position.new_zeros(len(position))
    return BatchGradient(zero, torch.zeros_like(position), zero.to(torch.int64))


def shapes(batch: Batch) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of the fields of a batch."""
    return tuple((name, tuple(value.shape)) for name, value in batch.items())


def same_shapes(batches: list[Batch]) -> bool:
    """Whether all batches have fields of the same shapes."""
    first = {key: value.shape for key, value in batches[0].items()}
    return all({k: v.shape for k, v in b.items()} == first for b in batches[1:])
