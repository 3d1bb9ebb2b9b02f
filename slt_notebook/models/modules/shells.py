"""Shells: copies of a module that share its weights and take their parameters from outside."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slt_notebook.models.modules.copying import (
    copy_module,
    has_hooks,
    own_storage,
    without_backward_hooks,
    without_observers,
)
from slt_notebook.models.modules.holding import Places


def shell(module: nn.Module) -> nn.Module:
    """A copy of `module` in eval mode that shares its weights' storage and needs no gradient.

    Hooks that see gradients stay behind, and transformers' activation checkpointing is off: it
    would save memory that the kit saves by itself.
    """
    with torch.inference_mode(False):
        shared = {
            id(p): nn.Parameter(own_storage(p.detach()), requires_grad=False)
            for p in module.parameters()
        }
        made = without_backward_hooks(copy_module(module, shared).eval())
    for part in made.modules():
        if getattr(part, "gradient_checkpointing", False) is True:
            part.gradient_checkpointing = False  # pyright: ignore[reportArgumentType]
    return made


class Shells:
    """One module per thread: `functional_call` swaps weights in place while it runs."""

    def __init__(
        self,
        template: nn.Module,
        change: Callable[[nn.Module], None] | None = None,
        fixed: nn.Module | None = None,
    ) -> None:
        """Shells of `template`.

        Args:
            template: a shell.  It is never called, so that a copy never meets swapped weights.
            change: applied to the module of each thread when it is made.
            fixed: a module that all threads get instead of their own.
        """
        self._template, self._change, self._fixed = template, change, fixed
        self._here = threading.local()

    def get(self, eager: bool = False) -> nn.Module:
        """Return the module of this thread.

        Args:
            eager: whether its attention is written out in plain products.  Fused attention has no
                batching rule under `vmap` on a CPU, and torch's context manager would choose the
                backend for all threads of the process.
        """
        if self._fixed is not None:
            return self._fixed
        return self._of_thread("eager" if eager else "fused", eager)

    def holding(self, params: Mapping[str, Tensor]) -> nn.Module:
        """Return a module of this thread with `params` in place, until `release` or the next call.

        For a forward pass whose backward pass may run parts of it again: see `Places`.
        """
        if self._fixed is not None:
            raise RuntimeError("a module of all threads holds no weights")
        mine: dict[str, Any] = self._here.__dict__
        if "places" not in mine:
            mine["places"] = Places(self._of_thread("held", False))
        places: Places = mine["places"]
        return places.put(params)

    def release(self) -> None:
        """Let go of the weights that `holding` of this thread was last called with."""
        places: Places | None = self._here.__dict__.get("places")
        if places is not None:
            places.release()

    def _of_thread(self, name: str, eager: bool) -> nn.Module:
        modules: dict[str, nn.Module] = self._here.__dict__  # of this thread alone
        if name not in modules:
            module = shell(self._template)
            if eager:
                for part in module.modules():
                    config: Any = getattr(part, "config", None)
                    if hasattr(config, "_attn_implementation"):
                        config._attn_implementation = "eager"
            if self._change is not None:
                self._change(module)
            modules[name] = module
        return modules[name]

    def prepare(self, eager: bool = False) -> None:
        """Make the module of this thread now."""
        self.get(eager)

    def to(self, device: torch.device | str) -> "Shells":
        """Shells whose weights are on `device`."""
        return Shells(shell(self._template).to(device), self._change)

    def of_all_threads(self, eager: bool = False) -> "Shells":
        """Shells that give the module of this thread to all: for functions that are traced once.

        A traced function takes weights as arguments, and swaps nothing when it is called.
        """
        return Shells(self._template, self._change, self.get(eager))

    @property
    def hooked(self) -> bool:
        """Whether the module has forward hooks of the user's."""
        return has_hooks(self._template)

    def without_hooks(self) -> "Shells":
        """Shells without the user's forward hooks: for hooks that only look on."""
        return Shells(without_observers(shell(self._template)), self._change)

    def changed(self, change: Callable[[nn.Module], None]) -> "Shells":
        """Shells with `change`, after the changes that these make."""
        before = self._change
        if before is None:
            return Shells(self._template, change)

        def both(module: nn.Module) -> None:
            before(module)
            change(module)

        return Shells(self._template, both)
