"""Shells: copies of a module that share its weights and take their parameters from outside."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def shell(module: nn.Module) -> nn.Module:
    """A copy of `module` in eval mode that shares its weights' storage and needs no gradient."""
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    return copy.deepcopy(module, shared).eval()


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
        modules: dict[str, nn.Module] = self._here.__dict__  # of this thread alone
        name = "eager" if eager else "fused"
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

    def changed(self, change: Callable[[nn.Module], None]) -> "Shells":
        """Shells with `change`, after the changes that these make."""
        before = self._change
        if before is None:
            return Shells(self._template, change)

        def both(module: nn.Module) -> None:
            before(module)
            change(module)

        return Shells(self._template, both)
