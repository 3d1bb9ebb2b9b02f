"""Cost of the update without gradients, against the bytes that it must move.

An SGLD step with localization must read w, w* and the gradient and write w: 16 bytes a coordinate
(RMSProp: 24).  The time is that of `sampler_steps`, the package's own loop with noise, virial and
checks of finiteness, with a ready gradient put in the place of the real one (its copy is timed and
taken off).  `kernel` is `kernel.step` alone, noise and gradient ready: it reads three rows and
writes one.
"""

from contextlib import ExitStack
from unittest import mock

import torch

import slt_notebook as slt
from slt_notebook.core.potential import Potential
from slt_notebook.core.sampler_loop import sampler_steps
from slt_notebook.core.space import Space
from slt_notebook.core.types import Evaluation
from tests.bench.parts.inside import GRADIENTS
from tests.bench.parts.machine import seconds, sync

STEPS = 5


def update(dim: int, chains: int, device: torch.device, bandwidth: float, metric=None) -> dict:
    """Seconds, GB/s and share of the copy bandwidth: of the whole update, of the kernel alone."""
    base = {"w": torch.randn(dim, device=device)}
    center = base["w"].clone()
    row = lambda value: torch.full((chains,), value, device=device)
    potential = Potential(_never, Space.of(base), base, center, row(30.0), row(300.0))
    kernel = slt.SGLD(1e-7, metric) if metric else slt.SGLD(1e-7)
    ready = torch.randn(chains, dim, device=device) * 1e-3
    moved = dim * chains * (24 if metric else 16)

    def gradients(self, position, batches):
        return row(1.0), ready[: len(position)].clone(), row(1.0).long()

    def one(self, position, batch):
        return row(1.0)[0], ready[0].clone(), row(1.0).long()[0]

    def steps() -> None:
        start = kernel.init(center.expand(chains, -1).clone())
        batches = [{"x": torch.zeros(1, device=device)}] * chains
        for _ in sampler_steps(
            kernel, potential, start, seed=0, chains=tuple(range(chains)),
            batches=lambda step: (batches, row(1.0).long()), first=0, last=STEPS,
            status=torch.zeros(chains, dtype=torch.int8, device=device),
        ):  # fmt: skip
            pass

    with ExitStack() as stack:
        for name, stub in zip(GRADIENTS, (gradients, one), strict=True):
            if hasattr(Potential, name):
                stack.enter_context(mock.patch.object(Potential, name, stub))
        whole = seconds(steps, device) / STEPS
    extra = seconds(lambda: ready.clone(), device)
    start = seconds(lambda: center.expand(chains, -1).clone(), device) / STEPS
    whole = max(whole - extra - start, 1e-9)

    noise = torch.randn(chains, dim, device=device)
    state = kernel.init(center.expand(chains, -1).clone())
    at = Evaluation(row(1.0), ready, row(1.0), ready, row(1.0).long(), row(30.0)[:, None])
    alone = seconds(lambda: kernel.step(state, lambda _: at, noise), device)
    sync(device)
    return {
        "dim": dim, "chains": chains, "metric": type(metric).__name__ if metric else "Identity",
        "update_s": whole, "update_gb_s": moved / whole / 1e9,
        "update_share": moved / whole / 1e9 / bandwidth,
        "kernel_s": alone, "kernel_gb_s": moved / alone / 1e9,
        "kernel_share": moved / alone / 1e9 / bandwidth,
    }  # fmt: skip


def _never(params, batch):
    raise AssertionError("the bench puts a ready gradient in its place")
