"""Try out whether the gradients of a loss can be batched over chains by `vmap`.

Some modules cannot be called under `vmap` (values that are read on the host, classic autograd
functions, buffers that a forward pass changes); and nothing says that one which can gives the same
numbers.  So both are tried, on two chains and a few examples, before a run relies on it.
"""

import math

import torch
from torch import Tensor

from slt_notebook.core.chunking import out_of_memory
from slt_notebook.core.potential import BatchGradient, Potential
from slt_notebook.core.types import Batch

AWAY = 1e-3
"""Distance of the two chains from w*, relative to the root mean square of its coordinates."""


def refusal(potential: Potential, batch: Batch) -> str | None:
    """Return why the chains of `potential` cannot be batched, in words; None where they can.

    Args:
        potential: whose gradients are wanted.
        batch: at least one example; two different halves go to the two chains where it has more.
    """
    center = potential.center
    size = float(center.square().mean().sqrt()) or 1.0
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, len(center), generator=generator, dtype=torch.float32)
    position = center + AWAY * size * noise.to(center)
    count = len(next(iter(batch.values())))
    half = max(1, count // 2)
    batches: list[Batch] = [
        {k: v[:half] for k, v in batch.items()},
        {k: v[-half:] for k, v in batch.items()},
    ]
    try:
        batched = potential.batched(position, batches)
    except Exception as error:  # whatever a model raises under vmap
        if out_of_memory(error):
            return None  # the run finds out for itself how many chains fit
        first = (str(error).strip().splitlines() or [""])[0][:120]
        return f"{type(error).__name__}: {first}"
    return _difference(batched, potential.looped(position, batches), size)


def _difference(batched: BatchGradient, looped: BatchGradient, size: float) -> str | None:
    eps = torch.finfo(looped.grad.dtype).eps
    tolerance = max(1e-3, 1e4 * eps)  # float32 rounding of a long sum, at most
    loss = _relative(batched.loss, looped.loss, 1e-6)
    # A gradient that vanishes is nothing but rounding, of terms of about loss / weight.
    rounding = 100 * eps * _norm(looped.loss) / size
    grad = _relative(batched.grad, looped.grad, rounding)
    if loss <= tolerance and grad <= 10 * tolerance:
        return None
    return f"batched by vmap it gives other numbers (relative: losses {loss:.1g}, grads {grad:.1g})"


def _relative(found: Tensor, expected: Tensor, least: float) -> float:
    if not bool(expected.isfinite().all()):
        return 0.0  # a run of such a loss ends by itself, with the cause
    apart = _norm(found.double() - expected.double())
    scale = max(_norm(expected), least, torch.finfo(torch.float32).tiny)
    return apart / scale if math.isfinite(apart) else math.inf


def _norm(values: Tensor) -> float:
    return float(values.double().square().sum().sqrt())
