"""A small classifier of 8 x 8 digits with planted wrong labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import array_probe
from slt_notebook.toys.fit import Toy, fit, mlp, toy


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return all 1,797 digits of scikit-learn: `([example, 64] in 0 to 1, [example])`."""
    from sklearn.datasets import load_digits

    x, y = (np.asarray(a) for a in load_digits(return_X_y=True))
    return (x / 16).astype(np.float32), y.astype(np.int64)


def split(train: int, held: int, wrong: float, seed: int):
    """`(x, given, true, x_held, y_held)`: a random split, a share `wrong` of labels replaced.

    A replaced label is uniform over the nine others.
    """
    x, y = images()
    if not (train >= 1 and held >= 1 and train + held <= len(x)):
        raise InputError(
            say(f"{train} + {held} digits", f"at most {len(x)} in all", "pass smaller sizes")
        )
    if not 0 <= wrong < 1:
        raise InputError(say(f"wrong={wrong}", "a share from 0 to below 1", "pass wrong=0.1"))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    rows, rest = order[:train], order[train : train + held]
    given = y[rows].copy()
    planted = rng.choice(train, round(wrong * train), replace=False)
    given[planted] = (given[planted] + rng.integers(1, 10, len(planted))) % 10
    return x[rows], given, y[rows], x[rest], y[rest]


def digits(
    *,
    train: int = 1000,
    held: int = 200,
    wrong: float = 0.1,
    hidden: int = 32,
    steps: int = 1500,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> Toy:
    """A 64-`hidden`-10 classifier trained on digits of which a share `wrong` has a wrong label.

    Returns:
        A `Toy`; `facts["wrong"]` says which training examples were given a wrong label,
        `facts["true"]` and `facts["given"]` which labels.  Labels of `train` are the given ones.
    """
    x, given, true, xh, yh = split(train, held, wrong, seed)
    module = mlp(64, hidden, 10, seed=seed, activation=nn.Tanh)
    fit(
        module, torch.from_numpy(x), torch.from_numpy(given), steps=steps, lr=1e-2,
        weight_decay=weight_decay, seed=seed,
    )  # fmt: skip
    return toy(
        "digits", module, array_probe("train", x, given, given.tolist()),
        array_probe("held", xh, yh, yh.tolist()),
        wrong=given != true, true=true, given=given,
    )  # fmt: skip
