"""What of a language model does not change while only later weights move?  The layers before them.

A run restricted to weights of layer l and later sees, for every fixed text, the same hidden states
before layer l at every draw.  `hidden_before` computes them once; `SuffixLoss` goes on from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.types import Batch, Params
from slt_notebook.models.causal_lm import CausalLMLoss
from slt_notebook.models.losses import Shells, moved
from slt_notebook.models.ownership import first_tensor

PREFIX = "prefix"
"""Field of a batch: hidden states before the first layer that moves, `[example, position, dim]`."""


class _Enough(Exception):
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
        raise _Enough

    handle = module.model.get_submodule(layers[depth - 1]).register_forward_hook(catch)
    try:
        with torch.no_grad():
            functional_call(
                module,
                {f"model.{name}": value for name, value in loss.params.items()},
                (batch["input_ids"], "chunked", batch["attention_mask"][:, 1:] > 0),
            )
    except _Enough:
        pass
    finally:
        handle.remove()
    hidden, length = caught[0]
    return hidden.detach(), length


@dataclass(frozen=True, eq=False)
class SuffixLoss:
    """The loss of a causal LM as a function of the weights of layer `depth` and later.

    Batches carry the field `prefix`.  What stands before is not computed, and its weights are not
    looked at.
    """

    whole: CausalLMLoss
    shells: Shells
    depth: int
    params: Mapping[str, Tensor]
    kind: str = field(default="text", init=False)

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        fused = batch["input_ids"].device.type == "cpu" and torch.is_grad_enabled()
        return self._losses(params, batch, "fused" if fused else "plain")

    def batched(self, params: Params, batch: Batch) -> Tensor:
        """The same loss in a form that `vmap` batches."""
        return self._losses(params, batch, eager=True)

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self._losses(params, batch, "chunked")

    def _losses(self, params: Params, batch: Batch, form="plain", eager=False) -> Tensor:
        module = self.shells.get(eager)
        counted = batch["attention_mask"][:, 1:] > 0
        module.held = batch[PREFIX]
        try:
            inner = {f"model.{name}": value for name, value in params.items()}
            loss = functional_call(module, inner, (batch["input_ids"], form, counted))
        finally:
            module.held = None
        return torch.where(counted, loss, torch.nan)

    def check(self, data) -> None:
        self.whole.check(data)

    def to(self, device) -> "SuffixLoss":
        return replace(
            self,
            whole=self.whole.to(device),
            shells=self.shells.to(device),
            params=moved(self.params, device),
        )


def suffix(loss: CausalLMLoss, layers: tuple[str, ...], depth: int, length: int = 0) -> SuffixLoss:
    """The loss from layer `depth` on; `depth = len(layers)` leaves the norm and the unembedding.

    Args:
        length: of the tuple that a layer returns, from `hidden_before`.
    """
    cut = partial(_cut, layers=layers[:depth], length=length)
    return SuffixLoss(loss, loss.shells.changed(cut), depth, loss.params)


def _cut(module: nn.Module, layers: tuple[str, ...], length: int) -> None:
    """Makes the first layers of a shell pass on what they get, and the last of them `held`."""
    module.held = None  # pyright: ignore
    for name in layers:
        holder = module if name == layers[-1] else None
        module.model.get_submodule(name).forward = partial(_pass, holder, length)  # pyright: ignore


def _pass(holder: nn.Module | None, length: int, *args, **kwargs):
    hidden = args[0] if args else kwargs["hidden_states"]
    value = hidden if holder is None else holder.held
    return (value, *[None] * (length - 1)) if length else value
