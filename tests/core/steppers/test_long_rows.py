"""A step taken block by block is the kernel's own step: the same numbers, in less memory."""

from dataclasses import replace

import pytest
import torch
from torch.utils._pytree import tree_leaves

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.chunking import Fit
from slt_notebook.core.potential import Potential
from slt_notebook.core.reductions import row_norms
from slt_notebook.core.sampler_loop import walk
from slt_notebook.core.space import Space
from slt_notebook.core.steppers import blocked as long_rows

DIM = 3 * long_rows.BLOCK + 5  # the last block has less than 16 coordinates


def potential(dim: int, chains: int, poison: int | None = None) -> Potential:
    """A quartic loss of `dim` coordinates; `poison`: the example whose loss is NaN."""
    params = {"w": torch.linspace(-1, 1, dim), "v": torch.ones(3)}

    def loss(p, batch):
        value = (p["w"] * batch["x"].mean()).square().sum() + (p["w"] ** 4).sum() + p["v"].sum()
        out = value.expand(len(batch["x"])) / 100
        return torch.where(batch["id"] == poison, torch.nan, out) if poison is not None else out

    of = slt.loss_fn(params, loss)
    space = Space.of(of.params)
    row = lambda *v: torch.tensor(v)
    return Potential(
        of, space, of.params, space.flatten(of.params), row(*[3.0, 5.0, 2.0][:chains]),
        row(*[10.0, 0.0, 7.0][:chains]), Fit(1),
    )  # fmt: skip


def steps(kernel, target: Potential, chains: int, count: int, **options):
    state = kernel.init(target.center.expand(chains, -1).clone() + 0.01)

    def batches(step):
        x = [torch.arange(4.0) + step + c for c in range(chains)]
        here = [{"x": v, "id": torch.arange(4) + 4 * step + 100 * c} for c, v in enumerate(x)]
        return here, torch.full((chains,), 4)

    walked = walk(
        kernel, target, state, seed=3, chains=tuple(range(chains)), batches=batches,
        status=torch.zeros(chains, dtype=torch.int8), first=0, last=count, norm_at=lambda i: True,
        burnin=2, **options,
    )  # fmt: skip
    return [s._replace(state=[leaf.clone() for leaf in tree_leaves(s.state)]) for s in walked]


KERNELS = [
    slt.SGLD((1e-4, 2e-4, 1e-5)),
    slt.SGLD(1e-6, metric=slt.RMSProp(adapt="burnin")),
    slt.SGLD((1e-6, 2e-6, 1e-5), metric=slt.RMSProp(decay=0.3, compat="devinterp")),
    slt.SGLD(1e-6, metric=slt.Fixed(0.7)),
    slt.SGLD(1e-6, metric=slt.Adam()),
    slt.SGHMC(1e-2, friction=(0.1, 0.2, 1.0)),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{type(k).__name__}{k.metric}"[:20])
def test_blocks_give_the_numbers_of_the_whole_row(kernel, monkeypatch):
    target = potential(DIM, 3)
    test = lambda step: step == 1
    blocks = steps(kernel, target, 3, 4, accept_at=test)
    monkeypatch.setattr("slt_notebook.core.sampler_loop.applies", lambda kernel, potential: False)
    for one, other in zip(blocks, steps(kernel, target, 3, 4, accept_at=test), strict=True):
        for a, b in zip(one.state, other.state, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(one.loss, other.loss) and torch.equal(one.status, other.status)
        torch.testing.assert_close(one.virial, other.virial)
        torch.testing.assert_close(one.grad_norm, other.grad_norm)
        assert other.distance is None
        position = blocks[one.index].state[0]
        torch.testing.assert_close(one.distance, row_norms(position, target.center))
        if one.index == 1:
            torch.testing.assert_close(one.accept, other.accept)
            telling = (one.accept > 0) & (one.accept < 1)
            assert telling.any() or isinstance(kernel, slt.SGHMC)


def test_a_chain_that_is_not_finite_stays_where_it_was():
    kernel = slt.SGLD(1e-4, metric=slt.RMSProp())
    good = steps(kernel, potential(DIM, 3), 3, 4)
    bad = steps(kernel, potential(DIM, 3, poison=100 + 4 * 2 + 1), 3, 4)
    assert [int(s.status[1]) for s in bad] == [names.STATUS_OK] * 2 + [names.STATUS_LOSS] * 2
    assert bad[3].loss[1].isnan() and bad[3].virial[1].isnan() and bad[3].grad_norm[1].isnan()
    for a, b, last in zip(bad[3].state, bad[1].state, good[3].state, strict=True):
        assert torch.equal(a[1], b[1])  # where it last was finite, metric included
        assert torch.equal(a[[0, 2]], last[[0, 2]])  # the others never see it


@pytest.mark.parametrize("value", [3e38, float("inf")])
def test_an_overflow_of_the_step_is_found(value):
    target = potential(DIM, 1)
    kernel = slt.SGLD(value if value < float("inf") else 1e-4)
    if value == float("inf"):
        target.base["w"][7] = 1e20  # its fourth power is not a float32
        target.center[7] = 1e20
    target = replace(target, gamma=torch.tensor([1e4]))
    (step,) = steps(kernel, target, 1, 1)
    wanted = names.STATUS_POSITION if value < float("inf") else names.STATUS_LOSS
    assert int(step.status[0]) == wanted
    assert torch.equal(step.state[0][0], target.center + 0.01)


@pytest.mark.parametrize("dim", [1, 15, 16, 17, 4 * 16 + 3, DIM, 2 * long_rows.BLOCK])
def test_noise_in_blocks_is_the_noise_of_the_row(dim, monkeypatch):
    monkeypatch.setattr(long_rows, "BLOCK", 32 if dim < 1000 else long_rows.BLOCK)

    class Target:
        space = type("Space", (), {"dim": dim})

    walker = long_rows.Walker(Target(), 5, (7,))
    parts = [room.noise.clone() for _, room in walker._noise(7, 11)]
    assert torch.equal(torch.cat(parts, 1), streams.noise(5, (7,), 11, dim, "cpu"))
