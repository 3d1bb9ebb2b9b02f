"""The fused step of a GPU equals the kernel's own step for the same noise: run by `test_fused`."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._pytree import tree_leaves

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.core.chunking import Fit
from slt_notebook.core.potential import Potential
from slt_notebook.core.sampler_loop import walk
from slt_notebook.core.space import Space
from slt_notebook.core.steppers import fused

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
KERNELS = [
    slt.SGLD((1e-3, 2e-3, 5e-3)),
    slt.SGLD(1e-3, metric=slt.RMSProp()),
    slt.SGLD(1e-3, metric=slt.RMSProp(compat="devinterp")),
    slt.SGLD(1e-3, metric=slt.RMSProp(adapt="burnin")),
]


def target(dim: int = 2500, poison: int | None = None) -> Potential:
    def loss(params, batch):
        w = params["w"]
        value = (w**4).sum() + (w * batch["x"].mean()).square().sum()
        out = value.expand(len(batch["x"])) / 10
        return torch.where(batch["id"] == poison, torch.nan, out) if poison is not None else out

    of = slt.loss_fn({"w": torch.linspace(-1, 1, dim)}, loss).to(DEVICE)
    space = Space.of(of.params)
    row = lambda *values: torch.tensor(values, device=DEVICE)
    return Potential(
        of, space, of.params, space.flatten(of.params), row(3.0, 5.0, 2.0), row(10.0, 0.0, 7.0),
        Fit(3),
    )  # fmt: skip


def steps(kernel, potential, count):
    def batches(step):
        x = [torch.arange(4.0, device=DEVICE) + step + c for c in range(3)]
        ids = torch.arange(4, device=DEVICE)
        here = [{"x": v, "id": ids + 4 * step + 100 * c} for c, v in enumerate(x)]
        return here, torch.full((3,), 4, device=DEVICE)

    state = kernel.init(potential.center.expand(3, -1).clone() + 0.01)
    return list(
        walk(
            kernel, potential, state, seed=3, chains=(0, 1, 2), batches=batches, first=0,
            status=torch.zeros(3, dtype=torch.int8, device=DEVICE), last=count, burnin=2,
            norm_at=lambda step: True, ask=False,
        )
    )  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: str(k.metric)[:60])
def test_the_fused_step_is_the_step_for_the_same_noise(kernel, monkeypatch):
    potential = target()
    own = fused.has_form
    monkeypatch.setattr(fused, "applies", lambda kernel, potential: own(kernel))
    got = steps(kernel, potential, 4)
    # Operation by operation, with the noise of the fused step.
    noise = lambda seed, chains, index, dim, device: fused.noise(
        fused.keys(seed, chains, index, device), dim
    )
    monkeypatch.setattr(fused, "applies", lambda kernel, potential: False)
    monkeypatch.setattr("slt_notebook.core.sampler_loop.streams.noise", noise)
    for one, other in zip(got, steps(kernel, potential, 4), strict=True):
        for a, b in zip(tree_leaves(one.state), tree_leaves(other.state), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-6)
        for name in ("loss", "virial", "grad_norm"):
            torch.testing.assert_close(
                getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-6
            )
        assert torch.equal(one.status, other.status)


def test_a_chain_that_stops_is_put_back_and_the_others_go_on(monkeypatch):
    own = fused.has_form
    monkeypatch.setattr(fused, "applies", lambda kernel, potential: own(kernel))
    kernel = slt.SGLD(1e-3, metric=slt.RMSProp())
    good, bad = (steps(kernel, target(poison=p), 4) for p in (None, 100 + 4 * 2 + 1))
    assert [int(s.status[1]) for s in bad] == [names.STATUS_OK] * 2 + [names.STATUS_LOSS] * 2
    for a, b, last in zip(*(tree_leaves(s.state) for s in (bad[3], bad[1], good[3])), strict=True):
        assert torch.equal(a[1], b[1])
        torch.testing.assert_close(a[[0, 2]], last[[0, 2]])


def test_noise_is_normal_independent_and_a_function_of_chain_step_and_place():
    size = 60_000
    first = fused.noise(fused.keys(0, (0, 1), 5, DEVICE), size)
    again = fused.noise(fused.keys(0, (1, 0), 5, DEVICE), size + 100)
    assert torch.equal(first[0], again[1, :size])
    later = fused.noise(fused.keys(0, (0, 1), 6, DEVICE), size)
    for row in (*first, *later):
        assert stats.kstest(row.cpu().numpy(), "norm").pvalue > 1e-4
    every = torch.cat([first, later, first.roll(1, 1)[:1]]).cpu().numpy()
    correlation = np.corrcoef(every)
    off = correlation[~np.eye(len(every), dtype=bool)]
    assert np.abs(off).max() < 5 / np.sqrt(size)  # standard deviation 1 / sqrt(size) each
