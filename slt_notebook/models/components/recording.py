"""Tools to examine a module by itself: recorded calls, and weights at which nothing is dead."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments `(args, kwargs)` of a module."""


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Call]]:
    """Record the arguments `(args, kwargs)` with which the named modules are called within."""
    calls: dict[str, Call] = {}

    def keep(name: str):
        def hook(_module, args, kwargs):
            calls.setdefault(name, (args, kwargs))

        return hook

    handles = [
        model.get_submodule(name).register_forward_pre_hook(keep(name), with_kwargs=True)
        for name in names
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def random_parameters(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights of the right shapes at which nothing is dead and no softmax saturates."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        wide = parameter.dim() >= 2
        value = noise / max(parameter.shape) ** 0.5 if wide else 1 + 0.2 * noise
        out[name] = value.to(parameter.device, parameter.dtype)
    return out
