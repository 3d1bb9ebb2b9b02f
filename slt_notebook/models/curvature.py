"""The curvature of the loss at w*: the trace of its Hessian, by random signs."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.potential import mean_loss
from slt_notebook.core.space import Space, dtype_of
from slt_notebook.core.types import Batch
from slt_notebook.errors import InputError, say
from slt_notebook.models.losses.protocol import Loss
from slt_notebook.models.probes import Probe


class Trace(NamedTuple):
    """An estimate and its standard error over the random vectors."""

    mean: float
    stderr: float


@in_plain_modes
def hessian_trace(
    loss: Loss, data: Probe, *, vectors: int = 8, rows: int | None = None, seed: int = 0
) -> Trace:
    """`tr H = E[v' H v]` with v of random signs, H the Hessian of the mean loss over `data`.

    A product with H costs about two gradients.  For a Gaussian model with n observations, lambda
    grows with the *logarithms* of the eigenvalues, which the trace does not see: it is shown as a
    control.

    Args:
        loss: from `slt.causal_lm`, `slt.supervised` or `slt.loss_fn`.
        data: the examples over which the loss is averaged.
        vectors: number of random vectors; the standard error is over them.
        rows: examples per pass; all by default.
        seed: of the vectors.

    Raises:
        InputError: fewer than 2 vectors.

    References: Hutchinson 1990.
    """
    if vectors < 2:
        raise InputError(
            say(
                f"vectors={vectors}", "2 or more: the standard error is over them", "pass vectors=8"
            )
        )
    space = Space.of(loss.params)
    device = next(iter(loss.params.values())).device
    center = space.flatten(loss.params)
    function = capabilities(loss).batched  # it can be differentiated twice
    tensors = data.tensors(device, dtype_of(loss.params))
    size = rows or len(data)
    blocks = [{k: v[i : i + size] for k, v in tensors.items()} for i in range(0, len(data), size)]

    def gradient(vector: Tensor, batch: Batch) -> tuple[Tensor, Tensor, float]:
        leaf = vector.detach().requires_grad_(True)
        value, counted = mean_loss(function(space.unflatten(leaf, loss.params), batch))
        (grad,) = torch.autograd.grad(value, leaf, create_graph=True)
        return leaf, grad, float(counted)

    generator = torch.Generator().manual_seed(seed)
    sign = partial(torch.randint, 0, 2, (space.dim,), generator=generator)
    signs = [(sign() * 2 - 1).to(center) for _ in range(vectors)]
    totals, weight = torch.zeros(vectors, dtype=torch.float64), 0.0
    for batch in blocks:
        leaf, grad, counted = gradient(center, batch)
        weight += counted
        for k, v in enumerate(signs):
            (product,) = torch.autograd.grad(grad, leaf, v, retain_graph=True)
            totals[k] += counted * float(product @ v)
    each = totals / weight
    return Trace(float(each.mean()), float(each.std() / vectors**0.5))
