"""The contract of the fused stepper: the kernel's own step for the same noise; see `test_fused`."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.core.chunking import Fit
from slt_notebook.core.potential import Potential
from slt_notebook.core.space import Space
from slt_notebook.core.steppers.fused import Fused, normals
from slt_notebook.core.steppers.reference import Reference
from tests.core.steppers import test_nonfinite
from tests.core.steppers.cases import name_of, steps

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
KERNELS = [
    slt.SGLD((1e-3, 2e-3, 5e-3)),
    slt.SGLD(1e-3, metric=slt.RMSProp()),
    slt.SGLD(1e-3, metric=slt.RMSProp(compat="devinterp")),
    slt.SGLD(1e-3, metric=slt.RMSProp(adapt="burnin")),
]
CHAINS = (0, 1, 2)


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


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_the_fused_step_is_the_step_for_the_same_noise(kernel):
    potential = target()
    test = lambda step: step == 3
    got = steps(kernel, potential, 3, 4, accept_at=test, stepper=Fused(potential, 3, CHAINS))
    # Operation by operation, with the noise of the fused step.
    plain = Reference(potential, 3, CHAINS, ask=False, normals=normals)
    expected = steps(kernel, potential, 3, 4, accept_at=test, stepper=plain)
    for one, other in zip(got, expected, strict=True):
        for a, b in zip(one.state, other.state, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-6)
        for name in ("loss", "virial", "grad_norm"):
            torch.testing.assert_close(
                getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-6
            )
        assert torch.equal(one.status, other.status)
        assert (one.accept is None) == (other.accept is None) == (one.index != 3)


def test_a_chain_that_stops_is_put_back_and_the_others_go_on():
    kernel = slt.SGLD(1e-3, metric=slt.RMSProp())
    good, bad = (
        steps(kernel, potential, 3, 4, stepper=Fused(potential, 3, CHAINS))
        for potential in (target(), target(poison=100 + 4 * 2 + 1))
    )
    assert [int(s.status[1]) for s in bad] == [names.STATUS_OK] * 2 + [names.STATUS_LOSS] * 2
    for a, b, last in zip(bad[3].state, bad[1].state, good[3].state, strict=True):
        assert torch.equal(a[1], b[1])
        torch.testing.assert_close(a[[0, 2]], last[[0, 2]])


@pytest.mark.parametrize(
    "kernel", [slt.SGLD(4.0), slt.SGLD(4.0, metric=slt.RMSProp())], ids=name_of
)
@pytest.mark.parametrize("place", test_nonfinite.PLACES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, by which Triton interprets
def test_what_is_not_finite_has_its_step_and_cause(kernel, place):
    flat = test_nonfinite.potential(place, 2500, 3, device=DEVICE)
    close = partial(torch.allclose, rtol=1e-5)
    test_nonfinite.check(kernel, flat, place, lambda t: Fused(t, 3, CHAINS), same=close)


def test_noise_is_normal_independent_and_a_function_of_chain_step_and_place():
    size = 60_000
    first = normals(0, (0, 1), 5, size, DEVICE)
    again = normals(0, (1, 0), 5, size + 100, DEVICE)
    assert torch.equal(first[0], again[1, :size])
    later = normals(0, (0, 1), 6, size, DEVICE)
    for row in (*first, *later):
        assert stats.kstest(row.cpu().numpy(), "norm").pvalue > 1e-4
    every = torch.cat([first, later, first.roll(1, 1)[:1]]).cpu().numpy()
    correlation = np.corrcoef(every)
    off = correlation[~np.eye(len(every), dtype=bool)]
    assert np.abs(off).max() < 5 / np.sqrt(size)  # standard deviation 1 / sqrt(size) each
