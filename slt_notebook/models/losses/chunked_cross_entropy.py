"""The cross-entropy of a large vocabulary, without ever holding all logits.

Unembedding and cross-entropy run together, a few rows at a time, so that the logits of a chunk are
still in the cache when they are turned into losses and into gradients.  On a CPU the gradient is
computed in the forward pass, for the case that every counted token weighs the same (as in a mean
loss); any other weighting is computed anew in the backward pass.  On a GPU, where the check would
make the host wait, it is always the backward pass that computes it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES = 1 << 20
MIN_ROWS = 128


class LinearCrossEntropy(torch.autograd.Function):
    """`-log softmax(hidden @ weight.T + bias)[target]` per row, float32.

    Shapes: hidden `[row, dim]`, weight `[vocabulary, dim]`, bias `[vocabulary]` or None, targets
    `[row]`, counted `[row]` bool; rows that do not count get a loss and no gradient.  `ahead`:
    compute the gradient in the forward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        counted: Tensor,
        ahead: bool = True,
    ) -> Tensor:
        """Losses `[row]`."""
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        wanted_grads = ctx.needs_input_grad if ahead else (False,) * 3
        grads = _Gradients(hidden, weight, bias, wanted_grads)
        for part, logits in _chunks(hidden, weight, bias):
            log_p = F.log_softmax(logits.float(), dim=1)
            wanted = targets[part, None]
            losses[part] = -log_p.gather(1, wanted)[:, 0]
            if ahead:
                grads.add(part, log_p, wanted, counted[part].to(log_p.dtype))
        ctx.save_for_backward(hidden, weight, bias, targets, counted)
        ctx.ready = grads.tensors() if ahead else None
        return losses

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Gradients by hidden, weight and bias."""
        (grad,) = grad_outputs
        hidden, weight, bias, targets, counted = ctx.saved_tensors
        # They are scaled in place, so a second backward pass must compute them anew.
        ready, ctx.ready = ctx.ready, None
        if ready is not None:
            weights = grad[counted]
            common = weights[0] if len(weights) else grad.new_zeros(())
            outside = grad[~counted]
            if bool((weights == common).all()) and not bool(outside.any()):
                return *(None if g is None else g.mul_(common) for g in ready), None, None, None
        grads = _Gradients(hidden, weight, bias, ctx.needs_input_grad)
        for part, logits in _chunks(hidden, weight, bias):
            log_p = F.log_softmax(logits.float(), dim=1)
            grads.add(part, log_p, targets[part, None], grad[part])
        return *grads.tensors(), None, None, None


class _Gradients:
    """Gradients by hidden, weight and bias, summed over chunks; those that are `wanted`."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Sequence[bool]
    ) -> None:
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        fresh = torch.empty_like if len(hidden) else torch.zeros_like
        self.weight = fresh(weight) if wanted[1] else None
        self.bias = torch.zeros_like(bias) if bias is not None and wanted[2] else None
        self._of = hidden, weight

    def add(self, part: slice, log_p: Tensor, wanted: Tensor, scale: Tensor) -> None:
        hidden, weight = self._of
        slope = log_p.exp_()  # softmax minus one-hot, in the chunk's own memory
        slope.scatter_add_(1, wanted, slope.new_full(wanted.shape, -1.0))
        slope = slope.mul_(scale[:, None]).to(weight.dtype)
        if self.hidden is not None:
            torch.mm(slope, weight, out=self.hidden[part])
        if self.weight is not None:
            if part.start == 0:
                torch.mm(slope.T, hidden[part], out=self.weight)
            else:
                self.weight.addmm_(slope.T, hidden[part])
        if self.bias is not None:
            self.bias.add_(slope.sum(0))

    def tensors(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """By hidden, weight and bias."""
        return self.hidden, self.weight, self.bias


def _chunks(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Places of rows, and their logits."""
    rows = max(MIN_ROWS, CHUNK_BYTES // (4 * len(weight)))
    for start in range(0, len(hidden), rows):
        part = slice(start, start + rows)
        yield part, F.linear(hidden[part], weight, bias)
