"""What a loss is to a run: a pure function of parameters and batch, with its trained parameters.

A loss is `(params, batch) -> [example, *token]` together with w*.  The module that a user passes in
is never changed: the kit keeps a *shell* of it, a copy that shares the weights' storage, is in eval
mode and takes its parameters from outside.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from slt_notebook.core.capabilities import Capabilities
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe


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
