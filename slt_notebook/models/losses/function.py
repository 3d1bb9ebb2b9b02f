"""Losses from pure functions of parameters and batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slt_notebook.core.capabilities import Capabilities, Gradient, plain
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe
from slt_notebook.models.weights import moved


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
