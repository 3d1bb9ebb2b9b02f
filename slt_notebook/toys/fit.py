"""Reproducible training of small networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slt_notebook.models.losses.supervised import SupervisedLoss, supervised
from slt_notebook.models.probes import Probe


@dataclass(frozen=True, eq=False)
class Toy:
    """A trained network with the data that goes with it.

    Attributes:
        loss: what `slt.sample` takes.
        train: the training set; `held` unseen examples of the same kind.
        facts: what is known of it (accuracy, groups, planted labels, ...).
    """

    name: str
    loss: SupervisedLoss
    train: Probe
    held: Probe
    facts: dict[str, Any] = field(default_factory=dict)


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """One loss an example, through float64 where confident losses would round to 0 in float32."""
    return F.cross_entropy(output.double(), target, reduction="none").to(output.dtype)


def mlp(*sizes: int, seed: int = 0, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of these sizes with `activation` between them, initialized from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Linear(a, b)] + ([activation()] if i < len(sizes) - 2 else [])
        return nn.Sequential(*layers)


def fit(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int,
    lr: float = 3e-3,
    batch_size: int = 128,
    weight_decay: float = 0.0,
    seed: int = 0,
    criterion: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    decay: bool = True,
) -> nn.Module:
    """Train in place with AdamW; the step size falls to 0 along a cosine (unless `decay=False`).

    Args:
        module: the network; changed in place.
        inputs: `[example, ...]`.
        targets: `[example, ...]`.
        steps: how many.
        lr: AdamW's step size at the beginning.
        batch_size: examples per step, drawn with replacement; all of them if there are no more.
        weight_decay: AdamW's.
        seed: of the batches.
        criterion: `(output, target) -> [example]`.
        decay: whether the step size falls.

    Returns:
        The module.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if decay else None
    full = batch_size >= len(inputs)
    for _ in range(steps):
        rows = (
            slice(None) if full else torch.randint(len(inputs), (batch_size,), generator=generator)
        )
        loss = criterion(module(inputs[rows]), targets[rows]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return module


def toy(name, module, train: Probe, held: Probe, **facts) -> Toy:
    """Wrap a trained module, with its losses and accuracies among the facts."""
    loss = supervised(module, cross_entropy)
    for probe in (train, held):
        batch = probe.tensors("cpu")
        with torch.no_grad():
            output = module(batch["inputs"])
            facts[f"{probe.name}_loss"] = float(cross_entropy(output, batch["targets"]).mean())
            hits = (output.argmax(1) == batch["targets"]).float()
            facts[f"{probe.name}_accuracy"] = float(hits.mean())
    return Toy(name, loss, train, held, facts)
