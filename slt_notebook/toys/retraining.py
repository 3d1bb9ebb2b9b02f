"""Retraining on many subsets of the training set at once, in one batch.

The ground truth of data attribution: networks trained from scratch on random subsets, and the loss
of each on held-out queries.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional as F

from slt_notebook.errors import InputError, say
from slt_notebook.models.losses.function import FunctionLoss, loss_fn
from slt_notebook.models.probes import Probe, array_probe
from slt_notebook.toys.digits import split

Params = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Retraining:
    """A problem small enough to train hundreds of times.

        L_S(w) = 1/|S| sum_{i in S} l_i(w) + weight_decay / 2 |w|^2

    Attributes:
        init: `seed -> params`.
        output: `(params, inputs) -> outputs`, of one model.
        train, query: the examples; `facts` what is known of them.
        steps, lr: of full-batch Adam, whose step size falls to 0 along a cosine.
    """

    name: str
    init: Callable[[int], dict[str, Tensor]]
    output: Callable[[Params, Tensor], Tensor]
    train: Probe
    query: Probe
    weight_decay: float
    steps: int
    lr: float
    facts: dict[str, Any] = field(default_factory=dict)

    def losses(self, params: Params, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the losses `[example]`, nats; in float64, where small losses do not round to 0."""
        output = self.output(params, batch["inputs"])
        targets = batch["targets"]
        return F.cross_entropy(output.double(), targets, reduction="none").to(output.dtype)

    def loss(self, params: Params) -> FunctionLoss:
        """Return the loss of one model for `slt.sample`, around `params`."""
        return loss_fn(dict(params), self.losses)

    def fit(self, weights: Tensor | None = None, seeds: Sequence[int] = (0,)) -> dict[str, Tensor]:
        """Train one model for every row of `weights [model, example]` (a row: whom it sees).

        Seeds repeat the whole: row r of seed s is model `s * rows + r`.  Rows are normalized to
        mean losses; all models are trained at once.
        """
        batch = self.train.tensors("cpu")
        count = len(self.train)
        weights = torch.ones(1, count) if weights is None else weights.float()
        weights = (weights / weights.sum(1, keepdim=True)).repeat(len(seeds), 1)
        rows = len(weights) // len(seeds)
        starts = [self.init(s) for s in seeds]
        params = {
            k: torch.stack([s[k] for s in starts]).repeat_interleave(rows, 0).clone()
            for k in starts[0]
        }

        def objective(one: Params, weight: Tensor) -> Tensor:
            norm = sum(p.square().sum() for p in one.values())
            return (weight * self.losses(one, batch)).sum() + self.weight_decay / 2 * norm

        gradient = torch.func.vmap(torch.func.grad(objective))
        first = {k: torch.zeros_like(p) for k, p in params.items()}
        second = {k: torch.zeros_like(p) for k, p in params.items()}
        for t in range(1, self.steps + 1):
            rate = self.lr * (1 + math.cos(math.pi * (t - 1) / self.steps)) / 2
            grads = gradient(params, weights)
            for k, g in grads.items():
                first[k].lerp_(g, 0.1)
                second[k].mul_(0.999).addcmul_(g, g, value=0.001)
                size = (second[k] / (1 - 0.999**t)).sqrt_().add_(1e-8)
                params[k].addcdiv_(first[k], size, value=-rate / (1 - 0.9**t))
        return params

    def query_losses(self, params: Params) -> Tensor:
        """Return the loss of every query, `[model, query]`, nats."""
        batch = self.query.tensors("cpu")
        return torch.func.vmap(lambda p: self.losses(p, batch))(dict(params))


def digits_problem(
    *,
    train: int = 300,
    queries: int = 100,
    wrong: float = 0.1,
    hidden: int = 24,
    weight_decay: float = 2e-3,
    steps: int = 400,
    lr: float = 2e-2,
    seed: int = 0,
) -> Retraining:
    """300 digits of 8 x 8, a tenth with wrong labels, and a network of 64-24-10 (1,810 weights)."""
    x, given, true, xq, yq = split(train, queries, wrong, seed)

    def init(seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        normal = lambda *shape: torch.randn(*shape, generator=generator) / math.sqrt(shape[0])
        return {
            "w1": normal(64, hidden), "b1": torch.zeros(hidden),
            "w2": normal(hidden, 10), "b2": torch.zeros(10),
        }  # fmt: skip

    return Retraining(
        "digits", init, _two_layers, array_probe("train", x, given, given.tolist()),
        array_probe("query", xq, yq, yq.tolist()), weight_decay, steps, lr,
        {"wrong": given != true, "true": true},
    )  # fmt: skip


def _two_layers(params: Params, inputs: Tensor) -> Tensor:
    return torch.tanh(inputs @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def retrain(
    problem: Retraining,
    *,
    alphas: Sequence[float] = (0.2, 0.5, 0.8),
    subsets: int = 100,
    seeds: int = 3,
    first_seed: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Train on random subsets of every fraction, several initializations each.

    Args:
        problem: what is trained.
        alphas: fractions of the training set that a model sees.
        subsets: how many of each; each is drawn without replacement, as a function of `seed`.
        seeds: initializations of each, `first_seed, first_seed + 1, ...`.
        first_seed: of the initializations.
        seed: of the subsets.

    Returns:
        Dataset `loss(alpha, subset, seed, query)` (float32, nats) and `mask(alpha, subset,
        example)`.

    Raises:
        InputError: a fraction outside 0 to 1, or no subsets.
    """
    if not alphas or any(not 0 < a < 1 for a in alphas) or subsets < 2 or seeds < 1:
        got = f"alphas={alphas}, subsets={subsets}, seeds={seeds}"
        raise InputError(
            say(got, "fractions between 0 and 1, at least 2 subsets, at least 1 seed", "change it")
        )
    count = len(problem.train)
    rng = np.random.default_rng(seed)
    masks = np.zeros((len(alphas), subsets, count), bool)
    for a, s in itertools.product(range(len(alphas)), range(subsets)):
        masks[a, s, rng.permutation(count)[: max(1, round(alphas[a] * count))]] = True
    every = range(first_seed, first_seed + seeds)
    found = []
    for mask in masks:
        params = problem.fit(torch.from_numpy(mask), every)
        loss = problem.query_losses(params).numpy().reshape(seeds, subsets, -1)
        found.append(loss.transpose(1, 0, 2))
    return xr.Dataset(
        {
            "loss": (("alpha", "subset", "seed", "query"), np.stack(found).astype("f4")),
            "mask": (("alpha", "subset", "example"), masks),
        },
        {
            "alpha": list(alphas), "seed": list(every), "query": list(problem.query.examples),
            "example": list(problem.train.examples),
        },
        {"problem": problem.name, "train": count},
    )  # fmt: skip
