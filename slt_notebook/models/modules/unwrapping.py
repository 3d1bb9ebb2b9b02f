"""Find the module that a user means inside the wrappers that other libraries put around it."""

from __future__ import annotations

from typing import Any

from torch import nn

from slt_notebook.errors import InputError, say

# Attribute that holds the wrapped module, by the name of a wrapper's class, wherever it is defined.
_INNER = {
    "OptimizedModule": ("_orig_mod",),  # torch.compile
    "DataParallel": ("module",),
    "DistributedDataParallel": ("module",),
    "_FabricModule": ("module",),  # lightning.fabric
    "DeepSpeedEngine": ("module",),
    "AveragedModel": ("module",),  # torch.optim.swa_utils
    "NNsight": ("_module", "_model"),  # the second before version .5
    "TransformerBridge": ("original_model",),
}
_SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def unwrapped(model: Any) -> Any:
    """Return the module inside any number of wrappers; anything else as it is.

    Args:
        model: what the user passed.

    Raises:
        InputError: a module of which each process holds a part (FSDP).
    """
    for _ in range(16):  # a wrapper may hold itself
        kinds = [kind.__name__ for kind in type(model).__mro__]
        if any(kind in _SHARDED for kind in kinds):
            got = f"a {type(model).__name__}, of whose weights each process holds a part"
            do = "gather its state dict, load it into a plain model, and pass that"
            raise InputError(say(got, "a module with all of its weights", do))
        names = [name for kind in kinds for name in _INNER.get(kind, ())]
        inner = next((getattr(model, n) for n in names if _is_module(model, n)), None)
        if inner is None or inner is model:
            return model
        model = inner
    return model


def _is_module(model: Any, name: str) -> bool:
    return isinstance(getattr(model, name, None), nn.Module)
