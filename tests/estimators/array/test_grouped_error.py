"""Grouped standard errors against the formulas written out, group by group."""

import itertools

import numpy as np
import pytest

from slt_notebook.estimators.array.grouped_error import (
    correlation_deviations,
    covariance_deviations,
    draw_groups,
    grouped_error,
)
from slt_notebook.estimators.array.moments import Raw, block, centre, standardized


def traces(chains, draws=40, series=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((chains * draws, series)) @ rng.standard_normal((series, series))
    where = np.repeat(np.arange(chains), draws)
    return centre(Raw(x, where, np.tile(np.arange(draws), chains)), dtype=np.float64)


@pytest.mark.parametrize("chains", [1, 2, 4])
@pytest.mark.parametrize("correlation", [False, True])
def test_block_is_the_formula(chains, correlation):
    t = standardized(traces(chains)) if correlation else traces(chains)
    whole = t.z.T @ t.z / t.freedom
    total = 0
    for g in t.groups:
        m = t.z[g].T @ t.z[g] / t.freedom
        v = np.diag(m)
        away = (
            whole * (v[:, None] + v[None, :]) / 2
            if correlation
            else whole * (g.stop - g.start) / len(t.z)
        )
        total = total + (m - away) ** 2
    number = len(t.groups)
    every = slice(None)
    value, error = block(t, t, every, every, correlation=correlation, errors=True)
    np.testing.assert_allclose(value, whole, rtol=1e-12)
    np.testing.assert_allclose(error, np.sqrt(number / (number - 1) * total), 1e-9, 1e-14)


def test_of_equal_groups_of_independent_values_it_is_the_error_of_their_mean():
    means = np.random.default_rng(0).standard_normal((6, 3))
    whole = means.mean(0)
    found = grouped_error(covariance_deviations(means / 6, [1 / 6] * 6, whole))
    np.testing.assert_allclose(found, means.std(0, ddof=1) / np.sqrt(6), rtol=1e-12)


def test_one_group_has_no_error_and_a_perfect_correlation_none_either():
    assert np.isnan(grouped_error([np.ones(2)])).all()
    shares = np.array([[0.25], [0.75]])  # a series with itself: m_g = v_g, r = 1
    found = grouped_error(correlation_deviations(shares.copy(), shares, shares, shares.sum(0)))
    np.testing.assert_allclose(found, 0, atol=1e-15)


@pytest.mark.parametrize("lengths", [[7], [160], [400], [15, 33], [9, 9, 9], [2, 50, 3, 4]])
def test_groups_cover_all_draws_within_chains(lengths):
    groups = draw_groups(lengths)
    assert groups[0].start == 0 and groups[-1].stop == sum(lengths)
    assert all(a.stop == b.start for a, b in itertools.pairwise(groups))
    ends = {g.stop for g in groups}
    assert set(np.cumsum(lengths)) <= ends
    assert len(groups) >= 2 and (len(lengths) < 3 or len(groups) == len(lengths))
