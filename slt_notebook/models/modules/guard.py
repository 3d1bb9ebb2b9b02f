"""Watch a forward pass for writes to the weights, before they happen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from slt_notebook.errors import InputError, say


class WriteGuard(TorchDispatchMode):
    """Refuse operations that write to given tensors, or to views of them.

    Raises, out of the forward pass that runs within it:
        InputError: an operation that would write; it was not carried out.
    """

    def __init__(self, params: Mapping[str, Tensor]) -> None:
        """Guard `params`, by the memory that they lie in."""
        super().__init__()
        self._names = {
            place: name for name, value in params.items() if (place := _place(value)) is not None
        }

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, unless it writes to what is guarded."""
        kwargs = kwargs or {}
        for value in _written(func, args, kwargs):
            name = self._names.get(_place(value) or 0)
            if name is not None:
                raise WritesWeights(
                    say(
                        f"a forward pass that writes to its weights ({name!r}, by {func})",
                        "one that only reads them: a loss is a function of the weights",
                        "turn off what rescales or normalizes weights in evaluation (RWKV: "
                        "config.rescale_every = 0), or write the change without "
                        "in-place operations",
                    )
                )
        return func(*args, **kwargs)


class WritesWeights(InputError):
    """A forward pass that writes to its weights."""


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, Tensor):
                yield one


def _place(value: Tensor) -> int | None:
    try:
        return value.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):  # no memory of its own: meta, a wrapper
        return None
