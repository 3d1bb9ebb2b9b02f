"""Losses of modules on inputs and targets: any criterion, and the usual ones by short names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.capabilities import Capabilities
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.losses.protocol import require_fields
from slt_notebook.models.modules.intake import module_of, trainable_names
from slt_notebook.models.modules.shells import Shells, shell
from slt_notebook.models.probes import Probe
from slt_notebook.models.weights import HALF, moved, trained


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
