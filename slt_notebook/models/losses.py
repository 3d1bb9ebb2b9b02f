"""Losses of the kit: pure functions of parameters and batch, from any torch module or function.

A loss is a pure function `(params, batch) -> [example, *token]` together with the trained
parameters w*.  The module that a user passes in is never changed: the kit keeps a *shell* of it, a
copy that shares the weights' storage, is in eval mode and takes its parameters from outside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.capabilities import Capabilities, Gradient, plain
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.modules.intake import module_of, trainable_names
from slt_notebook.models.probes import Probe
from slt_notebook.models.shells import Shells, shell
from slt_notebook.models.weights import HALF, moved, trained


class Loss(Protocol):
    """What `sample` takes: build one with `causal_lm`, `supervised` or `loss_fn`.

    A loss object of your own needs these members, except `capabilities`: without it the loss is
    called as it is, by `vmap` and by the compiler too.
    """

    @property
    def params(self) -> Mapping[str, Tensor]:
        """The trained parameters w* by name."""
        ...

    @property
    def kind(self) -> str:
        """`"text"` or `"array"`, as of the probes that the loss reads."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the loss can do besides being called."""
        ...

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """Losses `[example, *token]`, differentiable; NaN means "not counted"."""
        ...

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        """Return the same without a gradient."""
        ...

    def check(self, data: Probe) -> None:
        """Raise `InputError` where the loss cannot read `data`."""
        ...

    def to(self, device: torch.device | str) -> "Loss":
        """Return the loss with its weights on `device`."""
        ...


@dataclass(frozen=True, eq=False)
class SupervisedLoss:
    """`criterion(module(inputs), targets) -> [example]`; see `supervised`."""

    shells: Shells
    criterion: Callable[[Any, Tensor], Tensor]
    params: Mapping[str, Tensor]
    trainable: frozenset[str]
    dtype: torch.dtype = torch.float32
    kind: str = field(default="array", init=False)

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """Losses `[example]`."""
        return self._checked(self.shells.holding(params)(self._inputs(batch)), batch)

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        """Return the same without a gradient."""
        with torch.no_grad():
            return self._pure(params, batch)

    def _pure(self, params: Params, batch: Batch) -> Tensor:
        """Return the same in the form that can be batched and traced."""
        output = functional_call(self.shells.get(), dict(params), (self._inputs(batch),))
        return self._checked(output, batch)

    def _inputs(self, batch: Batch) -> Tensor:
        """Return the inputs in the dtype of the module, where they are numbers with a point."""
        inputs = batch["inputs"]
        return inputs.to(self.dtype) if inputs.is_floating_point() else inputs

    def _checked(self, output: Any, batch: Batch) -> Tensor:
        targets = batch["targets"]
        if not targets.is_floating_point() and targets.dtype != torch.bool:
            targets = targets.long()  # as classes; losses of torch take no other whole numbers
        loss = self.criterion(output, targets)
        if not isinstance(loss, Tensor) or loss.shape != targets.shape[:1]:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(
                say(
                    f"a criterion that returns {'shape ' * isinstance(loss, Tensor)}{got}",
                    f"one loss per example, shape ({len(targets)},)",
                    "pass reduction='none' and average the rest of the axes yourself",
                )
            )
        return loss

    @property
    def capabilities(self) -> Capabilities:
        """What the loss can do; see `core.capabilities`."""
        return Capabilities(
            batched=self._pure,
            traceable=lambda batched: replace(self, shells=self.shells.of_all_threads())._pure,
            traceable_evaluate=lambda: replace(self, shells=self.shells.of_all_threads())._pure,
            # A copy made under `vmap` would hold wrapped buffers.
            prepare_thread=self.shells.prepare,
            release=self.shells.release,
            module=self.shells.get,
        )

    def check(self, data: Probe) -> None:
        """Raise `InputError` unless `data` has the fields `inputs` and `targets`."""
        require_fields(data, ("inputs", "targets"), "slt.array_probe")

    def to(self, device: torch.device | str) -> "SupervisedLoss":
        """Return the loss with its weights on `device`."""
        return replace(self, shells=self.shells.to(device), params=moved(self.params, device))


