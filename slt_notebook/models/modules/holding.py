"""Put weights into a module and leave them there."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Places:
    """Where each parameter of a module stands, under all of its names.

    `torch.func.functional_call` takes weights out again when the forward pass ends.  A backward
    pass that runs parts of the forward pass once more (activation checkpointing) would then read
    the module's own weights, and give the gradient of another function without a word.
    """

    def __init__(self, module: nn.Module) -> None:
        """Find the parameters of `module`; it must be used by one thread."""
        self._module = module
        names = {id(p): name for name, p in module.named_parameters()}
        self._places = [
            (part._parameters, key, names[id(value)], value)
            for part in module.modules()
            for key, value in part._parameters.items()
            if value is not None
        ]

    def put(self, params: Mapping[str, Tensor]) -> nn.Module:
        """Return the module with `params` in place, until `release` or the next call."""
        for held, key, name, _ in self._places:
            held[key] = params[name]  # type: ignore[assignment]  # not nn.Parameters: part of a graph
        return self._module

    def release(self) -> None:
        """Put the module's own weights back: those put there may be all that holds a graph."""
        for held, key, _, own in self._places:
            held[key] = own
