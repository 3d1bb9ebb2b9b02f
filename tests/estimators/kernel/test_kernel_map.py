"""Map and neighbours agree with the full kernel; gain and variance with a naive loop."""

import numpy as np
import pytest
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError
from slt_notebook.estimators.kernel.kernel_map import kernel_map, neighbours
from slt_notebook.estimators.kernel.loss_kernel import loss_kernel
from slt_notebook.estimators.kernel.loss_moments import loss_moments
from tests import exact
from tests.cases import synthetic_tree


def probe(chains=4, draws=30, examples=40, rank=5, seed=0):
    """Losses of an array probe that share `rank` factors, with some noise."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((examples, rank))
    loss = rng.standard_normal((chains, draws, rank)) @ factors.T
    loss += 0.2 * rng.standard_normal(loss.shape) + 3
    found = exact.probe_of(loss.astype("f4"))
    return found.assign({names.INIT_LOSS: (names.EXAMPLE, np.full(examples, 2.5, "f4"))})


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("draws", [4, 30])  # fewer and more draws than examples
def test_all_modes_give_the_kernel_back(normalize, draws):
    data = probe(draws=draws)
    full = loss_kernel(data, normalize=normalize, stderr=False)
    found = kernel_map(data, modes=200, normalize=normalize)
    x = found.coordinate.values.astype("f8")
    np.testing.assert_allclose(x @ x.T, full.values, atol=2e-5 * float(np.abs(full).max()))
    assert float(found.share.sum()) == pytest.approx(1, abs=1e-4)
    assert found.sizes["mode"] == min(40, 4 * (draws - 1))  # the rank: each chain loses one mean


def test_few_modes_are_the_best_of_their_rank():
    data = probe()
    full = loss_kernel(data, stderr=False).values.astype("f8")
    values, vectors = np.linalg.eigh(full)
    best = (vectors[:, -7:] * values[-7:]) @ vectors[:, -7:].T
    x = kernel_map(data, modes=7).coordinate.values.astype("f8")
    np.testing.assert_allclose(x @ x.T, best, atol=2e-5)
    share = kernel_map(data, modes=7).share.values
    np.testing.assert_allclose(share, values[::-1][:7] / values.sum(), rtol=1e-4)


def test_noise_edge_is_above_what_independent_draws_give():
    rng = np.random.default_rng(3)
    found = kernel_map(exact.probe_of(rng.standard_normal((4, 100, 300)).astype("f4")), modes=3)
    assert 0.8 < found.share.values[0] / found.attrs["noise"] < 1.05
    real = kernel_map(probe(examples=300, draws=100), modes=6)
    assert (real.share.values[:5] > real.attrs["noise"]).all()
    assert real.share.values[5] < real.attrs["noise"]


@pytest.mark.parametrize("measure", ["correlation", "squared", "covariance"])
def test_neighbours_are_those_of_the_full_kernel(measure, monkeypatch):
    monkeypatch.setattr("slt_notebook.estimators.kernel.kernel_map._ROWS", 7)
    data = probe()
    full = loss_kernel(data, normalize=measure != "covariance")
    score = np.square(full.values) if measure == "squared" else full.values.copy()
    np.fill_diagonal(score, -np.inf)
    order = np.argsort(-score, axis=1)[:, :6]
    found = neighbours(data, k=6, measure=measure)
    np.testing.assert_array_equal(found.neighbour, order)
    np.testing.assert_allclose(found.value, np.take_along_axis(full.values, order, 1), atol=1e-5)
    errors = np.take_along_axis(full.coords["stderr"].values, order, 1)
    np.testing.assert_allclose(found.stderr, errors, rtol=1e-3, atol=1e-6)


def test_constant_and_padded_examples_are_nobodys_neighbours():
    data = probe().copy(deep=True)
    data[names.LOSS][..., 3] = 1.0
    data[names.LOSS][..., 5] = np.nan
    found = neighbours(data, k=4)
    assert not np.isin([3, 5], found.neighbour.values).any()
    assert (found.neighbour.values[[3, 5]] == -1).all()
    x = kernel_map(data, modes=9).coordinate.values
    assert (x[3] == 0).all() and np.isnan(x[5]).all()
    assert np.isfinite(np.delete(x, 5, 0)).all()


def test_tokens_are_series_too():
    tree = synthetic_tree()
    found = kernel_map(tree, modes=4, unit="token")
    assert found.coordinate.dims == ("example", "token", "mode")
    assert np.isnan(found.coordinate.values[-1, -1]).all()  # padding
    near = neighbours(tree, k=3, unit="token")
    assert near.sizes["example"] == 33 and near.neighbour.values.max() < 33


def test_moments_against_loops():
    data = probe()
    loss = data.loss.values.astype("f8")
    found = loss_moments(data)
    np.testing.assert_allclose(found.gain, loss.mean((0, 1)) - 2.5, rtol=1e-5)
    within = ((loss - loss.mean(1, keepdims=True)) ** 2).sum((0, 1)) / (4 * 29)
    np.testing.assert_allclose(found.variance, within, rtol=1e-5)
    assert found.attrs["functional_variance"] == pytest.approx(within.sum(), rel=1e-5)
    full = loss_kernel(data, normalize=False)
    np.testing.assert_allclose(
        found.variance_stderr, np.diagonal(full.coords["stderr"].values), rtol=1e-3
    )


@pytest.mark.parametrize("chains", [2, 8])
def test_stated_errors_of_gain_and_variance_are_honest(chains):
    """Independent normal draws: the sd of 300 repeats is the stated error."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, chains, 64, 3)).astype("f4")
    found = [loss_moments(exact.probe_of(one).assign({names.INIT_LOSS: ("example", np.zeros(3))}))
             for one in x]  # fmt: skip
    every = xr.concat(found, "repeat")
    for key in ("gain", "variance"):
        spread = float(every[key].std("repeat").mean())
        stated = float(np.sqrt((every[f"{key}_stderr"] ** 2).mean()))
        assert 0.85 < stated / spread < 1.15


def test_wrong_questions_are_refused_in_words():
    for call, words in (
        (lambda: neighbours(probe(), k=40), "1 to 39"),
        (lambda: neighbours(probe(), measure="corelation"), "did you mean 'correlation'"),
        (lambda: kernel_map(probe(), modes=0), "modes=0"),
        (lambda: kernel_map(probe(), unit="word"), "'token' or 'sequence'"),
    ):
        with pytest.raises(InputError, match=words):
            call()
