"""One block of coordinates of one chain: its buffers, and its step by the kernel's own `step`."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from slt_notebook.core.potential import gradient
from slt_notebook.core.types import Evaluation


class Scratch(NamedTuple):
    """Buffers of one worker: float32 `[1, size]` and float64 `[size]`."""

    noise: Tensor
    one: Tensor
    other: Tensor
    away: Tensor  # w - w*, float64
    grad: Tensor  # grad U, float64
    moved: Tensor  # w' - w*, float64

    @classmethod
    def of(cls, size: int) -> "Scratch":
        """Buffers for blocks of up to `size` coordinates."""
        single = [torch.empty(1, size, dtype=torch.float32) for _ in range(3)]
        return cls(*single, *(torch.empty(size, dtype=torch.float64) for _ in range(3)))

    def first(self, size: int) -> "Scratch":
        """Return the first `size` coordinates."""
        return Scratch(*(buffer[..., :size] for buffer in self))


class Block(NamedTuple):
    """A block of coordinates of one chain, before its step."""

    old: Any  # kernel state
    new: Any  # kernel state to be written; `new.position` may be `loss_grad`
    center: Tensor  # [size] w*
    loss: Tensor  # [1] of the chain's batch
    loss_grad: Tensor  # [1, size]
    counted: Tensor  # [1]
    nbeta: Tensor  # [1, 1]
    gamma: Tensor  # [1, 1]
    scratch: Scratch  # of the same size, with the noise in `scratch.noise`


Update = Callable[[Any, Block], None]
"""`(kernel, block)`: writes `block.new`, and leaves `away`, `grad` and `moved` in the scratch."""


def kernel_update(kernel: Any, block: Block) -> None:
    """Make the kernel's own step of a block; for every kernel and metric that is elementwise."""
    scratch = block.scratch
    away = torch.sub(block.old.position, block.center, out=scratch.one)
    scratch.away.copy_(away[0])
    grad = gradient(block.loss_grad, away, block.nbeta, block.gamma)
    here = Evaluation(block.loss, block.loss_grad, block.loss, grad, block.counted, block.nbeta)
    after, info = kernel.step(block.old, partial(_given, here), scratch.noise)
    for to, value in zip(tree_leaves(block.new), tree_leaves(after), strict=True):
        to.copy_(value)
    scratch.grad.copy_(info.grad[0])
    scratch.moved.copy_(torch.sub(after.position, block.center, out=scratch.one)[0])


def _given(here: Evaluation, position: Tensor) -> Evaluation:
    """Return what is known of `position`, the only one that an elementwise kernel asks for."""
    return here
