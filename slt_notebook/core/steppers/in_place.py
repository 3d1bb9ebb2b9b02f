"""How is a block of coordinates stepped on a CPU without asking for memory?

SGLD's step, plain or with RMSProp, operation by operation in buffers that are kept: the numbers of
`SGLD.step`, to the last bit.  Memory that is given back and asked for again costs more here than
the arithmetic: what a thread frees at the end of its heap goes back to the system, which hands it
out again page by page (in a worker thread 20 ns a coordinate by `SGLD.step`, 10 in place; 4 of them
are the noise).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from slt_notebook.core.kernels.metrics import RMSProp, RMSPropState


class Scratch(NamedTuple):
    """Buffers of one worker: float32 `[1, size]` and float64 `[size]`."""

    noise: Tensor
    one: Tensor
    other: Tensor
    away: Tensor  # w - w*, float64
    slope: Tensor  # grad U, float64
    moved: Tensor  # w' - w*, float64

    @classmethod
    def of(cls, size: int) -> "Scratch":
        single = [torch.empty(1, size) for _ in range(3)]
        return cls(*single, *(torch.empty(size, dtype=torch.float64) for _ in range(3)))

    def cut(self, size: int) -> "Scratch":
        """The first `size` coordinates."""
        return Scratch(*(buffer[..., :size] for buffer in self))


def step(
    kernel: Any, old: Any, new: Any, center: Tensor, loss_grad: Tensor, nbeta: Tensor,
    gamma: Tensor, step_size: Tensor, room: Scratch,
) -> None:  # fmt: skip
    """Writes the state after a step to `new`; `away`, `slope` and `moved` are left in `room`.

    Args:
        old, new: kernel states of one chain, a block of each; `new.position` may be `loss_grad`.
        center: w* `[size]`.
        loss_grad: `[1, size]`.
        nbeta, gamma, step_size: `[1, 1]`.
        room: of the same size, with the noise in `room.noise`; it is used up.
    """
    noise, one, other = room.noise, room.one, room.other
    away = torch.sub(old.position, center, out=one)
    room.away.copy_(away[0])
    grad = torch.mul(loss_grad, nbeta, out=other).add_(away.mul_(gamma))
    room.slope.copy_(grad[0])
    if isinstance(kernel.metric, RMSProp):
        scale = _rmsprop(kernel.metric, old.metric, new.metric, loss_grad, one).mul_(step_size)
        grad.mul_(scale.div_(2))
        noise.mul_(scale.mul_(2).sqrt_())  # twice the half is exact
    else:
        grad.mul_(step_size / 2)
        noise.mul_(step_size.sqrt())
    torch.add(noise.sub_(grad), old.position, out=new.position)
    room.moved.copy_(torch.sub(new.position, center, out=one)[0])


def _rmsprop(
    metric: RMSProp, old: RMSPropState, new: RMSPropState, loss_grad: Tensor, out: Tensor
) -> Tensor:
    """`RMSProp.update`: the state goes to `new`, G to `out`."""
    if metric.adapt in ("always", "burnin"):
        torch.lerp(torch.square(loss_grad, out=out), old.square, metric.decay, out=new.square)
        new.count.copy_(old.count + 1)
    else:
        new.square.copy_(old.square)
        new.count.copy_(old.count)
    if metric.compat == "paper" and bool(new.count > 0):
        torch.div(new.square, 1 - metric.decay**new.count, out=out)
    else:
        out.copy_(new.square)
    return out.sqrt_().add_(metric.eps).reciprocal_()
