"""Accept keywords by the names that they had before."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that it takes keywords by their old names, with a DeprecationWarning.

    Args:
        names: Old name = new name.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        called = function.__qualname__.removesuffix(".__init__")  # of a class: its own name

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            for old, new in names.items():
                if old in options:
                    if new in options:
                        raise TypeError(f"{called}() got both {old}= and {new}=")
                    warnings.warn(
                        f"{called}({old}=...) is now {new}=...",
                        DeprecationWarning,
                        stacklevel=2,
                    )
                    options[new] = options.pop(old)
            return function(*args, **options)

        return call  # pyright: ignore[reportReturnType]  # the signature is the new one

    return decorate


UNIT = {"level": "unit"}
CENTERING = {"level": "unit", "chains": "centering"}
