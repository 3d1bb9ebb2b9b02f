"""Check a module before it becomes a loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from slt_notebook.errors import InputError, say
from slt_notebook.models.modules.unwrapping import unwrapped


def module_of(model: Any, expected: str, do: str) -> nn.Module:
    """Return the module that a user means, checked.

    Args:
        model: a module, maybe within wrappers of other libraries.
        expected: what it should be, in words.
        do: what to do instead where it is no module.

    Raises:
        InputError: no module, or one whose weights cannot be sampled.
    """
    module = unwrapped(model)
    if not isinstance(module, nn.Module):
        raise InputError(say(f"a {type(model).__name__}", expected, do))
    scripted = next((m for m in module.modules() if isinstance(m, torch.jit.ScriptModule)), None)
    if scripted is not None:
        what = "a scripted module" if scripted is module else "a module with a scripted part"
        raise InputError(
            say(what, "a plain torch.nn.Module", "pass the module that was scripted or traced")
        )
    parameters = dict(module.named_parameters())
    if any(nn.parameter.is_lazy(p) for p in parameters.values()):
        got = "a module with parameters that have no shape yet (lazy modules)"
        do = "call the module once on a batch of your data, then pass it"
        raise InputError(say(got, "initialized parameters", do))
    if any(p.is_meta for p in parameters.values()):
        do = "load them first (from_pretrained, load_state_dict(..., assign=True))"
        raise InputError(say("a model on the meta device", "loaded weights", do))
    if not parameters:
        got = "a module without parameters"
        if any(True for _ in module.buffers()):
            got += " (it has buffers; those of quantized layers cannot be sampled)"
        raise InputError(say(got, "weights to sample", "pass the model before it was quantized"))
    for name, parameter in parameters.items():
        data = parameter.data
        if hasattr(data, "full_tensor"):
            do = "gather the weights (full_tensor()) into a plain model, and pass that"
            raise InputError(say(f"the sharded parameter {name!r}", "plain tensors", do))
        if parameter.is_complex():
            do = "hold it as two real parameters (torch.view_as_real)"
            raise InputError(say(f"the complex parameter {name!r}", "real parameters", do))
        if type(data) is not torch.Tensor:
            got = f"the parameter {name!r}, a {type(data).__name__}"
            do = "pass the model before it was quantized, or dequantize it"
            raise InputError(say(got, "plain tensors", do))
    if not any(p.is_floating_point() for p in parameters.values()):
        do = "pass the model before it was quantized"
        raise InputError(say("a module whose parameters are whole numbers", "real parameters", do))
    return module


def trainable_names(module: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that take gradients; of all of them where none does.

    A model that was frozen as a whole is one that is only looked at: there all weights are meant.
    """
    real = {n: p for n, p in module.named_parameters() if p.is_floating_point()}
    chosen = frozenset(n for n, p in real.items() if p.requires_grad)
    return chosen or frozenset(real)
