"""The torch modes that the kit's doors run under, whatever modes the caller has switched on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def plain_modes() -> Generator[None]:
    """Switch off inference mode, autocast and a default device, and gradients on, within.

    Modes belong to a thread.  The threads of a run have none of the caller's; what is computed
    before it starts must not have them either, or losses at w* would be of another precision than
    those of the draws.
    """
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        yield


def in_plain_modes(function: Callable[P, T]) -> Callable[P, T]:
    """Return `function` under `plain_modes`."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with plain_modes():
            return function(*args, **kwargs)

    return wrapped
