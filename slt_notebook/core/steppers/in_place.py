"""The step of a block of coordinates without any allocation: SGLD, plain or with RMSProp, on a CPU.

Operation by operation in buffers that are kept, with the numbers of `SGLD.step` to the last bit.
Memory that is freed and allocated again costs more here than the arithmetic: what a thread frees at
the end of its heap goes back to the system, which hands it out again page by page (in a worker
thread 20 ns per coordinate by `SGLD.step`, 10 in place; 4 of them are the noise).
"""

from typing import Any

import torch
from torch import Tensor

from slt_notebook.core.kernels.metrics import RMSProp, RMSPropState
from slt_notebook.core.potential import gradient
from slt_notebook.core.steppers.block import Block
from slt_notebook.core.types import column


def update(kernel: Any, block: Block) -> None:
    """The step of a block in place: an `Update` for kernels of which `is_plain_sgld` is true.

    The noise in the scratch is used up.
    """
    scratch = block.scratch
    noise, position = scratch.noise, block.old.position
    away = torch.sub(position, block.center, out=scratch.one)
    scratch.away.copy_(away[0])
    grad = gradient(block.loss_grad, away, block.nbeta, block.gamma, out=scratch.other)
    scratch.grad.copy_(grad[0])
    step_size = column(kernel.step_size, block.loss_grad)
    if isinstance(kernel.metric, RMSProp):
        metric, states = kernel.metric, (block.old.metric, block.new.metric)
        scale = _rmsprop(metric, *states, block.loss_grad, scratch.one).mul_(step_size)
        grad.mul_(scale.div_(2))
        noise.mul_(scale.mul_(2).sqrt_())  # twice the half is exact
    else:
        grad.mul_(step_size / 2)
        noise.mul_(step_size.sqrt())
    torch.add(noise.sub_(grad), position, out=block.new.position)
    scratch.moved.copy_(torch.sub(block.new.position, block.center, out=scratch.one)[0])


def _rmsprop(
    metric: RMSProp, old: RMSPropState, new: RMSPropState, loss_grad: Tensor, out: Tensor
) -> Tensor:
    """`RMSProp.update`: the state goes to `new`, G to `out`."""
    if metric.adapt in ("always", "burnin"):
        torch.lerp(torch.square(loss_grad, out=out), old.square, metric.decay, out=new.square)
        new.updates.copy_(old.updates + 1)
    else:
        new.square.copy_(old.square)
        new.updates.copy_(old.updates)
    if metric.compat == "paper" and bool(new.updates > 0):
        torch.div(new.square, 1 - metric.decay**new.updates, out=out)
    else:
        out.copy_(new.square)
    return out.sqrt_().add_(metric.eps).reciprocal_()
