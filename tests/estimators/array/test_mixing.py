"""Batched ESS, R-hat and MCSE agree with ArviZ, series by series."""

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import signal

from slt_notebook.estimators.array import mixing


def chains(rng, shape, rho):
    noise = rng.standard_normal(shape)
    return signal.lfilter([1], [1, -rho], noise, axis=1)


@pytest.mark.parametrize("count,draws", [(1, 50), (2, 7), (4, 100), (4, 101), (3, 4), (5, 333)])
def test_agrees_with_arviz(count, draws):
    rng = np.random.default_rng(count * 1000 + draws)
    x = np.concatenate(
        [chains(rng, (count, draws, 6), r) for r in (-0.7, 0.0, 0.5, 0.95, 0.999)], axis=2
    )
    x[..., 3] += 2 * np.arange(count)[:, None]  # chains that disagree
    x[..., 9] = np.round(x[..., 9])  # ties
    for ours, theirs in [
        (mixing.ess, lambda s: array_stats.ess(s, 0, 1, method="mean")),
        (mixing.rhat, lambda s: array_stats.rhat(s, 0, 1, method="rank")),
        (mixing.mcse, lambda s: array_stats.mcse(s, 0, 1, method="mean")),
    ]:
        if ours is mixing.rhat and count == 1:
            assert np.isnan(ours(x)).all()
            continue
        expected = [float(theirs(x[..., i])) for i in range(x.shape[2])]
        np.testing.assert_allclose(ours(x), expected, rtol=1e-9)


def test_slabs_change_nothing(monkeypatch):
    x = np.random.default_rng(0).standard_normal((4, 60, 33))
    whole = mixing.ess(x), mixing.rhat(x), mixing.mcse(x)
    monkeypatch.setattr(mixing, "_SLAB", 1)
    for a, b in zip(whole, (mixing.ess(x), mixing.rhat(x), mixing.mcse(x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_bad_series_touches_no_other():
    x = np.random.default_rng(0).standard_normal((4, 60, 3))
    bad = x.copy()
    bad[1, 5, 0], bad[..., 1] = np.nan, 2.5
    for f in (mixing.ess, mixing.rhat, mixing.mcse):
        assert np.isnan(f(bad)[:2]).all()
        np.testing.assert_array_equal(f(bad)[2], f(x)[2])
