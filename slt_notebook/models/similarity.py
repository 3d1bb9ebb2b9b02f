"""Similarity of examples at w*, without sampling: baselines of the loss kernel.

A loss kernel that agrees with a grouping tells something about the posterior only if it agrees
better than what one forward pass (activations) or one backward pass (gradients) gives.  In the
limit of strong localization the kernel *is* the gradient kernel:
`Cov(l_i, l_j) -> g_i . g_j / gamma`.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.space import Space
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.models.losses.protocol import Loss
from slt_notebook.models.losses.supervised import SupervisedLoss
from slt_notebook.models.modules.shells import shell
from slt_notebook.models.probes import Probe

_COLUMNS = 1 << 16  # coordinates whose products are summed at once, in float64


@in_plain_modes
def activation_kernel(
    module: nn.Module | SupervisedLoss, probe: Probe, *, layer: str | None = None, rows: int = 64
) -> np.ndarray:
    """Cosine of the activations of two examples: `a_i . a_j / (|a_i| |a_j|)`.

    Args:
        module: called with the field `inputs`, in eval mode; it is not changed.  Of a loss of
            `slt.supervised` its module is taken.
        probe: the examples.
        layer: the submodule whose *output* is compared, all axes flattened.  None is the
            penultimate layer: the input of the last `nn.Linear`.
        rows: examples per pass.

    Returns:
        `[example, example]` float64; 0 where an activation is all 0.  Exact: no standard error.

    Raises:
        InputError: no such layer, no linear layer, or a layer that is not called.
    """
    inside = capabilities(module).module
    inner = shell(cast(nn.Module, module) if inside is None else inside())
    parts = dict(inner.named_modules())
    if layer is None:
        linear = [m for m in parts.values() if isinstance(m, nn.Linear)]
        if not linear:
            raise InputError(say("a module without nn.Linear", "a layer to compare", "name one"))
        hook = linear[-1].register_forward_pre_hook
    elif layer in parts:
        hook = parts[layer].register_forward_hook
    else:
        got = f"layer={layer!r}{nearest(layer, list(parts))}"
        raise InputError(say(got, "a submodule", "see module.named_modules()"))
    seen: list[Tensor] = []
    hook(lambda _, given, *output: seen.append(output[0] if output else given[0]))
    inputs = probe.tensors("cpu")["inputs"]
    found = []
    with torch.no_grad():
        for start in range(0, len(inputs), rows):
            seen.clear()
            inner(inputs[start : start + rows])
            if len(seen) != 1:
                got = f"{len(seen)} calls of {layer or 'the last linear layer'} in one pass"
                raise InputError(say(got, "one", "name a layer that is called once"))
            found.append(seen[0].flatten(1))
    return _cosine(torch.cat(found))


@in_plain_modes
def gradient_kernel(
    loss: Loss, probe: Probe, *, normalize: bool = True, max_bytes: int = 4 * 2**30
) -> np.ndarray:
    """Cosine of the loss gradients of two examples at w*: `g_i . g_j / (|g_i| |g_j|)`.

    Losses of tokens are summed over the example.

    Args:
        loss: as in `slt.sample`; the gradient is by all of its parameters.
        probe: the examples.
        normalize: whether to divide by the norms; False gives the dot product `g_i . g_j`, in
            nats^2 per squared unit of weight.
        max_bytes: of the gradients, which are all held in float32.

    Returns:
        `[example, example]` float64; 0 where a gradient is 0.  Exact: no standard error.

    Raises:
        InputError: more than `max_bytes` of gradients, or fields that the loss does not take.
    """
    loss.check(probe)
    space = Space.of(loss.params)
    if (size := 4 * len(probe) * space.dim) > max_bytes:
        got = f"{size / 2**30:.1f} GiB of gradients"
        raise InputError(
            say(got, f"at most {max_bytes / 2**30:.1f}", "pass fewer examples, or max_bytes")
        )
    batch = probe.tensors("cpu")
    center = space.flatten(loss.params).cpu()
    gradients = torch.empty(len(probe), space.dim, dtype=torch.float32)
    for i in range(len(probe)):
        leaf = center.clone().requires_grad_(True)
        one = {key: value[i : i + 1] for key, value in batch.items()}
        value = loss(space.unflatten(leaf, loss.params), one).nansum()
        (gradients[i],) = torch.autograd.grad(value, leaf)
    return _cosine(gradients) if normalize else _dot(gradients)


def _dot(rows: Tensor) -> np.ndarray:
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for start in range(0, rows.shape[1], _COLUMNS):
        part = rows[:, start : start + _COLUMNS].double()
        total += part @ part.T
    return total.numpy()


def _cosine(rows: Tensor) -> np.ndarray:
    dot = _dot(rows)
    length = np.sqrt(np.diag(dot))
    scale = np.where(length > 0, 1 / np.where(length > 0, length, 1), 0)
    return dot * scale[:, None] * scale
