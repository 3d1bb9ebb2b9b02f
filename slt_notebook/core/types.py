"""Values and protocols that pass between the parts of a sampler: batches, metrics, kernels."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from slt_notebook.parsing import numbers

Params = Mapping[str, Tensor]
"""Parameter name to tensor: what a loss function is a function of."""

Batch = Mapping[str, Tensor]
"""Field name to tensor; every field leads with the example axis."""

Floats = float | Sequence[float]
"""One number, or one per chain."""

LossFn = Callable[[Params, Batch], Tensor]
"""Pure: `(params, batch) -> [example, *token]`, in nats.  NaN means "not counted" (padding)."""


class Evaluation(NamedTuple):
    """The potential of every chain at its position, on its own batch."""

    loss: Tensor  # [chain] mean over the counted losses of the batch
    loss_grad: Tensor  # [chain, dim] gradient of `loss` alone: what metrics see
    potential: Tensor  # [chain] nbeta * loss + gamma/2 |w - w*|^2
    grad: Tensor  # [chain, dim] gradient of `potential`: what kernels descend
    counted: Tensor  # [chain] how many losses of the batch were counted
    nbeta: Tensor | float = 1.0  # [chain, 1] weight of `loss_grad` in `grad`


class Info(NamedTuple):
    """What a step leaves behind besides the next state."""

    loss: Tensor  # [chain] loss of the batch *before* the step
    counted: Tensor  # [chain]
    grad: Tensor  # [chain, dim] gradient of the potential before the step
    scale: Tensor  # [chain, dim] or broadcastable: the metric used for the step
    accept: Tensor | None = None  # [chain] probability, of kernels that do accept or reject


Evaluate = Callable[[Tensor], Evaluation]
"""`[chain, dim] -> Evaluation`, with the batch of every chain already bound."""


class Metric(Protocol):
    """A diagonal preconditioner G: scales the drift by G and the noise by sqrt(G)."""

    @property
    def elementwise(self) -> bool:
        """Whether a coordinate's scale depends on that coordinate alone."""
        ...

    @property
    def adapt(self) -> str:
        """When it changes: "always", "burnin" or "never"."""
        ...

    @property
    def follows(self) -> str:
        """What the drift follows: the "gradient", or a running "mean", see `direction`."""
        ...

    def init(self, position: Tensor) -> Any:
        """Return the state at the start: tensors that lead with the chain axis."""
        ...

    def update(self, state: Any, loss_grad: Tensor) -> tuple[Any, Tensor]:
        """The state after one more loss gradient `[chain, dim]`, and G broadcastable to it."""
        ...

    def current(self, state: Any, position: Tensor) -> Tensor:
        """G as it is, broadcastable to `position` `[chain, dim]`."""
        ...

    def direction(self, state: Any, loss_grad: Tensor) -> Tensor:
        """Return what the drift follows in place of the loss gradient; `state` is from `update`."""
        ...

    def after_burnin(self) -> "Metric":
        """Return the metric after the burn-in: fixed, if it adapts during the burn-in only."""
        ...


class Kernel(Protocol):
    """A transition rule.  Randomness is an argument: a kernel on a quadratic is an affine map.

    A state is a NamedTuple of tensors that lead with the chain axis; `position` is its first field
    and `metric` the metric's state.  `step` gets standard normals `[chain, dim]` and, where
    `uniforms` says so, uniform numbers `[chain]` in [0, 1) after them.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    uniforms: ClassVar[bool]  # also draws one uniform number a step
    elementwise: ClassVar[bool]  # a coordinate's step depends on that coordinate alone
    full_batch: ClassVar[bool]  # is what it says it is with exact gradients only
    per_chain: ClassVar[tuple[str, ...]]  # fields that may hold one number per chain

    @property
    def step_size(self) -> Floats:
        """Step size, one number or one per chain."""
        ...

    @property
    def metric(self) -> Metric:
        """The preconditioner G."""
        ...

    def init(self, position: Tensor) -> Any:
        """Return the state of chains that start at `position` `[chain, dim]`."""
        ...

    @property
    def step(self) -> Callable[..., tuple[Any, Info]]:
        """`(state, evaluate, *randomness) -> (state, info)`."""
        ...

    def acceptance(
        self, state: Any, new: Any, scale: Tensor, before: Evaluation, after: Evaluation
    ) -> Tensor:
        """Probability `[chain]` that a Metropolis test on the step's own batch would accept it."""
        ...

    def free_variance(self, gamma: Tensor, scale: Tensor) -> Tensor:
        """Stationary variance of a coordinate on `gamma/2 |w|^2` under the fixed metric `scale`.

        Shape of `gamma [chain, 1]` times `scale`; NaN where there is no stationary law.
        """
        ...


def read_numbers(made: Any) -> None:
    """Replace the numbers in the fields of a kernel or metric by Python's own, in `__post_init__`.

    Users bring them as text from YAML, as tensors, and as numpy's.

    Raises:
        InputError: a field that holds no number, and has one as its default.
    """
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        if isinstance(field.default, bool) or not isinstance(field.default, int | float):
            continue
        if type(value) in (int, float):
            continue
        found = numbers(field.name, value)
        # A list in a kernel that comes back from JSON would not compare equal.
        plain = tuple(found) if isinstance(found, list) else found
        object.__setattr__(made, field.name, plain)


def column(value: Any, like: Tensor) -> Tensor:
    """A hyperparameter as `[chain, 1]` (or `[1, 1]`), in the dtype and on the device of `like`."""
    tensor = value if isinstance(value, Tensor) else like.new_tensor(value)
    return tensor.to(like).reshape(-1, 1)


def kernel_of_chains(kernel: Any, rows: Sequence[int]) -> Any:
    """The kernel of the chains at places `rows`: fields with one number per chain are cut to them.

    Args:
        kernel: of all chains.
        rows: places of chains, from 0.
    """
    several = {f: getattr(kernel, f) for f in kernel.per_chain if np.ndim(getattr(kernel, f))}
    return replace(kernel, **{f: tuple(v[row] for row in rows) for f, v in several.items()})
