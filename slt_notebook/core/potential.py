"""What do the kernels descend?  U(w) = nbeta L(w) + gamma/2 |w - w*|^2, for many chains at once.

Gradients are batched over chains by `vmap`, in chunks, or taken chain after chain by plain
autograd (never `torch.func.grad` in a loop, which is the slowest of the three).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from slt_notebook.core.rows import row_dots
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
        chunk: chains per `vmap`; 1 is the plain autograd loop.
        together: what takes the gradients instead, for this and other potentials at once.
    """

    loss: LossFn
    space: Space
    base: Params
    center: Tensor
    nbeta: Tensor
    gamma: Tensor
    chunk: int = 1
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
        for start in range(0, len(position), self.chunk):
            part = slice(start, start + self.chunk)
            chunk = batches[part]
            several = len(chunk) > 1 and same_shapes(chunk)
            one = self._batched if several else self._loop
            if self._closed_form() and (several or len(chunk) == 1):
                one = self._given
            loss, grad, counted = one(position[part], chunk)
            losses.append(loss)
            grads.append(grad)
            counts.append(counted)
        if len(losses) == 1:  # a copy of a large model's gradients is worth saving
            return losses[0], grads[0], counts[0]
        return torch.cat(losses), torch.cat(grads), torch.cat(counts)

    def _mean(self, vector: Tensor, batch: Batch, loss: LossFn | None = None):
        loss = loss or self.loss
        return mean_loss(loss(self.space.unflatten(vector, self.base), batch))

    def _batched(self, position: Tensor, batches: list[Batch]):
        stacked = {key: torch.stack([b[key] for b in batches]) for key in batches[0]}
        # A loss may have a form whose every operation `vmap` can batch.
        batched = getattr(self.loss, "batched", self.loss)
        gradient = grad_and_value(partial(self._mean, loss=batched), has_aux=True)
        grad, (loss, counted) = vmap(gradient, randomness="error")(position, stacked)
        return loss.detach(), grad.detach(), counted

    def _closed_form(self) -> bool:
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
        losses, grads, counts = [], [], []
        for row, batch in zip(position, batches, strict=True):
            leaf = row.detach().clone().requires_grad_(True)  # aligned the same in any block
            with torch.enable_grad():
                loss, counted = self._mean(leaf, batch)
                (grad,) = torch.autograd.grad(loss, leaf)
            losses.append(loss.detach())
            grads.append(grad)
            counts.append(counted)
        every = grads[0][None] if len(grads) == 1 else torch.stack(grads)
        return torch.stack(losses), every, torch.stack(counts)


def same_shapes(batches: list[Batch]) -> bool:
    first = {key: value.shape for key, value in batches[0].items()}
    return all({k: v.shape for k, v in b.items()} == first for b in batches[1:])
