"""The two ideal predictors: dMMSE knows the M tasks, ridge only their distribution.

Both are the posterior mean of the task given the pairs before, in float64.
References: Raventos et al. 2023; Carroll et al. 2025 (arXiv:2501.17745), section 3.
"""

import torch
from torch import Tensor

BYTES = 64 << 20
"""Of the largest temporary: examples are taken in blocks of as many as fit."""


def posterior(x: Tensor, y: Tensor, tasks: Tensor, noise: float) -> Tensor:
    """Probability of each task before pair k is seen, `[example, k, task]`; at k = 0 uniform.

    p(m) ~ exp(-1/(2 noise) sum_{j<k} (y_j - t_m.x_j)^2)
    """
    guess = x.double() @ tasks.to(x.device).double().T
    error = (y.double()[..., None] - guess).square()
    before = error.cumsum(1) - error
    return torch.softmax(-before / (2 * noise), dim=-1)


def dmmse(x: Tensor, y: Tensor, tasks: Tensor, noise: float) -> Tensor:
    """The best prediction of y_k for tasks drawn uniformly from `tasks`, float64 `[example, k]`.

    y_k = sum_m p(m) t_m.x_k, with p of `posterior`.  With one task it is t.x_k whatever was seen.
    """
    rows = max(1, BYTES // (8 * x.shape[1] * len(tasks)))
    parts = []
    for start in range(0, len(x), rows):
        one, two = x[start : start + rows], y[start : start + rows]
        guess = one.double() @ tasks.to(x.device).double().T
        parts.append((posterior(one, two, tasks, noise) * guess).sum(-1))
    return torch.cat(parts)


def ridge(x: Tensor, y: Tensor, noise: float) -> Tensor:
    """Return the best prediction of y_k for tasks drawn from N(0, I), float64 `[example, k]`.

        t_k = (sum_{j<k} x_j x_j' + noise I)^-1 sum_{j<k} y_j x_j,    y_k = t_k.x_k

    The regularizer is the noise variance because the prior has variance 1; at k = 0 it predicts 0.
    """
    x, y = x.double(), y.double()
    outer = x[..., :, None] * x[..., None, :]
    moment = y[..., None] * x
    seen = outer.cumsum(1) - outer + noise * torch.eye(x.shape[-1]).to(x)
    task = torch.linalg.solve(seen, (moment.cumsum(1) - moment)[..., None])[..., 0]
    return (task * x).sum(-1)
