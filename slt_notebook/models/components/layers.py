"""The layers of a model, and the attention in each of them, found without a table of architectures.

The layers are the largest list of modules of one class; the attention is the part of a layer whose
output at the last position depends on its input at the first.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.errors import ComponentError, say
from slt_notebook.models.components.outputs import first_tensor
from slt_notebook.models.components.recording import Call, random_parameters, recorded

TOKENS = 12
"""Length of the two made-up texts that the model is shown."""


@dataclass(frozen=True)
class Layers:
    """The repeated layers of a model: their names, their attentions and the inputs of these."""

    names: tuple[str, ...]
    attentions: tuple[str | None, ...]
    calls: dict[str, Call]  # attention's name -> (args, kwargs) that the model gave it


def find_layers(model: nn.Module, ids: Tensor) -> Layers:
    """Return the layers of `model`, and in each the module that mixes positions.

    Args:
        model: a shell, whose hooks may be set.
        ids: token ids `[text, position]`.

    Raises:
        ComponentError: no list of modules of one class.
    """
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(m) for m in module}) == 1
    }
    sizes = {n: sum(p.numel() for p in m.parameters()) for n, m in lists.items()}
    if not sizes:
        raise ComponentError(
            say(
                f"a {type(model).__name__} without a list of layers",
                "repeated layers in a torch.nn.ModuleList",
                "name parameters instead: components='param:<glob>'",
            )
        )
    found = max(sizes, key=lambda name: (sizes[name], -len(name)))
    names = [f"{found}.{i}" for i in range(len(lists[found]))]
    children = [
        f"{name}.{child}"
        for name in names
        for child, _ in model.get_submodule(name).named_children()
    ]
    with recorded(model, children) as calls, torch.no_grad():
        model(input_ids=ids, use_cache=False)
    attentions = []
    for name in names:
        mixing = [c for c in children if c.startswith(f"{name}.") and c in calls]
        mixing = [c for c in mixing if _mixes(model.get_submodule(c), *calls[c])]
        attentions.append(mixing[0] if len(mixing) == 1 else None)
    kept = {name: calls[name] for name in attentions if name is not None}
    return Layers(tuple(names), tuple(attentions), kept)


def _mixes(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the output at the last position depends on the input at the first."""
    params = random_parameters(module, 0)
    if not params:
        return False

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 3:
            value = value.clone()
            value[:, 0] += torch.linspace(-1, 1, value.shape[-1], device=value.device)
        return value

    first = next((i for i, a in enumerate(args) if isinstance(a, Tensor)), None)
    other_args = tuple(moved(a) if i == first else a for i, a in enumerate(args))
    other = {
        k: moved(v) if first is None and k == "hidden_states" else v for k, v in kwargs.items()
    }
    with torch.no_grad():
        before = first_tensor(functional_call(module, params, args, kwargs))
        after = first_tensor(functional_call(module, params, other_args, other))
    if before is None or after is None or before.dim() != 3:
        return False
    return float((before[:, -1] - after[:, -1]).abs().max()) > 1e-6
