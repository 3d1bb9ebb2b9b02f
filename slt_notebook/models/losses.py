"""What is a loss function of the kit, and how does one get it from any torch module?

A loss is a pure function `(params, batch) -> [example, *token]` together with the trained
parameters w*.  The module that a user passes in is never touched: the kit keeps a *shell* of it, a
copy that shares the weights' storage, is in eval mode and takes its parameters from outside.
"""

import copy
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.capabilities import Capabilities, Gradient, plain
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe


class Loss(Protocol):
    """What `sample` takes: build one with `causal_lm`, `supervised` or `loss_fn`."""

    params: Mapping[str, Tensor]
    kind: str

    def __call__(self, params: Params, batch: Batch) -> Tensor: ...

    def evaluate(self, params: Params, batch: Batch) -> Tensor: ...

    def check(self, data: Any) -> None: ...

    def to(self, device) -> "Loss": ...


def shell(module: nn.Module) -> nn.Module:
    """A copy of `module` in eval mode that shares its weights' storage and needs no gradient."""
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    return copy.deepcopy(module, shared).eval()


class Shells:
    """A module for every thread: `functional_call` swaps weights in place while it runs.

    `change`, if any, is applied to each thread's module when it is made.
    """

    def __init__(self, template: nn.Module, change: Callable[[nn.Module], None] | None = None):
        self._template = template  # never called, so that a copy never meets swapped weights
        self._change = change
        self._here = threading.local()

    def get(self, eager: bool = False) -> nn.Module:
        """This thread's module; `eager` is one whose attention is written out in plain products.

        Fused attention has no batching rule under `vmap` on a CPU, and choosing the backend by
        torch's context manager would choose it for all threads of the process.
        """
        name = "eager" if eager else "module"
        if not hasattr(self._here, name):
            module = shell(self._template)
            if eager:
                for part in module.modules():
                    if hasattr(getattr(part, "config", None), "_attn_implementation"):
                        part.config._attn_implementation = "eager"
            if self._change is not None:
                self._change(module)
            setattr(self._here, name, module)
        return getattr(self._here, name)

    def to(self, device) -> "Shells":
        return Shells(shell(self._template).to(device), self._change)

    def prepare(self, eager: bool = False) -> None:
        """Make the module of this thread now."""
        self.get(eager)

    def of_all_threads(self, eager: bool = False) -> "Shells":
        """Shells that give the module of this thread to all: for functions that are traced once.

        A traced function takes weights as arguments, and swaps nothing when it is called.
        """
        out = Shells(self._template, self._change)
        module = self.get(eager)
        out.get = lambda eager=False: module
        return out

    def changed(self, change: Callable[[nn.Module], None]) -> "Shells":
        """Shells with `change`, after the changes that these make."""
        before = self._change
        if before is None:
            return Shells(self._template, change)

        def both(module: nn.Module) -> None:
            before(module)
            change(module)

        return Shells(self._template, both)


