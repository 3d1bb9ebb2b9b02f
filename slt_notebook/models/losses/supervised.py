"""Losses of modules on inputs and targets: any criterion, and the usual ones by short names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from slt_notebook.core.capabilities import Capabilities
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.losses.protocol import require_fields
from slt_notebook.models.modules.intake import module_of, trainable_names
from slt_notebook.models.modules.shells import Shells, shell
from slt_notebook.models.probes import Probe
from slt_notebook.models.weights import HALF, moved, trained
from slt_notebook.parsing import numbers


@dataclass(frozen=True, eq=False)
class SupervisedLoss:
    """`criterion(module(inputs), targets) -> [example]` or `[example, token]`; see `supervised`.

    Attributes:
        shells: of the module.
        criterion: of one output and its targets.
        params: the trained parameters by name.
        trainable: names of those that take gradients (all, where none does).
        dtype: of the module's numbers.
        axes: of a loss: 1 for one per example, 2 for one per token.
    """

    shells: Shells
    criterion: Callable[[Any, Tensor], Tensor]
    params: Mapping[str, Tensor]
    trainable: frozenset[str]
    dtype: torch.dtype = torch.float32
    axes: int = 1
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
        wanted = targets.shape[: self.axes]
        if not isinstance(loss, Tensor) or loss.shape != wanted:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(
                say(
                    f"a criterion that returns {'shape ' * isinstance(loss, Tensor)}{got}",
                    f"one loss per {'example' if self.axes == 1 else 'token'}, shape "
                    f"{tuple(wanted)}",
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
    return _loss(module, criterion, 1)


def _loss(module: Any, criterion: Callable[[Any, Tensor], Tensor], axes: int) -> SupervisedLoss:
    module = module_of(module, "a torch.nn.Module", "use slt.loss_fn for functions")
    params = trained(module)
    inner = shell(module)
    for buffer in inner.buffers():
        if buffer.dtype in HALF and buffer.device.type == "cpu":
            buffer.data = buffer.data.float()
    dtype = next(v.dtype for v in params.values() if v.is_floating_point())
    return SupervisedLoss(Shells(inner), criterion, params, trainable_names(module), dtype, axes)


def classifier(module: nn.Module) -> SupervisedLoss:
    """Return the loss of a module that classifies examples: cross-entropy, in nats.

        loss[i] = -log softmax(f_w(x_i))[y_i]

    Args:
        module: from inputs to logits `[example, class]`, or an object with `.logits`; else as for
            `supervised`.

    Returns:
        A loss with the fields `inputs` and `targets` (classes `[example]`; `slt.array_probe`).

    Raises:
        InputError: as `supervised`; later, outputs of another shape.
    """
    return _loss(module, _class_loss, 1)


def regressor(module: nn.Module, noise: float = 1.0) -> SupervisedLoss:
    """Return the loss of a module that predicts numbers: a Gaussian of fixed width, in nats.

        loss[i] = |f_w(x_i) - y_i|^2 / (2 noise^2)

    up to the constant `log(noise sqrt(2 pi))` of each output, which no estimate depends on.

    Args:
        module: from inputs to outputs of the shape of the targets (axes of length 1 aside).
        noise: standard deviation of an output about its prediction.

    Returns:
        A loss with the fields `inputs` and `targets` (`slt.array_probe`).

    Raises:
        InputError: as `supervised`, or a noise that is not positive; later, outputs of another
            shape.
    """
    width = numbers("noise", noise)
    if isinstance(width, list) or not width > 0:
        raise InputError(say(f"noise={noise!r}", "a positive number", "pass noise=1.0"))
    return _loss(module, partial(_squared_loss, noise=width), 1)


def token_classifier(module: nn.Module, ignore: int = -100) -> SupervisedLoss:
    """Return the loss of a module that classifies every token: cross-entropy, in nats.

        loss[i, k] = -log softmax(f_w(x_i)[k])[y_ik],  NaN (not counted) where y_ik = ignore

    Args:
        module: from inputs to logits `[example, token, class]`, or an object with `.logits`.
        ignore: target of tokens that do not count: padding, or parts that are given.

    Returns:
        A loss with the fields `inputs` and `targets` (classes `[example, token]`;
        `slt.array_probe`).

    Raises:
        InputError: as `supervised`; later, outputs of another shape.
    """
    return _loss(module, partial(_token_loss, ignore=ignore), 2)


def _logits(output: Any, targets: Tensor) -> Tensor:
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.shape[:-1] != targets.shape:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        axes = "[example, class]" if targets.dim() == 1 else "[example, token, class]"
        raise InputError(
            say(
                f"outputs {got} for targets {tuple(targets.shape)}", f"logits {axes}",
                "use slt.supervised with a criterion of your own",
            )
        )  # fmt: skip
    return logits


def _class_loss(output: Any, targets: Tensor) -> Tensor:
    return F.cross_entropy(_logits(output, targets), targets, reduction="none")


def _token_loss(output: Any, targets: Tensor, ignore: int) -> Tensor:
    logits = _logits(output, targets)
    counted = targets != ignore
    known = torch.where(counted, targets, 0)
    loss = F.cross_entropy(logits.transpose(1, 2), known, reduction="none")
    return torch.where(counted, loss, torch.nan)


def _squared_loss(output: Any, targets: Tensor, noise: float) -> Tensor:
    if not isinstance(output, Tensor) or output.squeeze().shape != targets.squeeze().shape:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            say(
                f"outputs {got} for targets {tuple(targets.shape)}", "equal shapes",
                "use slt.supervised with a criterion of your own",
            )
        )  # fmt: skip
    away = output.reshape(targets.shape) - targets
    return away.square().reshape(len(targets), -1).sum(1) / (2 * noise**2)
