"""What of a language model does not change while only later weights move?  The layers before them.

A run restricted to weights of layer l and later sees, for every fixed text, the same hidden states
before layer l at every draw.  `hidden_before` computes them once; the loss that `suffix` makes goes
on from there.
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.types import Batch
from slt_notebook.models.causal_lm import CausalLMLoss
from slt_notebook.models.components.ownership import first_tensor


class Enough(Exception):
    """Raised by a hook when the wanted layer has answered: the rest need not be computed."""


def hidden_before(
    loss: CausalLMLoss, layers: tuple[str, ...], depth: int, batch: Batch
) -> tuple[Tensor, int]:
    """What layer `depth` reads at w*: `[example, position, dim]`, the output of the one before it.

    Returns:
        The hidden states, and the length of the tuple that a layer returns (0: the states alone).
    """
    module = loss.shells.get()
    caught: list = []

    def catch(_module, _args, output):
        caught.append((first_tensor(output), len(output) if isinstance(output, tuple) else 0))
        raise Enough

    handle = module.model.get_submodule(layers[depth - 1]).register_forward_hook(catch)
    try:
        with torch.no_grad():
            functional_call(
                module,
                {f"model.{name}": value for name, value in loss.params.items()},
                (batch["input_ids"], "chunked", batch["attention_mask"][:, 1:] > 0),
            )
    except Enough:
        pass
    finally:
        handle.remove()
    hidden, length = caught[0]
    return hidden.detach(), length


def suffix(loss: CausalLMLoss, layers: tuple[str, ...], depth: int, length: int = 0):
    """The loss from layer `depth` on; `depth = len(layers)` leaves the norm and the unembedding.

    Its batches carry the field `prefix`.  What stands before is not computed, and its weights are
    not looked at.

    Args:
        length: of the tuple that a layer returns, from `hidden_before`.
    """
    cut = partial(_cut, layers=layers[:depth], length=length)
    return replace(loss, shells=loss.shells.changed(cut), depth=depth)


def _cut(module: nn.Module, layers: tuple[str, ...], length: int) -> None:
    """Makes the first layers of a shell pass on what they get, and the last of them `held`."""
    for name in layers:
        holder = module if name == layers[-1] else None
        module.model.get_submodule(name).forward = partial(_pass, holder, length)  # pyright: ignore


def _pass(holder: nn.Module | None, length: int, *args, **kwargs):
    hidden = args[0] if args else kwargs["hidden_states"]
    value = hidden if holder is None else holder.held  # pyright: ignore
    return (value, *[None] * (length - 1)) if length else value
