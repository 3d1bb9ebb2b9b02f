"""The benchmark of samplers: layout, statistics and what it says of a chain that is lost."""

import doctest

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.benchmarks import compare
from slt_notebook.errors import InputError

B = slt.benchmarks


@pytest.fixture(scope="module")
def result():
    problems = [B.monomial([2]), B.monomial([2, 2]), B.linear_gaussian(6, 30)]
    samplers = {"SGLD": slt.SGLD(), "SGHMC": slt.SGHMC(friction=0.4)}
    return problems, B.run(
        samplers, problems, [1e-4, 0.02, 50.0], nbeta=20.0, gamma=2.0, chains=4, steps=1000,
        burnin=300, truth="finite",
    )  # fmt: skip


def test_layout(result):
    problems, data = result
    assert data.estimate.dims == ("sampler", "step_size", "problem")
    assert data.chain_estimate.dims == ("sampler", "step_size", "problem", "chain")
    assert data.sizes == {"sampler": 2, "step_size": 3, "problem": 3, "chain": 4}
    assert data.problem.values.tolist() == [p.name for p in problems]
    assert data.certified.values.all() and data.parameters.values.tolist() == [1, 2, 6]
    np.testing.assert_allclose(data.truth, [p.exact(20.0, 2.0) for p in problems])
    assert (data.seconds > 0).all() and data.attrs["steps"] == 1000


def test_a_good_step_finds_the_truth_and_a_tiny_one_is_below_it(result):
    _, data = result
    good = data.sel(step_size=0.02)
    bias = 0.02 * (20 * 2.25 + 2) / 4  # SGLD's, at the largest curvature
    off = abs(good.estimate - good.truth)
    assert (off.sel(sampler="SGHMC") < 4 * good.mcse.sel(sampler="SGHMC")).all()
    sgld = good.sel(sampler="SGLD")
    assert (off.sel(sampler="SGLD") < 4 * sgld.mcse + bias * sgld.truth).all()
    assert (good.order_preservation == 1).all() and (good.finite_share == 1).all()
    assert (data.sel(step_size=1e-4, sampler="SGLD").relative_error < -0.1).all()
    np.testing.assert_allclose(
        good.ess_per_gradient, good.ess / (4 * 700)
    )  # of the steps after burn-in


def test_what_diverges_is_data(result):
    _, data = result
    lost = data.sel(step_size=50.0)
    assert not lost.finite.any() and (lost.finite_share == 0).all()
    assert lost.estimate.isnull().all() and (lost.order_preservation == 0).all()
    assert np.isinf(lost.median_error).all()


def test_step_sizes_do_not_touch_each_other():
    """Chains are named by their place, so the first step size alone gives the same chains."""
    problem = B.linear_gaussian(4, 20)
    settings = {"nbeta": 20.0, "gamma": 2.0, "chains": 2, "steps": 200}
    both = B.run([slt.SGLD()], [problem], [0.02, 90.0], **settings)
    alone = B.run([slt.SGLD()], [problem], [0.02], **settings)
    np.testing.assert_allclose(
        both.chain_estimate.sel(step_size=0.02), alone.chain_estimate.sel(step_size=0.02), rtol=1e-3
    )


def test_order_preservation_counts_pairs():
    assert doctest.testmod(compare).failed == 0
    truth = np.array([1.0, 2.0, 2.0, 5.0])
    assert compare.order_preservation(np.array([1.0, 3.0, 2.0, 4.0]), truth) == 1
    assert compare.order_preservation(np.array([1.0, np.nan, 2.0, 4.0]), truth) == 3 / 5
    assert compare.order_preservation(-truth, truth) == 0
    assert np.isnan(compare.order_preservation(truth[:1], truth[:1]))


def test_bad_input():
    problem = B.monomial([2])
    for bad in (
        ([], [problem], [0.1]),
        ([slt.SGLD()], [], [0.1]),
        ([slt.SGLD()], [problem], []),
        ([slt.SGLD()], [problem, problem], [0.1]),
    ):
        with pytest.raises(InputError, match="What to do"):
            B.run(*bad)
    with pytest.raises(InputError, match="truth"):
        B.run([slt.SGLD()], [problem], [0.1], truth="none")
    names = compare._named([slt.SGLD(), slt.SGLD(0.1), slt.SGLD(metric=slt.Adam())])
    assert list(names) == ["SGLD", "SGLD'", "SGLD + Adam"]
