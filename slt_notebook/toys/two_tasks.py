"""One network that learns two tasks, and the controls of its loss kernel.

A flag tells the network which of two questions to answer about eight numbers:

    task A: is x_1 x_2 > 0?            task B: is x_5^2 + x_6^2 > 1.4?

`shared` learns both in one network; `disjoint` gives each task its own half of the weights, for
which the cross-task kernel is exactly 0 (Adam et al. 2025, arXiv:2509.26537, Prop. 2); `memorized`
fits two random tables, where the examples of a task share no mechanism.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from slt_notebook.errors import InputError, nearest, say
from slt_notebook.models.probes import Probe, array_probe
from slt_notebook.toys.fit import Toy, fit, mlp, toy

KINDS = ("shared", "disjoint", "memorized", "untrained")


class Halves(nn.Module):
    """Two networks of disjoint weights; the flag (the last two inputs, one-hot) chooses."""

    def __init__(self, a: nn.Module, b: nn.Module):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[..., class]` of the half that the flag chooses."""
        return x[..., -2:-1] * self.a(x) + x[..., -1:] * self.b(x)


def examples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `(inputs [count, 10], answers [count], task [count])`; tasks alternate."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 8))
    task = np.arange(count) % 2
    answer = np.where(task == 0, x[:, 0] * x[:, 1] > 0, x[:, 4] ** 2 + x[:, 5] ** 2 > 1.4)
    inputs = np.concatenate([x, task[:, None] == [0, 1]], axis=1).astype(np.float32)
    return inputs, answer.astype(np.int64), task


def two_tasks(
    kind: str = "shared", *, train: int = 4000, held: int = 200, steps: int = 1500, seed: int = 0
) -> Toy:
    """Train the network and return it with 200 held-out examples, labeled "A yes", "B no", ...

    Args:
        kind: "shared", "disjoint", "memorized" (random answers to fixed inputs; its `held` are
            training examples, since nothing can be known of other inputs) or "untrained".
        train: examples to train on.
        held: examples returned as `held`.
        steps: of training.
        seed: of data, weights and batches.

    Returns:
        A `Toy`; `facts["task"]` and `facts["answer"]` go with `held`.
    """
    kind = {"memorised": "memorized"}.get(kind, kind)  # the spelling of earlier versions
    if kind not in KINDS:
        raise InputError(
            say(
                f"kind={kind!r}{nearest(kind, KINDS)}",
                f"one of {', '.join(KINDS)}",
                "pass one of these",
            )
        )
    inputs, answer, task = examples(train, seed)
    wide, right, of = examples(held, seed + 1)
    if kind == "memorized":
        count = min(train, 2 * held)
        rng = np.random.default_rng([seed, 2])
        inputs, task = inputs[:count], task[:count]
        answer = rng.integers(0, 2, count)
        wide, right, of = inputs[:held], answer[:held], task[:held]
    if kind == "disjoint":
        module = Halves(mlp(10, 32, 32, 2, seed=seed), mlp(10, 32, 32, 2, seed=seed + 1))
    else:
        module = mlp(10, 48, 48, 2, seed=seed)
    if kind != "untrained":
        fit(module, torch.from_numpy(inputs), torch.from_numpy(answer), steps=steps, seed=seed)
    return toy(
        f"two tasks, {kind}", module, array_probe("train", inputs, answer, _labels(task, answer)),
        _held(wide, right, of), task=of, answer=right, kind=kind,
    )  # fmt: skip


def _labels(task, answer) -> list[str]:
    return [f"{'AB'[t]} {'yes' if a else 'no'}" for t, a in zip(task, answer, strict=True)]


def _held(inputs, answer, task) -> Probe:
    return array_probe("held", inputs, answer, _labels(task, answer))
