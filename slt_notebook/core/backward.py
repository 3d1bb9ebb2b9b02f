"""Backward passes that write the gradient of each parameter to its place in one long row."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle


def backward_into(
    value: Tensor, leaves: Sequence[Tensor], places: Sequence[Tensor], add: bool = False
) -> None:
    """Write the gradients of `value` by `leaves` to `places`.

    A gradient is written as soon as it is computed, and then freed.  `torch.autograd.grad` by one
    long vector holds the gradients of all its pieces until it joins them: a row of the model more,
    and memory that the allocator asks the system for anew each time.

    Args:
        value: a number.
        leaves: what it is differentiated by.
        places: of the shapes of `leaves`.
        add: add to what is in `places`, and do not overwrite it.
    """
    missing = set(range(len(leaves)))

    def arrived(leaf: Tensor, number: int) -> None:
        assert leaf.grad is not None
        place = places[number]
        place.add_(leaf.grad) if add else place.copy_(leaf.grad)
        leaf.grad = None
        missing.discard(number)

    hooks: list[RemovableHandle] = [
        leaf.register_post_accumulate_grad_hook(partial(arrived, number=number))  # pyright: ignore[reportUnknownMemberType]  # torch's stubs are partial
        for number, leaf in enumerate(leaves)
    ]
    try:
        torch.autograd.backward(value, inputs=list(leaves))
    finally:
        for hook in hooks:
            hook.remove()
    if not add:  # what the value does not depend on
        for number in missing:
            places[number].zero_()


def leaf_of(row: Tensor) -> Tensor:
    """`row`, detached, to be differentiated by.

    It is a copy where its address is not a multiple of 64 bytes: vector instructions round by the
    alignment of the data, and a chain must not depend on which row of a block it is.
    """
    row = row.detach()
    return row.clone() if row.data_ptr() % 64 else row
