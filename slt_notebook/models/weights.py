"""Trained weights by name: checked, identified by a fingerprint, moved to a device."""

import hashlib

import torch
from torch import Tensor, nn

from slt_notebook.core.types import Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.modules.copying import own_storage

HALF = (torch.float16, torch.bfloat16)


def trained(module: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Return the parameters by name, detached; half precision becomes float32 on a CPU.

    Args:
        module: any module.
        dtype: of floating parameters; None keeps theirs.

    Raises:
        InputError: a parameter holds NaN or infinity.
    """
    out = {}
    for name, parameter in module.named_parameters():
        value = own_storage(parameter.detach())
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise InputError(
                say(
                    f"a model with {bad} NaN or infinite values in parameter {name!r}",
                    "finite weights",
                    "load another checkpoint; this one has diverged or is damaged",
                )
            )
        target = dtype or value.dtype
        if dtype is None and value.device.type == "cpu" and value.dtype in HALF:
            target = torch.float32  # half precision is emulated, and slow, on a CPU
        out[name] = value.to(target) if value.is_floating_point() else value
    return out


def fingerprint(params: Params) -> str:
    """16 hex digits that change when any weight does.

    The hash covers the name, shape, dtype and bytes of each tensor.

    >>> fingerprint({"w": torch.zeros(2)}) == fingerprint({"w": torch.tensor([0.0, 1e-30])})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(params):
        value = params[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        raw = value.reshape(-1).view(torch.uint8) if value.numel() else value
        digest.update(raw.numpy().data)
    return digest.hexdigest()[:16]


def moved(params: Params, device: torch.device | str) -> dict[str, Tensor]:
    """Return the parameters on `device`."""
    return {name: value.to(device) for name, value in params.items()}
