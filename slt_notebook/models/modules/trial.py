"""Try a loss out before any work: is it a function of its weights, and can it be differentiated?

Everything here is found by running the loss on a few examples, under a guard that lets nothing
write to the weights or to the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.chunking import out_of_memory
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, SLTError, say
from slt_notebook.models.modules.guard import WriteGuard

SHAKE = 1e-2
"""Relative size of the random change of all weights at which two forms of a loss are compared."""
SMALL = 1_000_000
"""Parameters up to this size are differentiated by in the trial."""

_CUT = (
    "look for torch.no_grad, torch.inference_mode, .detach(), .item() or numpy in its forward "
    "pass, for a forward method that was replaced on the instance (accelerate: pass "
    "accelerator.unwrap_model(model)), and for outputs that are rounded (argmax, int)"
)


@dataclass(frozen=True)
class Trial:
    """What was found out about a loss.

    Attributes:
        loss: the loss, without the user's hooks where these only look on.
        reached: parameters that the loss of the examples depends on; None where nobody knows.
    """

    loss: Any
    reached: frozenset[str] | None


def try_out(loss: Any, batch: Batch, differentiable: bool = True) -> Trial:
    """Run a loss forward and backward on a few examples.

    Args:
        loss: of the kit, on its device.
        batch: a few examples on the device.
        differentiable: whether its gradient is taken by autograd.

    Raises:
        InputError: a forward pass that writes to its weights or inputs, or that fails; a loss that
            does not depend on its weights, or whose backward pass fails.
    """
    loss = _without_observers(loss, batch)
    try:
        return Trial(loss, _tried(loss, batch, differentiable))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        # The run will say so, if not even one example of one chain fits.
        return Trial(loss, None)
    finally:
        capabilities(loss).release()


def _tried(loss: Any, batch: Batch, differentiable: bool) -> frozenset[str] | None:
    """Return the parameters that the loss depends on; see `try_out`."""
    guarded = {**loss.params, **{f"the field {k!r} of the data": v for k, v in batch.items()}}
    if not differentiable:
        with torch.no_grad(), WriteGuard(guarded), _told("evaluated"):
            loss.evaluate(loss.params, batch)
        return None
    leaves = {
        name: value.detach().requires_grad_(value.is_floating_point())
        for name, value in loss.params.items()
    }
    with torch.enable_grad():
        with WriteGuard(guarded), _told("evaluated"):
            values = loss(leaves, batch)
        reached = (
            _reached(values, leaves)
            if isinstance(values, Tensor) and values.requires_grad
            else None
        )
        if not reached:
            got = "a loss that does not depend on its weights, as far as autograd can see"
            raise InputError(say(got, "a differentiable function of the weights", _CUT))
        small = [leaves[n] for n in sorted(reached) if leaves[n].numel() <= SMALL]
        if small:
            with _told("differentiated"):
                torch.autograd.grad(values.nansum(), small, allow_unused=True)
    return reached


@contextmanager
def _told(what: str):
    """Tell what a model raises in the kit's words."""
    try:
        yield
    except SLTError:
        raise
    except Exception as cause:
        if out_of_memory(cause):
            raise
        first = (str(cause).strip().splitlines() or [""])[0][:200]
        raise InputError(
            say(
                f"a loss that fails when it is {what} on two examples: "
                f"{type(cause).__name__}: {first}",
                "losses and gradients",
                _remedy(cause),
            )
        ) from cause


def _remedy(cause: Exception) -> str:
    text = str(cause).lower()
    if "jitted modules" in text or "scriptmodule" in text or "torchscript" in text:
        return "pass the module that was scripted, not the scripted one"
    if "checkpoint" in text and "reentrant" in text:
        return REENTRANT
    if "leaf variable" in text and "in-place" in text:
        return "write the change of the weights without in-place operations"
    if "dtype" in text:
        return "make data of the dtype that the model computes in"
    return "call the model on the data yourself, and mend what fails there"


REENTRANT = (
    "pass use_reentrant=False to torch.utils.checkpoint, or switch the recomputation of "
    "activations off"
)


def _reached(values: Tensor, leaves: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the names of the leaves that the graph of `values` ends in."""
    names = {id(leaf): name for name, leaf in leaves.items()}
    found, seen, open_nodes = set(), set(), [values.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "CheckpointFunctionBackward":
            # Weights within are no inputs of its node: their gradient would be lost.
            got = "a forward pass with reentrant activation checkpointing"
            raise InputError(say(got, "one whose graph holds its weights", REENTRANT))
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) in names:
            found.add(names[id(leaf)])
        open_nodes += [following for following, _ in node.next_functions]
    return frozenset(found)


# Hooks --------------------------------------------------------------------------------------------


def _without_observers(loss: Any, batch: Batch) -> Any:
    """Return the loss without the user's forward hooks, if its losses are the same without them.

    A hook that keeps or prints activations would do so at every step, from several threads.
    """
    shells = getattr(loss, "shells", None)
    if shells is None or not shells.hooked:
        return loss
    bare = replace(loss, shells=shells.without_hooks())
    shaken = shake(loss.params)
    try:
        with torch.no_grad():
            same = torch.equal(
                loss.evaluate(shaken, batch).nan_to_num(),
                bare.evaluate(shaken, batch).nan_to_num(),
            )
    except Exception:  # a hook that the forward pass needs; what fails with it is told later
        return loss
    return bare if same else loss


def shake(params: Params, seed: int = 0) -> dict[str, Tensor]:
    """Return the parameters with a random relative change of `SHAKE`."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, value in params.items():
        if not value.is_floating_point():
            out[name] = value
            continue
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float32)
        size = value.detach().abs().float().mean() + 1e-6
        out[name] = value.detach() + (SHAKE * size * noise.to(value.device)).to(value.dtype)
    return out
