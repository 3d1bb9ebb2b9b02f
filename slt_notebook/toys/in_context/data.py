"""Tasks and sequences of in-context linear regression.

    t ~ q(t),  x_k ~ N(0, I_D),  y_k ~ N(t.x_k, noise),  k = 1 .. K

with `q` uniform over M fixed tasks, or N(0, I) for M = infinity.  The sets of tasks are *nested*
(`tasks(8)` are the first 8 of `tasks(16)`), so that the first task, the root, is in every one.
References: Carroll et al. 2025 (arXiv:2501.17745), section 3.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slt_notebook.errors import InputError, say


@dataclass(frozen=True)
class Setting:
    """Sizes: `dim` D, `length` K (pairs in a sequence), `noise` sigma^2 (a variance)."""

    dim: int = 8
    length: int = 16
    noise: float = 0.125

    def __post_init__(self):
        if self.dim < 1 or self.length < 1 or not self.noise > 0:
            raise InputError(
                say(f"{self}", "dim, length >= 1 and noise > 0", "see in_context.PAPER")
            )


PAPER = Setting(8, 16, 0.125)
SMALL = Setting(4, 8, 0.125)


def tasks(count: int, setting: Setting, seed: int = 0) -> Tensor:
    """Return the first `count` tasks of the sequence that `seed` names, float64 `[task, dim]`."""
    if count < 1:
        raise InputError(say(f"count={count}", "at least 1 task", "pass tasks=None for infinity"))
    rng = np.random.default_rng(seed)  # row after row: the sets are nested
    return torch.from_numpy(rng.standard_normal((count, setting.dim)))


def sequences(
    count: int, setting: Setting, tasks: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return `x [example, k, dim]`, `y [example, k]`, float32; every sequence has its own task.

    Args:
        count: how many sequences.
        setting: sizes and noise.
        tasks: `[task, dim]` to choose from, uniformly; None draws every task from N(0, I).
        generator: its device is that of the result.
    """
    make = {"generator": generator, "device": generator.device}
    if tasks is None:
        chosen = torch.randn(count, setting.dim, **make)
    else:
        index = torch.randint(len(tasks), (count,), **make)
        chosen = tasks.to(generator.device, torch.float32)[index]
    x = torch.randn(count, setting.length, setting.dim, **make)
    error = torch.randn(count, setting.length, **make)
    return x, (x * chosen[:, None]).sum(-1) + setting.noise**0.5 * error
