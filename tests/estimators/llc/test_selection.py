"""Information criteria against closed forms and published numbers."""

import doctest

import numpy as np
import pytest
import xarray as xr

from slt_notebook.errors import InputError
from slt_notebook.estimators.llc import model_selection as selection
from slt_notebook.estimators.llc.model_selection import crossover, free_energy, waic, wbic
from tests import exact
from tests.cases import synthetic_tree


def gaussian_run(beta, n=30, chains=4, draws=20_000, gamma=0.0):
    """Exact posterior draws of the mean of `x ~ N(w, 1)` at inverse temperature beta."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal(n) * 1.3
    variance = 1 / (n * beta + gamma)
    w = x.mean() + np.sqrt(variance) * rng.standard_normal((chains, draws))
    loss = (x - w[..., None]) ** 2 / 2 + 0.5 * np.log(2 * np.pi)
    steps = loss.mean(-1)
    best = np.broadcast_to(((x - x.mean()) ** 2 / 2 + 0.5 * np.log(2 * np.pi)).mean(), steps.shape)
    tree = exact.tree_of(
        steps,
        best,
        nbeta=n * beta,
        gamma=gamma,
        step_size=0.1,
        burnin=0,
        data_size=n,
        probes={"train": exact.probe_of(loss)},
    )
    return tree, x, x.mean(), variance


def test_docstrings():
    assert doctest.testmod(selection).failed == 0


@pytest.mark.parametrize("beta", [1.0, 0.3, 0.05])
def test_waic_of_a_gaussian(beta):
    tree, x, mean, variance = gaussian_run(beta)
    found = waic(tree)
    truth = exact.gaussian_waic(x, mean, variance, beta)
    assert found.beta.item() == pytest.approx(beta)
    assert abs(found.waic.item() - truth) < 5 * found.mcse.item()
    assert found.mcse.item() < 0.01 * abs(truth)
    # the raw losses with beta = 1, or beta * loss, are another number: the test sees tempering
    if beta < 1:
        wrong = waic(tree, beta=1.0)
        assert abs(wrong.waic.item() - truth) > 20 * found.mcse.item()


def test_waic_at_beta_1_matches_cross_validation():
    """WAIC is asymptotically leave-one-out: here known exactly, -log N(x_i; mean without i, ...)"""
    tree, x, _, _ = gaussian_run(1.0)
    n = len(x)
    others = (x.sum() - x) / (n - 1)
    spread = 1 + 1 / (n - 1)
    loo = np.mean((x - others) ** 2 / (2 * spread) + 0.5 * np.log(2 * np.pi * spread))
    assert waic(tree).waic.item() == pytest.approx(loo, abs=0.003)


def test_waic_of_text_counts_tokens():
    tree = synthetic_tree(ragged=False)
    assert waic(tree).beta.item() == pytest.approx(30 / (1000 * 11))
    assert waic(tree).attrs["observation_loss"] == "sum over tokens"


def test_waic_needs_a_temperature():
    tree = synthetic_tree()
    with pytest.raises(InputError, match="pass the run"):
        waic(tree["probe/train"].to_dataset())
    assert np.isfinite(waic(tree["probe/train"].to_dataset(), beta=1.0).waic)


def test_wbic_of_a_gaussian():
    """At beta = 1/log n, E[n L] = n L* + log n / 2 exactly (one parameter, flat prior)."""
    n = 30
    tree, x, mean, _ = gaussian_run(1 / np.log(n), n)
    truth = ((x - mean) ** 2 / 2 + 0.5 * np.log(2 * np.pi)).sum() + np.log(n) / 2
    found = wbic(tree)
    assert abs(found.wbic.item() - truth) < 5 * found.stderr.item()
    assert found.stderr.item() < 0.05
    assert found.attrs["temperature"] == "right"


def test_wbic_refuses_another_temperature_and_says_which():
    with pytest.raises(InputError, match="nbeta=144"):
        wbic(synthetic_tree())
    assert wbic(synthetic_tree(), strict=False).attrs["temperature"].startswith("wrong")


def test_free_energy():
    n = xr.DataArray([100.0, 1000.0], dims="n")
    found = free_energy(n, 0.3, 20)
    np.testing.assert_allclose(found, 0.3 * n + 20 * np.log(n))
    assert found.dims == ("n",)
    lower = free_energy(n, 0.3, 20, multiplicity=2)
    np.testing.assert_allclose(found - lower, np.log(np.log(n)))
    with pytest.raises(InputError):
        free_energy(1, 0.3, 20)


def test_crossover():
    found = crossover(losses=(0.3, 0.5), llcs=(20, 2))
    assert abs(found - 572) < 1
    assert found == pytest.approx(exact.crossing((0.3, 0.5), (20, 2)), rel=1e-9)
    for root in ("upper", "lower"):
        n = crossover(root=root)
        assert free_energy(n, 0.3, 20) == pytest.approx(free_energy(n, 0.5, 2), rel=1e-12)
    assert crossover((0.5, 0.3), (2, 20)) == pytest.approx(found)  # naming order is no matter
    assert np.isnan(crossover((0.3, 0.5), (2, 20)))  # one is better in both
    assert np.isnan(crossover((0.3, 0.5), (2.4, 2)))  # ratio 2 < e: the simpler never wins
    with pytest.raises(InputError):
        crossover((0.3,), (1, 2))
