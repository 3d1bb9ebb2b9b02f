"""The step on a GPU in one pass over memory, noise included: SGLD, plain or with RMSProp.

A step of SGLD reads position, gradient, w* and (RMSProp) the running squares, and writes position
and squares; done operation by operation it would move three times as many bytes.  The noise is
made in registers: Philox, a function of (seed, chain, step, coordinate).  It is another sequence
than `streams.noise`, so a chain on a GPU takes another path than on a CPU; `normals` gives the same
numbers in memory, for the steps that are made operation by operation.

Imported only where a GPU is used (and by tests in Triton's interpreter).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.kernels.metrics import RMSProp
from slt_notebook.core.potential import Potential
from slt_notebook.core.steppers.protocol import Finite, StepInput, StepOutput, divergence
from slt_notebook.core.steppers.reference import Reference
from slt_notebook.core.types import Kernel, column


@cache
def available() -> bool:
    """Whether Triton is installed; torch for CUDA brings it."""
    return find_spec("triton") is not None


@dataclass(frozen=True, eq=False)
class Fused:
    """Steps chains by one Triton kernel; steps with a Metropolis test by the reference.

    Attributes:
        potential, seed, chains, ask: as in `Reference`.
    """

    potential: Potential
    seed: int
    chains: tuple[int, ...]
    ask: bool = False

    def step(self, kernel: Kernel, state: Any, given: StepInput) -> StepOutput:
        """See `Stepper.step`."""
        potential = self.potential
        if given.test:
            reference = Reference(potential, self.seed, self.chains, self.ask, normals)
            return reference.step(kernel, state, given)
        key = keys(self.seed, self.chains, given.number, state.position.device)
        loss, loss_grad, counted = potential.loss_and_grad(state.position, given.batches)
        new, sums = _update(kernel, potential, state, loss_grad, key)
        finite = Finite(sums.bad_gradients == 0, sums.bad_positions == 0, sums.bad_moments == 0)
        status = divergence(loss, counted, given.expected, finite)
        stopped = ~given.alive | (status != names.STATUS_OK)
        virial = (sums.virial / potential.space.dim).float()
        norm = sums.square.sqrt().float() if given.norm else None
        return StepOutput(_restore(state, new, stopped), status, loss, virial, norm, None)


def keys(seed: int, chains: Sequence[int], step: int, device: torch.device) -> Tensor:
    """Return what the noise of each chain follows from: int64 `[chain]`."""
    values = torch.tensor([streams.mix(seed, streams.NOISE, c, step) for c in chains])
    if device.type != "cuda":
        return values
    return values.pin_memory().to(device, non_blocking=True)


def normals(seed: int, chains: Sequence[int], step: int, dim: int, device: torch.device) -> Tensor:
    """Return the noise of a fused step: standard normals `[chain, dim]`."""
    gpu, key = _gpu(), keys(seed, chains, step, device)
    out = torch.empty(len(key), dim, device=key.device, dtype=torch.float32)
    gpu.normals[_blocks(dim), len(key)](out, key, dim, WIDTH=gpu.BLOCK)
    return out


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the coordinates of each chain, float64 `[chain]`."""

    virial: Tensor  # (w - w*) . grad U
    square: Tensor  # |grad U|^2
    bad_gradients: Tensor  # how many are not finite
    bad_positions: Tensor
    bad_moments: Tensor


def _update(
    kernel: Any, potential: Potential, state: Any, loss_grad: Tensor, key: Tensor
) -> tuple[Any, _Sums]:
    """Return the state of all chains after one step, dead ones included.

    Args:
        kernel: one of which `is_plain_sgld` is true.
        potential: of all chains.
        state: is left as it is.
        loss_grad: `[chain, dim]`.
        key: from `keys`.
    """
    gpu = _gpu()
    chains, dim = state.position.shape
    blocks = _blocks(dim)
    position = torch.empty_like(state.position)
    sums = torch.empty(chains, blocks, gpu.SUMS, device=position.device, dtype=torch.float32)

    def row(value: Any) -> Tensor:
        return column(value, position)[:, 0].expand(chains).contiguous()

    metric, scales = state.metric, isinstance(kernel.metric, RMSProp)
    adapts, square, new_square, correction = False, position, position, sums
    decay = eps = 0.0
    if scales:
        adapts = kernel.metric.adapt in ("always", "burnin")
        decay, eps = kernel.metric.decay, kernel.metric.eps
        square, new_square = metric.square, torch.empty_like(metric.square)
        updates = metric.updates + adapts
        paper = kernel.metric.compat == "paper"
        seen = torch.where(updates > 0, 1 - decay ** updates.clamp(min=1), 1.0)
        correction = (seen if paper else torch.ones_like(seen))[:, 0].contiguous()
        metric = metric._replace(square=new_square, updates=updates)
    gpu.sgld[blocks, chains](
        state.position, loss_grad.contiguous(), potential.center, square, position, new_square,
        sums, row(kernel.step_size), row(potential.nbeta), row(potential.gamma), key, correction,
        dim, blocks, decay, eps, ADAPTS=adapts, LATE=decay >= 0.5,
        SCALES=scales, WIDTH=gpu.BLOCK,
    )  # fmt: skip
    totals = sums.double().sum(1)
    found = _Sums(
        totals[:, gpu.VIRIAL], totals[:, gpu.SQUARE], totals[:, gpu.BAD_GRADIENT],
        totals[:, gpu.BAD_POSITION], totals[:, gpu.BAD_MOMENT],
    )  # fmt: skip
    return state._replace(position=position, metric=metric), found


def _restore(old: Any, new: Any, stopped: Tensor) -> Any:
    """The new state, changed in place to the rows of the old one where a chain has stopped."""
    gpu, flags = _gpu(), stopped.to(torch.int8)
    dim = old.position.shape[1]

    def put_back(a: Tensor, b: Tensor) -> Tensor:
        if b.shape[1] != dim or dim == 1:
            return torch.where(stopped[:, None], a, b)
        gpu.restore[_blocks(dim), len(b)](b, a, flags, dim, WIDTH=gpu.BLOCK)
        return b

    return tree_map(put_back, old, new)


def _blocks(dim: int) -> int:
    return -(-dim // _gpu().BLOCK)


def _gpu() -> Any:
    """Return the Triton kernels, which have no types."""
    from slt_notebook.core.steppers import triton_kernels

    return triton_kernels
