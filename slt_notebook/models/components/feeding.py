"""Which heads each entry of an attention's weights feeds: one backward pass per head.

The attention is examined by itself, at random weights and at inputs that the model itself made, so
that a dead head or a saturated softmax of the trained model hides nothing.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.models.components.recording import Call, random_parameters


def feeding(
    module: nn.Module, out_name: str, call: Call, heads: int, hold_norms: bool = False
) -> dict[str, Tensor]:
    """For every parameter, which heads it feeds: bool `[head, *shape]`.

    Args:
        module: an attention.
        out_name: its output projection, whose input has a slot for each head.
        call: arguments of the attention.
        heads: how many.
        hold_norms: whether norms are taken as linear maps, with their statistics fixed.
    """
    params = {k: v.requires_grad_() for k, v in random_parameters(module, 1).items()}
    handles = []
    for name, part in module.named_modules():
        kinds = {p.dim() for p in part.parameters(recurse=False)}
        if name != out_name and 2 in kinds:
            # A bias of the keys shifts all scores alike, which softmax does not see; a gain that
            # differs between positions shows it, and changes no owner.
            handles.append(part.register_forward_hook(_gain))
        elif hold_norms and is_norm(part):
            handles.append(part.register_forward_hook(_as_linear))
    slots: list[Tensor] = []
    part = module.get_submodule(out_name)
    handles.append(part.register_forward_pre_hook(lambda _m, args: slots.append(args[0])))
    try:
        with torch.enable_grad():
            functional_call(module, params, *call)
    finally:
        for handle in handles:
            handle.remove()
    slot = slots[-1]
    inner = {k: v for k, v in params.items() if not k.startswith(f"{out_name}.")}
    masks = {k: torch.zeros(heads, *v.shape, dtype=torch.bool) for k, v in params.items()}
    width = slot.shape[-1] // heads
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(slot.shape, generator=generator, dtype=torch.float32).to(slot)
    for head in range(heads):
        part_of = slice(head * width, (head + 1) * width)
        target = (slot[..., part_of] * weight[..., part_of]).sum()
        grads = torch.autograd.grad(
            target, list(inner.values()), retain_graph=True, allow_unused=True
        )
        for name, grad in zip(inner, grads, strict=True):
            if grad is not None:
                masks[name][head] = (grad != 0).cpu()
        one = torch.zeros_like(slot)
        one[..., part_of] = weight[..., part_of]
        outer = {k: v for k, v in params.items() if k not in inner}
        names = {k: k[len(out_name) + 1 :] for k in outer} if out_name else {k: k for k in outer}
        with torch.enable_grad():
            made = functional_call(part, {names[k]: v for k, v in outer.items()}, (one,))
            target = (
                made * torch.randn(made.shape, generator=generator, dtype=torch.float32).to(made)
            ).sum()
        for name, grad in zip(
            outer, torch.autograd.grad(target, list(outer.values())), strict=True
        ):
            masks[name][head] = (grad != 0).cpu()
    return masks


def is_norm(part: nn.Module) -> bool:
    """Whether a module has vectors as its only parameters."""
    return {p.dim() for p in part.parameters(recurse=False)} == {1}


def _gain(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    gains = torch.linspace(0.5, 1.5, output.shape[1], device=output.device, dtype=output.dtype)
    return output * gains[:, None]


def _as_linear(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Return a norm as the linear map that it is while its statistics are fixed."""
    x = args[0]
    weight = next(p for n, p in module.named_parameters() if n.endswith("weight"))
    bias = dict(module.named_parameters()).get("bias", torch.zeros_like(weight))
    return x * ((output - bias) / (x * weight)).detach() * weight + bias
