"""Each closed form agrees with a simulation or with a number known from elsewhere."""

import doctest

import numpy as np
import pytest

from tests import exact


def test_docstrings():
    assert doctest.testmod(exact).failed == 0


def test_quadratic_llc_without_localization_is_half_the_dimension():
    assert exact.quadratic_llc([0.3, 2.0, 5.0, 1.0, 1.0, 4.0], 30, 0) == pytest.approx(3, rel=1e-12)
    one = exact.quadratic_llc([2.0], 30, 5)
    assert one == pytest.approx(0.5 * 60 / 65, rel=1e-12)


def test_variance_is_the_fixed_point():
    a, eps = 7.0, 0.05
    v = exact.stationary_variance(a, eps)
    assert (1 - eps * a / 2) ** 2 * v + eps == pytest.approx(v, rel=1e-12)


def test_mean_factor_against_the_sum():
    rho, n = 0.9, 37
    k = np.arange(1, n)
    assert exact.mean_factor(rho, n) == pytest.approx(
        1 + 2 * np.sum((1 - k / n) * rho**k), rel=1e-12
    )


def test_llc_and_its_error_against_simulation():
    h, nbeta, gamma, eps, steps, chains = np.array([0.1, 0.5, 2.0]), 30.0, 3.0, 0.01, 50, 4000
    precision = np.diag(nbeta * h + gamma)
    rng = np.random.default_rng(0)
    start = rng.standard_normal((chains, 3)) @ np.sqrt(exact.position_covariance(precision, eps))
    w = exact.sgld_linear(precision, eps, steps, chains, rng, start)
    means = (nbeta / 2 * (w**2 @ h)).mean(1)
    error = exact.quadratic_llc_error(h, nbeta, gamma, eps, steps, 1)
    assert abs(means.mean() - exact.quadratic_llc(h, nbeta, gamma, eps)) < 4 * error / chains**0.5
    assert means.std() == pytest.approx(error, rel=0.08)  # sd of an sd from 4000 skewed values


def test_loss_covariance_against_direct_draws():
    x, y, w = exact.regression(rows=6, dim=3)
    s = exact.position_covariance(exact.regression_precision(x, 6, 1.0))
    draws = w + np.random.default_rng(0).multivariate_normal(np.zeros(3), s, 400_000)
    losses = (y - draws @ x.T) ** 2 / 2
    expected = exact.loss_covariance(x, y - x @ w, s)
    np.testing.assert_allclose(np.cov(losses.T), expected, atol=0.02 * np.diag(expected).max())


def test_localization_share_of_a_flat_loss_is_one():
    assert exact.localization_share([1e-9], 30, 5) == pytest.approx(1, rel=1e-6)
    assert exact.localization_share([1.0], 30, 5) == pytest.approx(5 / 35, rel=1e-12)
