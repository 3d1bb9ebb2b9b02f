"""Layers before the first one that moves: computed once, and left out of the loss.

A run restricted to weights of layer l and later sees, for every fixed text, the same hidden states
before layer l at every draw.  `hidden_before` computes them once; the loss that `suffix` makes
starts from them.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from slt_notebook.core.types import Batch
from slt_notebook.models.components.outputs import first_tensor, output_of
from slt_notebook.models.losses.token_losses import LayeredLoss


def hidden_before(
    loss: LayeredLoss, layers: tuple[str, ...], depth: int, batch: Batch
) -> tuple[Tensor, int]:
    """What layer `depth` reads at w*: `[example, position, dim]`, the output of the one before it.

    Args:
        loss: of the whole model.
        layers: names of the layers in the model.
        depth: number of a layer, from 1; `len(layers)` is what follows the last one.
        batch: of texts.

    Returns:
        The hidden states, and the length of the tuple that a layer returns (0: the states alone).
    """
    output = output_of(loss, layers[depth - 1], loss.params, batch)
    hidden = first_tensor(output)
    assert hidden is not None
    return hidden.detach(), len(output) if isinstance(output, tuple) else 0


def suffix(loss: LayeredLoss, layers: tuple[str, ...], depth: int, length: int = 0) -> LayeredLoss:
    """The loss from layer `depth` on; `depth = len(layers)` leaves the norm and the unembedding.

    Its batches carry the field `prefix`.  What comes before is not computed, and its weights are
    not read.

    Args:
        loss: of the whole model.
        layers: names of the layers in the model.
        depth: number of the first layer that is computed.
        length: of the tuple that a layer returns, from `hidden_before`.
    """
    skip = partial(_skip, layers=layers[:depth], length=length)
    return replace(loss, shells=loss.shells.changed(skip), depth=depth)


def _skip(module: nn.Module, layers: tuple[str, ...], length: int) -> None:
    """Make the first layers of a shell pass on what they get, and the last of them `held`."""
    for name in layers:
        holder = module if name == layers[-1] else None
        layer = module.get_submodule(f"model.{name}")
        layer.forward = partial(_pass, holder, length)


def _pass(holder: nn.Module | None, length: int, *args: Any, **kwargs: Any) -> Any:
    """Return the forward pass of a layer that is not computed."""
    hidden = args[0] if args else kwargs["hidden_states"]
    value = hidden if holder is None else holder.held
    return (value, *[None] * (length - 1)) if length else value
