"""How is a step made on a GPU?  In one pass over memory, noise included.

A step of SGLD reads position, gradient, w* and (RMSProp) the running squares, and writes position
and squares; done operation by operation it would move three times as many bytes.  The noise is
made in registers: Philox, a function of (seed, chain, step, coordinate).  It is another sequence
than `streams.noise`, so a chain on a GPU walks its own way; `noise` gives the same numbers in
memory, for the steps that are made operation by operation.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slt_notebook.core import streams
from slt_notebook.core.kernels.metrics import Identity, RMSProp
from slt_notebook.core.kernels.sgld import SGLD
from slt_notebook.core.potential import Potential
from slt_notebook.core.types import column


class Moved(NamedTuple):
    """A step and what is known of it, `[chain]` each."""

    state: Any
    virial: Tensor  # (w - w*) . grad U / dim
    grad_norm: Tensor
    finite_grad: Tensor
    finite_position: Tensor


@cache
def available() -> bool:
    """Whether Triton is installed; torch for CUDA brings it."""
    return find_spec("triton") is not None


def applies(kernel: Any, potential: Potential) -> bool:
    """Whether this kernel has a fused step, and lives on a GPU."""
    return potential.center.is_cuda and available() and has_form(kernel)


def has_form(kernel: Any) -> bool:
    """SGLD, plain or with RMSProp."""
    return type(kernel) is SGLD and type(kernel.metric) in (Identity, RMSProp)


def keys(seed: int, chains: Sequence[int], step: int, device: torch.device) -> Tensor:
    """What the noise of each chain follows from: int64 `[chain]`."""
    values = torch.tensor([streams.mix(seed, streams.NOISE, c, step) for c in chains])
    if device.type != "cuda":
        return values
    return values.pin_memory().to(device, non_blocking=True)


def noise(key: Tensor, dim: int) -> Tensor:
    """The noise of a fused step: standard normals `[chain, dim]`."""
    from slt_notebook.core.steppers import triton_kernels as gpu

    out = torch.empty(len(key), dim, device=key.device)
    gpu.normals[_blocks(dim), len(key)](out, key, dim, WIDTH=gpu.BLOCK)
    return out


def step(kernel: Any, potential: Potential, state: Any, loss_grad: Tensor, key: Tensor) -> Moved:
    """One step of all chains; `finish` puts back those that must not have moved.

    Args:
        loss_grad: `[chain, dim]`.
        key: from `keys`.
    """
    from slt_notebook.core.steppers import triton_kernels as gpu

    chains, dim = state.position.shape
    blocks = _blocks(dim)
    position = torch.empty_like(state.position)
    sums = torch.empty(chains, blocks, 4, device=position.device)
    row = lambda value: column(value, position)[:, 0].expand(chains).contiguous()
    metric, scales = state.metric, isinstance(kernel.metric, RMSProp)
    adapts, square, new_square, correction = False, position, position, sums
    decay = eps = 0.0
    if scales:
        adapts = kernel.metric.adapt in ("always", "burnin")
        decay, eps = kernel.metric.decay, kernel.metric.eps
        square, new_square = metric.square, torch.empty_like(metric.square)
        count = metric.count + adapts
        paper = kernel.metric.compat == "paper"
        seen = torch.where(count > 0, 1 - decay ** count.clamp(min=1), 1.0)
        correction = (seen if paper else torch.ones_like(seen))[:, 0].contiguous()
        metric = metric._replace(square=new_square, count=count)
    gpu.sgld[blocks, chains](
        state.position, loss_grad.contiguous(), potential.center, square, position, new_square,
        sums, row(kernel.step_size), row(potential.nbeta), row(potential.gamma), key, correction,
        dim, blocks, decay, eps, ADAPTS=adapts, LATE=decay >= 0.5,
        SCALES=scales, WIDTH=gpu.BLOCK,
    )  # fmt: skip
    totals = sums.double().sum(1)
    return Moved(
        state._replace(position=position, metric=metric),
        (totals[:, gpu.VIRIAL] / dim).float(),
        totals[:, gpu.SQUARE].sqrt().float(),
        totals[:, gpu.BAD_GRADIENT] == 0,
        totals[:, gpu.BAD_POSITION] == 0,
    )


def finish(old: Any, new: Any, stopped: Tensor) -> Any:
    """The new state, with rows of the old one where a chain has stopped."""
    from slt_notebook.core.steppers import triton_kernels as gpu

    flags = stopped.to(torch.int8)
    dim = old.position.shape[1]

    def put_back(a: Tensor, b: Tensor) -> Tensor:
        if b.shape[1] != dim or dim == 1:
            return torch.where(stopped[:, None], a, b)
        gpu.restore[_blocks(dim), len(b)](b, a, flags, dim, WIDTH=gpu.BLOCK)
        return b

    return torch.utils._pytree.tree_map(put_back, old, new)


def _blocks(dim: int) -> int:
    from slt_notebook.core.steppers import triton_kernels as gpu

    return -(-dim // gpu.BLOCK)
