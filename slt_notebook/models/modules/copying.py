"""Copy modules, those too that `copy.deepcopy` refuses.

Deep copies fail on activations that a module kept of its last pass, on weights that a hook computes
(pruning, weight_norm), on locks, open files and generators.  Such a module is copied part by part:
submodules, parameters and buffers as always, other attributes each by itself, and what cannot be
copied at all is shared with the original.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def copy_module(module: nn.Module, shared: Mapping[int, Any]) -> nn.Module:
    """Return a copy of a module that shares nothing with it but `shared`.

    Args:
        module: any module; it is not changed.
        shared: for objects within it, by `id`, what stands for them in the copy.
    """
    try:
        return copy.deepcopy(module, dict(shared))
    except Exception:  # whatever an attribute raises
        return _part_by_part(module, shared)


def _part_by_part(module: nn.Module, shared: Mapping[int, Any]) -> nn.Module:
    memo: dict[int, Any] = dict(shared)
    parts = list(module.modules())
    # All modules first: attributes may refer to any of them.
    for part in parts:
        memo[id(part)] = object.__new__(type(part))
    for part in parts:
        state = {name: _attribute(name, value, memo) for name, value in part.__dict__.items()}
        state["_compiled_call_impl"] = None  # of the original
        memo[id(part)].__dict__.update(state)
    return memo[id(module)]


def _attribute(name: str, value: Any, memo: dict[int, Any]) -> Any:
    match name:
        case "_parameters":
            return {k: None if p is None else memo.get(id(p), p) for k, p in value.items()}
        case "_modules":
            return {k: None if m is None else memo[id(m)] for k, m in value.items()}
        case "_buffers":
            return {k: None if b is None else _tensor(b, memo) for k, b in value.items()}
        case _:
            return _value(value, memo)


def _tensor(value: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(value) not in memo:
        memo[id(value)] = value.detach().clone()
    return memo[id(value)]


def _value(value: Any, memo: dict[int, Any]) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, Tensor):
        return _tensor(value, memo)
    if type(value) in (list, tuple, set):
        return type(value)(_value(v, memo) for v in value)
    if isinstance(value, dict) and type(value).__name__ in ("dict", "OrderedDict"):
        return type(value)((k, _value(v, memo)) for k, v in value.items())
    try:
        return copy.deepcopy(value, dict(memo))
    except Exception:  # a lock, a file, a generator: there is one of it
        return value


def without_backward_hooks(module: nn.Module) -> nn.Module:
    """Take the hooks that see gradients off a module (in place), and return it.

    The gradient of a loss does not depend on them, and they fire at every step.
    """
    for part in module.modules():
        for name in ("_backward_hooks", "_backward_pre_hooks"):
            if getattr(part, name, None):
                getattr(part, name).clear()
    return module


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has forward hooks, besides those by which torch computes weights."""
    for part in module.modules():
        for hook in (*part._forward_hooks.values(), *part._forward_pre_hooks.values()):
            if not _computes_weights(hook):
                return True
    return False


def _computes_weights(hook: Any) -> bool:
    """Whether a hook is one of torch's that make a weight: pruning, weight_norm, spectral_norm."""
    return type(hook).__module__.startswith("torch.nn.utils")


def without_observers(module: nn.Module) -> nn.Module:
    """Take all hooks but those by which torch computes weights off a module (in place)."""
    for part in module.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            for key in [k for k, hook in hooks.items() if not _computes_weights(hook)]:
                del hooks[key]
    return without_backward_hooks(module)


def own_storage(value: Tensor) -> Tensor:
    """Return a parameter for use outside `torch.inference_mode`, where autograd may keep it."""
    with torch.inference_mode(False):
        return value.clone() if value.is_inference() else value
