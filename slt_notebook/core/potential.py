"""What do the kernels descend?  U(w) = nbeta L(w) + gamma/2 |w - w*|^2, for many chains at once.

Gradients are batched over chains by `vmap`, in chunks, or taken chain after chain by plain
autograd (never `torch.func.grad` in a loop, which is the slowest of the three).  What does not fit
in memory is asked again in smaller parts: see `fit`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from slt_notebook.core.chunking import Fit, attempt, refuse
from slt_notebook.core.compilation import Compiler
from slt_notebook.core.reductions import LONG, row_dots
from slt_notebook.core.space import Space
from slt_notebook.core.types import Batch, Evaluation, LossFn, Params, column


def mean_loss(per_example: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the counted (not NaN) losses, and how many they are."""
    counted = (~per_example.isnan()).sum()
    return per_example.nansum() / counted, counted


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
        together: what takes the gradients instead, for this and other potentials at once.
    """

    loss: LossFn
    space: Space
    base: Params
    center: Tensor
    nbeta: Tensor
    gamma: Tensor
    fit: Fit = field(default_factory=Fit)
    compiler: Compiler | None = None
    together: Callable | None = None

    def evaluate(self, position: Tensor, batches: list[Batch], rows=None) -> Evaluation:
        """The potential and its gradient at `position` `[chain, dim]`, a batch for each chain."""
        rows = slice(None) if rows is None else rows
        loss, loss_grad, counted = self.loss_and_grad(position, batches)
        nbeta, gamma = column(self.nbeta[rows], position), column(self.gamma[rows], position)
        away = position - self.center
        energy = nbeta[:, 0] * loss + gamma[:, 0] / 2 * row_dots(away, away).to(loss)
        return Evaluation(
            loss=loss,
            loss_grad=loss_grad,
            potential=energy,
            grad=(nbeta * loss_grad).add_(away.mul_(gamma)),
            counted=counted,
            nbeta=nbeta,
        )

    def loss_and_grad(self, position: Tensor, batches: list[Batch]):
        """Mean loss `[chain]`, its gradient `[chain, dim]` and the counted losses `[chain]`."""
        if self.together is not None:
            return self.together(position, batches)
        losses, grads, counts = [], [], []
        start = 0
        while start < len(position):
            size = min(self.fit.chains, len(position) - start)
            part = slice(start, start + size)
            found = attempt(partial(self._chunk, position[part], batches[part]))
            if found is None:
                if size == 1:
                    raise refuse("the gradient of a batch", position.device)
                self.fit.fewer_chains(size)
                continue
            for values, value in zip((losses, grads, counts), found, strict=True):
                values.append(value)
            start += size
        if len(losses) == 1:  # a copy of a large model's gradients is worth saving
            return losses[0], grads[0], counts[0]
        return torch.cat(losses), torch.cat(grads), torch.cat(counts)

    def _chunk(self, position: Tensor, batches: list[Batch]):
        several = len(batches) > 1 and same_shapes(batches)
        if self.closed_form and (several or len(batches) == 1):
            return self._given(position, batches)
        return self._batched(position, batches) if several else self._loop(position, batches)

    def _mean(self, vector: Tensor, batch: Batch, loss: LossFn | None = None):
        loss = loss or self.loss
        return mean_loss(loss(self.space.unflatten(vector, self.base), batch))

    def _batched(self, position: Tensor, batches: list[Batch]):
        stacked = {key: torch.stack([b[key] for b in batches]) for key in batches[0]}
        if hasattr(self.loss, "ready"):
            self.loss.ready()  # pyright: ignore
        # A loss may have a form whose every operation `vmap` can batch.
        batched = getattr(self.loss, "batched", self.loss)

        def gradients(loss: LossFn, position: Tensor, stacked: Batch):
            gradient = grad_and_value(partial(self._mean, loss=loss), has_aux=True)
            grad, (loss, counted) = vmap(gradient, randomness="error")(position, stacked)
            return loss.detach(), grad.detach(), counted

        plain = partial(gradients, batched)
        if self.compiler is None:
            return plain(position, stacked)
        make = lambda compiled: compiled(partial(gradients, pinned(self.loss, batched=True)))
        what = f"gradients of {len(batches)} chains"
        return self.compiler.call(what, shapes(stacked), make, plain, position, stacked)

    @property
    def closed_form(self) -> bool:
        """Whether the loss knows its gradient by every coordinate."""
        if getattr(self.loss, "gradient", None) is None or len(self.space.pieces) != len(self.base):
            return False
        return all(piece.shape == tuple(self.base[piece.name].shape) for piece in self.space.pieces)

    def _given(self, position: Tensor, batches: list[Batch]):
        sizes = [piece.size for piece in self.space.pieces]
        parts = torch.split(position, sizes, dim=1)
        pairs = zip(self.space.pieces, parts, strict=True)
        stacked = {p.name: part.reshape(-1, *p.shape) for p, part in pairs}
        batch = {key: torch.stack([b[key] for b in batches]) for key in batches[0]}
        with torch.no_grad():
            loss, grads = self.loss.gradient(stacked, batch)  # pyright: ignore
        flat = [grads[piece.name].reshape(len(position), -1) for piece in self.space.pieces]
        size = len(next(iter(batches[0].values())))
        counted = torch.full((len(position),), size, dtype=torch.int64, device=position.device)
        return loss, torch.cat(flat, 1), counted

    def _loop(self, position: Tensor, batches: list[Batch]):
        found = [self.one(row, batch) for row, batch in zip(position, batches, strict=True)]
        losses, grads, counts = zip(*found, strict=True)
        every = grads[0][None] if len(grads) == 1 else torch.stack(grads)
        return torch.stack(losses), every, torch.stack(counts)

    def one(self, row: Tensor, batch: Batch, room: Tensor | None = None):
        """Mean loss, its gradient `[dim]` and the counted losses of a chain at `row` `[dim]`.

        Args:
            room: where the gradient may be written, `[dim]`; what is returned may lie there.

        Raises:
            OutOfMemory: not even one example of the batch fits.
        """
        examples = len(next(iter(batch.values())))
        while True:
            size = min(self.fit.examples or examples, examples)
            how = self._whole if size == examples else self._parts
            found = attempt(partial(how, row, batch, size, room))
            if found is not None:
                return found
            if size == 1:
                raise refuse("the gradient of one example", row.device)
            self.fit.fewer_examples(size)

    def _whole(self, row: Tensor, batch: Batch, size: int, room: Tensor | None):
        if self.compiler is None and row.device.type == "cpu" and len(row) >= LONG:
            return self._placed(row, batch, room)
        leaf = _leaf(row).requires_grad_(True)

        def gradient(mean, leaf: Tensor, batch: Batch):
            with torch.enable_grad():
                loss, counted = mean(leaf, batch)
                (grad,) = torch.autograd.grad(loss, leaf)
            return loss.detach(), grad, counted

        plain = partial(gradient, self._mean)
        if self.compiler is None:
            return plain(leaf, batch)

        # Forward and backward pass are compiled together, when the gradient is asked for.
        make = lambda compiled: partial(
            gradient, compiled(partial(self._mean, loss=pinned(self.loss)))
        )
        return self.compiler.call("gradient", shapes(batch), make, plain, leaf, batch)

    def _placed(self, row: Tensor, batch: Batch, room: Tensor | None):
        """The same numbers; the gradient of each piece goes to its place as soon as it is made."""
        blocks = self.space.blocks(_leaf(row))
        grad = torch.empty_like(row) if room is None else room
        with torch.enable_grad():
            leaves = [block.requires_grad_(True) for block in blocks]
            losses = self.loss(self.space.assemble(leaves, self.base), batch)
            loss, counted = mean_loss(losses)
            backward_into(loss, leaves, self.space.blocks(grad))
        return loss.detach(), grad, counted

    def _parts(self, row: Tensor, batch: Batch, size: int, room: Tensor | None):
        """The same from backward passes over `size` examples each: activations of so many."""
        blocks = self.space.blocks(_leaf(row))
        grad = torch.empty_like(row) if room is None else room
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
        return total / counted, grad.div_(counted), counted


def backward_into(
    value: Tensor, leaves: Sequence[Tensor], places: Sequence[Tensor], add: bool = False
) -> None:
    """Gradients of `value` by `leaves`, written to `places` (or added to what is there).

    A gradient goes to its place as soon as it is made, and is let go of.  `torch.autograd.grad` by
    one long vector holds the gradients of all its pieces until it joins them: a row of the model
    more, and memory that the allocator asks the system for anew each time.
    """
    missing = set(range(len(leaves)))

    def arrived(leaf: Tensor, number: int) -> None:
        assert leaf.grad is not None
        place = places[number]
        place.add_(leaf.grad) if add else place.copy_(leaf.grad)
        leaf.grad = None
        missing.discard(number)

    hooks = [
        leaf.register_post_accumulate_grad_hook(partial(arrived, number=number))
        for number, leaf in enumerate(leaves)
    ]
    try:
        torch.autograd.backward(value, inputs=list(leaves))
    finally:
        for hook in hooks:
            hook.remove()
    if not add:  # what the value does not depend on
        for number in missing:
            places[number].zero_()


def _leaf(row: Tensor) -> Tensor:
    """`row` as what is differentiated by.

    A copy where its place in memory is not a multiple of 64 bytes: vector instructions round by how
    the data lies, and a chain must not depend on which row of a block it is.
    """
    row = row.detach()
    return row.clone() if row.data_ptr() % 64 else row


def pinned(loss: LossFn, batched: bool = False) -> LossFn:
    """A form of `loss` that can be traced, and whose compiled form serves all threads.

    A loss that has such a form says so by a method `pinned`.
    """
    return loss.pinned(batched) if hasattr(loss, "pinned") else loss  # pyright: ignore


def shapes(batch: Batch) -> tuple:
    return tuple((name, tuple(value.shape)) for name, value in batch.items())


def same_shapes(batches: list[Batch]) -> bool:
    first = {key: value.shape for key, value in batches[0].items()}
    return all({k: v.shape for k, v in b.items()} == first for b in batches[1:])
