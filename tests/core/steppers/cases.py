"""The problem, the kernels and the steppers of the contract."""

from functools import cache

import torch
from torch.utils._pytree import tree_leaves

import slt_notebook as slt
from slt_notebook.core.chunking import Fit
from slt_notebook.core.potential import Potential
from slt_notebook.core.sampler_loop import sampler_steps
from slt_notebook.core.space import Space
from slt_notebook.core.steppers import blocked, in_place
from slt_notebook.core.steppers.block import kernel_update
from slt_notebook.core.steppers.choice import is_plain_sgld
from slt_notebook.core.steppers.reference import Reference

DIM = 3 * blocked.BLOCK + 5  # the last block has less than 16 coordinates

METRICS = [
    slt.Identity(),
    slt.Fixed(0.7),
    slt.RMSProp(),
    slt.RMSProp(adapt="burnin"),
    slt.RMSProp(decay=0.3, compat="devinterp"),
]
ADAMS = [slt.Adam(), slt.Adam(adapt="burnin")]
KERNELS = [
    slt.SGLD((1e-4, 2e-4, 1e-5)),
    slt.SGLD((1e-6, 2e-6, 1e-5), metric=slt.RMSProp(decay=0.3, compat="devinterp")),
    *(slt.SGLD(1e-6, metric=metric) for metric in (*METRICS[1:-1], *ADAMS)),
    slt.SGHMC(1e-2, friction=(0.1, 0.2, 1.0)),
    *(slt.SGHMC(1e-6, metric=metric) for metric in METRICS),
]
"""Every kernel and metric that is stepped in blocks."""


def name_of(kernel) -> str:
    """A name for the table."""
    step = "" if isinstance(kernel.step_size, float) else "per chain, "
    return f"{type(kernel).__name__}({step}{kernel.metric})"


def potential(
    dim: int, chains: int, poison: int | None = None, device="cpu", at_once: int = 1
) -> Potential:
    """A quartic loss of `dim` coordinates; `poison`: the example whose loss is NaN."""
    params = {"w": torch.linspace(-1, 1, dim), "v": torch.ones(3)}

    def loss(p, batch):
        value = (p["w"] * batch["x"].mean()).square().sum() + (p["w"] ** 4).sum() + p["v"].sum()
        out = value.expand(len(batch["x"])) / 100
        return torch.where(batch["id"] == poison, torch.nan, out) if poison is not None else out

    of = slt.loss_fn(params, loss).to(device)
    space = Space.of(of.params)
    row = lambda *v: torch.tensor(v, device=device)
    return Potential(
        of, space, of.params, space.flatten(of.params), row(*[3.0, 5.0, 2.0][:chains]),
        row(*[10.0, 0.0, 7.0][:chains]), Fit(at_once),
    )  # fmt: skip


def steps(kernel, target: Potential, chains: int, count: int, **options):
    """`count` steps of `chains` chains; states are copied, since steppers may change them."""
    device = target.center.device
    state = kernel.init(target.center.expand(chains, -1).clone() + 0.01)

    def batches(step):
        x = [torch.arange(4.0, device=device) + step + c for c in range(chains)]
        ids = torch.arange(4, device=device)
        here = [{"x": v, "id": ids + 4 * step + 100 * c} for c, v in enumerate(x)]
        return here, torch.full((chains,), 4, device=device)

    made = sampler_steps(
        kernel, target, state, seed=3, chains=tuple(range(chains)), batches=batches,
        status=torch.zeros(chains, dtype=torch.int8, device=device), first=0, last=count,
        norm_at=lambda i: True, burnin=2, **options,
    )  # fmt: skip
    return [s._replace(state=[leaf.clone() for leaf in tree_leaves(s.state)]) for s in made]


def metropolis_at(step: int) -> bool:
    """The step with a Metropolis test."""
    return step == 1


@cache
def reference(kernel):
    """The steps that every stepper on a CPU must give."""
    target = potential(DIM, 3)
    return steps(
        kernel, target, 3, 4, accept_at=metropolis_at, stepper=Reference(target, 3, (0, 1, 2))
    )


STEPPERS = {
    "blocked": (
        lambda kernel: kernel.elementwise and kernel.metric.elementwise,
        lambda target: blocked.Blocked(target, 3, (0, 1, 2), kernel_update),
    ),
    "in place": (
        is_plain_sgld,
        lambda target: blocked.Blocked(target, 3, (0, 1, 2), in_place.update),
    ),
}
"""Steppers on a CPU: (which kernels they support, how one is made)."""
