"""Chains batched by vmap against chains one after the other, beside the threshold `SMALL`.

Gradients of four chains in one batch, on all threads, against one chain after the other with the
chains dealt out to as many workers as there are threads: what the package's rule chooses between.
The work goes from small to large, for a small network and for a language model; it is what the
rule looks at, multiply-adds of a chain's step: coordinates times losses of a batch.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import slt_notebook as slt
from slt_notebook.core.potential import Potential
from slt_notebook.core.space import Space
from slt_notebook.models.tiny_lm import TinyLMConfig, TinyLMForCausalLM
from slt_notebook.runs.execute.threads import threads_sharing_cores
from slt_notebook.runs.plan import partition as plan
from tests.bench.parts.machine import seconds


def cases(device: torch.device) -> Iterator[tuple[str, float, Any, Any, int]]:
    """Name of the family, multiply-adds of a chain's step, loss, data, batch size."""
    rng = np.random.default_rng(0)
    for width, batch in ((16, 16), (32, 64), (64, 128), (128, 256), (256, 256), (256, 1024)):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(16, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
                            nn.Linear(width, 1)).to(device)  # fmt: skip
        x = rng.standard_normal((2 * batch, 16)).astype("f4")
        data = slt.array_probe("data", x, x[:, :1])
        loss = slt.supervised(net, lambda out, y: F.mse_loss(out, y, reduction="none").mean(1))
        dim = sum(p.numel() for p in net.parameters())
        yield "network", float(dim) * batch, loss, data, batch
    for width, batch, length in ((16, 2, 17), (16, 8, 33), (32, 8, 65), (64, 8, 129)):
        torch.manual_seed(0)
        model = TinyLMForCausalLM(TinyLMConfig(128, width, 2, 2, 256)).eval().to(device)
        data = slt.token_probe("data", rng.integers(0, 128, (2 * batch, length)))
        dim = sum(p.numel() for p in model.parameters())
        yield "language model", float(dim) * batch * (length - 1), slt.causal_lm(model), data, batch


def measure(device: torch.device, chains: int = 4, quick: bool = False) -> dict:
    """Seconds of the gradients of all chains, both ways, and where the two cross."""
    points, least = [], 0.3 if quick else 2.0
    workers = min(chains, torch.get_num_threads()) if device.type == "cpu" else 1
    for family, work, loss, data, batch in cases(device):
        together = gradients(loss, data, batch, chains, chains, device)
        apart = gradients(loss, data, batch, chains, 1, device)
        batched = seconds(lambda job=together: job(0, chains), device, least)
        if workers == 1:
            looped = seconds(lambda job=apart: job(0, chains), device, least)
        else:
            cuts = [chains * i // workers for i in range(workers + 1)]
            with threads_sharing_cores(workers) as pool:
                looped = seconds(
                    lambda job=apart, pool=pool, cuts=cuts: list(pool.map(job, cuts, cuts[1:])),
                    device, least,
                )  # fmt: skip
        points.append({
            "family": family, "work": work, "batched_s": batched, "looped_s": looped,
            "batched_over_looped": batched / looped, "rule_batches": work < plan.SMALL,
        })  # fmt: skip
    families = {p["family"] for p in points}
    return {
        "chains": chains, "workers": workers, "small": plan.SMALL, "points": points,
        "crossover": {f: crossover([p for p in points if p["family"] == f]) for f in families},
    }  # fmt: skip


def gradients(loss, data, batch: int, chains: int, chunk: int, device) -> Callable:
    """A function that takes the gradients of chains `first` to `last - 1`, `chunk` at once."""
    params = {key: value.detach() for key, value in loss.params.items()}
    space = Space.of(params)
    center = space.flatten(params)
    ones = torch.ones(chains, device=device)
    size = {"chunk": chunk} if hasattr(Potential, "chunk") else {"fit": _fit(chunk)}
    potential = Potential(loss, space, params, center, ones, ones, **size)
    fields = {k: torch.as_tensor(v[:batch]).to(device) for k, v in data.fields.items()}
    position = center.expand(chains, -1).contiguous()

    def work(first: int, last: int) -> None:
        potential.loss_and_grad(position[first:last], [fields] * (last - first))

    return work


def _fit(chunk: int) -> Any:
    from slt_notebook.core.chunking import Fit

    return Fit(chains=chunk)


def crossover(points: list[dict]) -> float | None:
    """Work from which on batching does not pay, interpolated in logarithms; None if not seen."""
    points, found = sorted(points, key=lambda p: p["work"]), None
    for low, high in itertools.pairwise(points):
        a, b = math.log(low["batched_over_looped"]), math.log(high["batched_over_looped"])
        if a < 0 <= b:
            share = -a / (b - a)
            found = math.exp(math.log(low["work"]) * (1 - share) + math.log(high["work"]) * share)
        elif b < 0:
            found = None
    return found
