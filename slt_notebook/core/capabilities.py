"""What a loss can do besides being called: forms for `vmap`, for the compiler, and of its gradient.

A loss of the kit declares all of it in one property, `capabilities`.  A loss object of the user's
without that property is taken as it is: see `plain`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from slt_notebook.core.types import Batch, LossFn, Params

Gradient = Callable[[Params, Batch], tuple[Tensor, Params]]
"""`(params, batch) -> (loss [chain], gradient by parameter)`, all with a leading chain axis."""


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, eq=False)
class Capabilities:
    """What a loss can do.

    Attributes:
        batched: the loss in a form that `vmap` batches and that can be differentiated twice.
        traceable: `(for vmap or not) -> ` the loss in a form that can be traced once and then
            called from all threads: for the compiler.
        traceable_evaluate: the same for evaluations without a gradient.
        prepare_thread: is called in each thread before the first use of `batched`.
        release: is called in the same thread after a backward pass: lets go of the weights that
            the loss was last called with.
        module: gives the module whose parameters, by name, are those of the loss; None where there
            is none.
        gradient: the gradient in closed form, of many chains at once; None where there is none.
        restrict: makes the losses of single components, which compute less than the whole model;
            see `slt_notebook.models.components.restriction`.  None where there are none.
    """

    batched: LossFn
    traceable: Callable[[bool], LossFn]
    traceable_evaluate: Callable[[], LossFn]
    prepare_thread: Callable[[], None] = nothing
    release: Callable[[], None] = nothing
    module: Callable[[], nn.Module] | None = None
    gradient: Gradient | None = None
    restrict: Callable[..., Any] | None = None


def plain(loss: LossFn) -> Capabilities:
    """The capabilities of any pure function of parameters and batch: it is its own every form."""
    return Capabilities(
        batched=loss, traceable=lambda batched: loss, traceable_evaluate=lambda: loss
    )


def capabilities(loss: Any) -> Capabilities:
    """Return what `loss` declares it can do, or `plain(loss)` where it declares nothing."""
    declared = getattr(loss, "capabilities", None)
    return declared if isinstance(declared, Capabilities) else plain(loss)