def trained(module: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The parameters by name, detached; half precision becomes float32 on a CPU.

    Raises:
        InputError: a parameter holds NaN or infinity.
    """
    out = {}
    for name, parameter in module.named_parameters():
        value = parameter.detach()
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
        if dtype is None and value.device.type == "cpu" and value.dtype in _HALF:
            target = torch.float32  # half precision is emulated, and slow, on a CPU
        out[name] = value.to(target) if value.is_floating_point() else value
    return out


_HALF = (torch.float16, torch.bfloat16)


def fingerprint(params: Params) -> str:
    """16 hex digits that change when any weight does.

    Hashes names, shapes and dtypes, and of each tensor the bytes.
    """
    digest = hashlib.sha256()
    for name in sorted(params):
        value = params[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        raw = value.reshape(-1).view(torch.uint8) if value.numel() else value
        digest.update(memoryview(raw.numpy()))
    return digest.hexdigest()[:16]


def moved(params: Params, device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in params.items()}


@dataclass(frozen=True, eq=False)
class SupervisedLoss:
    """`criterion(module(inputs), targets) -> [example]`; see `supervised`."""

    shells: Shells
    criterion: Callable[[Any, Tensor], Tensor]
    params: Mapping[str, Tensor]
    kind: str = field(default="array", init=False)

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        output = functional_call(self.shells.get(), dict(params), (batch["inputs"],))
        loss = self.criterion(output, batch["targets"])
        if loss.shape != batch["targets"].shape[:1]:
            raise InputError(
                say(
                    f"a criterion that returns shape {tuple(loss.shape)}",
                    f"one loss per example, shape ({len(batch['targets'])},)",
                    "pass reduction='none' and average the rest of the axes yourself",
                )
            )
        return loss

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self(params, batch)

    @property
    def capabilities(self) -> Capabilities:
        """What the loss can do; see `core.capabilities`."""
        return Capabilities(
            batched=self,
            traceable=lambda batched: replace(self, shells=self.shells.of_all_threads()),
            traceable_evaluate=lambda: replace(self, shells=self.shells.of_all_threads()),
            # A copy made under `vmap` would hold wrapped buffers.
            prepare_thread=self.shells.prepare,
        )

    def check(self, data) -> None:
        require_fields(data, ("inputs", "targets"), "slt.array_probe")

    def to(self, device) -> "SupervisedLoss":
        return replace(self, shells=self.shells.to(device), params=moved(self.params, device))


@dataclass(frozen=True, eq=False)
class FunctionLoss:
    """Any pure function as a loss; see `loss_fn`."""

    function: Callable[[Params, Batch], Tensor]
    params: Mapping[str, Tensor]
    gradient: Gradient | None = None
    kind: str = field(default="array", init=False)

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        return self.function(params, batch)

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self.function(params, batch)

    @property
    def capabilities(self) -> Capabilities:
        """What the loss can do; see `core.capabilities`."""
        return replace(plain(self), gradient=self.gradient)

    def check(self, data: Probe) -> None:
        """Accept any data: the function knows its fields."""

    def to(self, device: torch.device | str) -> "FunctionLoss":
        return replace(self, params=moved(self.params, device))


def require_fields(data, fields: tuple[str, ...], maker: str) -> None:
    missing = [name for name in fields if name not in data.fields]
    if missing:
        raise InputError(
            say(
                f"data {data.name!r} with the fields {sorted(data.fields)}",
                f"the field(s) {missing}",
                f"make it with {maker}(...)",
            )
        )


def supervised(module: nn.Module, criterion: Callable[[Any, Tensor], Tensor]) -> SupervisedLoss:
    """The loss of any torch module on (inputs, targets).

        L(w) = (1/n) sum_i criterion(f_w(x_i), y_i)

    Args:
        module: called with the field `inputs`; left untouched, and evaluated in eval mode (no
            dropout, running statistics of batch norms).
        criterion: `(output, targets) -> [example]`, for instance
            `functools.partial(F.cross_entropy, reduction="none")`.

    Returns:
        A loss with the fields `inputs` and `targets` (make the data with `slt.array_probe`).

    Raises:
        InputError: NaN weights; later, a criterion that does not return one number per example.
    """
    if not isinstance(module, nn.Module):
        raise InputError(
            say(f"a {type(module).__name__}", "a torch.nn.Module", "use slt.loss_fn for functions")
        )
    params = trained(module)
    inner = shell(module)
    for buffer in inner.buffers():
        if buffer.dtype in _HALF and buffer.device.type == "cpu":
            buffer.data = buffer.data.float()
    return SupervisedLoss(Shells(inner), criterion, params)


def loss_fn(
    params: Mapping[str, Any],
    function: Callable[[Params, Batch], Tensor],
    *,
    gradient: Callable[[Params, Batch], tuple[Tensor, Params]] | None = None,
) -> FunctionLoss:
    """A loss from a pure function of parameters and batch.

    Args:
        params: w*: name to tensor (or array, or number).
        function: `(params, batch) -> [example]` or `[example, token]`; NaN means "not counted".
        gradient: where the gradient is known in closed form: `(params, batch) -> (loss, grads)` of
            many chains at once.  Every parameter and every field of the batch comes with a leading
            chain axis; `loss` is the mean loss `[chain]` (all losses count), `grads` its gradient
            by parameter, of the shapes of `params`.  For small problems it saves most of a step;
            it is used where all parameters are sampled, and trusted.

    Raises:
        InputError: no parameters, or values that are not finite.
    """
    if not params:
        raise InputError(say("no parameters", "at least one", "pass {'w': torch.zeros(2)}"))
    tensors = {}
    for name, value in params.items():
        tensor = torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value)
        tensor = tensor.detach().clone().float()
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                say(f"NaN or infinity in parameter {name!r}", "finite values", "mend w*")
            )
        tensors[name] = tensor
    return FunctionLoss(function, tensors, gradient)
