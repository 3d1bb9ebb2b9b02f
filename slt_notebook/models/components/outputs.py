"""Outputs of a module inside a language model, without computing what comes after it."""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from slt_notebook.core.types import Batch, Params
from slt_notebook.models.losses.token_losses import PREFIX, LayeredLoss
from slt_notebook.models.probes import counted_tokens


class _Reached(Exception):
    """Raised by a hook when the wanted module has answered."""


def output_of(loss: LayeredLoss, name: str, params: Params, batch: Batch) -> Any:
    """What the module `name` of the model returns at `params` on `batch`, without a gradient.

    Args:
        loss: of a causal language model.
        name: of a submodule of the model.
        params: of the model.
        batch: with the field `prefix` where `loss` starts from one.  A field `rest` is not used.
    """
    module = loss.shells.get()
    caught: list[Any] = []

    def catch(_module: Any, _args: Any, output: Any) -> None:
        caught.append(output)
        raise _Reached

    inner = {f"model.{key}": value for key, value in params.items()}
    counted = counted_tokens(batch)
    given = (batch["input_ids"], "chunked", counted, batch.get(PREFIX))
    handle = module.get_submodule(f"model.{name}").register_forward_hook(catch)
    try:
        with torch.no_grad():
            functional_call(module, inner, given)
    except _Reached:
        pass
    finally:
        handle.remove()
    return caught[0]


def first_tensor(value: Any) -> Tensor | None:
    """`value`, or the first tensor in a tuple or list; None where there is none."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list):
        return next((v for v in value if isinstance(v, Tensor)), None)
    return None