@dataclass(frozen=True, eq=False)
class FunctionLoss:
    """Any pure function as a loss; see `loss_fn`."""

    function: Callable[[Params, Batch], Tensor]
    params: Mapping[str, Tensor]
    gradient: Gradient | None = None
    kind: str = field(default="array", init=False)

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """Losses `[example, *token]`."""
        return self.function(params, batch)

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        """Return the same without a gradient."""
        with torch.no_grad():
            return self.function(params, batch)

    @property
    def capabilities(self) -> Capabilities:
        """What the loss can do; see `core.capabilities`."""
        return replace(plain(self), gradient=self.gradient)

    def check(self, data: Probe) -> None:
        """Accept any data: the function knows its fields."""

    def to(self, device: torch.device | str) -> "FunctionLoss":
        """Return the loss with its weights on `device`."""
        return replace(self, params=moved(self.params, device))


def require_fields(data: Probe, fields: tuple[str, ...], maker: str) -> None:
    """Raise `InputError` unless `data` has all `fields`; `maker` makes such data."""
    missing = [name for name in fields if name not in data.fields]
    if missing:
        raise InputError(
            say(
                f"data {data.name!r} with the fields {sorted(data.fields)}",
                f"the field(s) {missing}",
                f"make it with {maker}(...)",
            )
        )


@in_plain_modes
def supervised(module: nn.Module, criterion: Callable[[Any, Tensor], Tensor]) -> SupervisedLoss:
    """Return the loss of any torch module on (inputs, targets).

        L(w) = (1/n) sum_i criterion(f_w(x_i), y_i)

    Args:
        module: called with the field `inputs`; it is not changed, and evaluated in eval mode (no
            dropout, running statistics of batch norms).
        criterion: `(output, targets) -> [example]`, for instance
            `functools.partial(F.cross_entropy, reduction="none")`.

    Returns:
        A loss with the fields `inputs` and `targets` (make the data with `slt.array_probe`).

    Raises:
        InputError: NaN weights; later, a criterion that does not return one number per example.
    """
    module = module_of(module, "a torch.nn.Module", "use slt.loss_fn for functions")
    params = trained(module)
    inner = shell(module)
    for buffer in inner.buffers():
        if buffer.dtype in HALF and buffer.device.type == "cpu":
            buffer.data = buffer.data.float()
    dtype = next(v.dtype for v in params.values() if v.is_floating_point())
    return SupervisedLoss(Shells(inner), criterion, params, trainable_names(module), dtype)


@in_plain_modes
def loss_fn(
    params: Mapping[str, Any],
    function: Callable[[Params, Batch], Tensor],
    *,
    gradient: Callable[[Params, Batch], tuple[Tensor, Params]] | None = None,
) -> FunctionLoss:
    """Return a loss from a pure function of parameters and batch.

    Args:
        params: w*: name to tensor (or array, or number).
        function: `(params, batch) -> [example]` or `[example, token]`; NaN means "not counted".
        gradient: where the gradient is known in closed form: `(params, batch) -> (loss, grads)` of
            many chains at once.  Every parameter and every field of the batch comes with a leading
            chain axis; `loss` is the mean loss `[chain]` (all losses count), `grads` its gradient
            by parameter, of the shapes of `params`.  For small problems it saves most of a step.
            It is used where all parameters are sampled, and is not checked.

    Raises:
        InputError: no parameters, or values that are not finite.

    >>> loss = loss_fn({"w": [2.0]}, lambda params, batch: params["w"] * batch["inputs"])
    >>> loss.evaluate(loss.params, {"inputs": torch.tensor([1.0, 3.0])})
    tensor([2., 6.])
    """
    if not params:
        raise InputError(say("no parameters", "at least one", "pass {'w': torch.zeros(2)}"))
    tensors = {}
    for name, value in params.items():
        tensor = torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value)
        # numpy's and Python's numbers are float64 unasked; a tensor of float64 is one on purpose.
        exact = isinstance(value, Tensor) and value.dtype == torch.float64
        tensor = tensor.detach().clone().to(torch.float64 if exact else torch.float32)
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                say(f"NaN or infinity in parameter {name!r}", "finite values", "correct w*")
            )
        tensors[name] = tensor
    return FunctionLoss(function, tensors, gradient)
