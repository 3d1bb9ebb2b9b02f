"""Separation and the Mantel test against a naive loop; the test keeps its level."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from slt_notebook.errors import InputError
from slt_notebook.estimators.kernel.alignment import mantel, separation


def matrix(seed=0, count=30, strength=0.5):
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    noise = rng.standard_normal((count, count)) / 4
    r = strength * (label[:, None] == label) + (noise + noise.T) / 2
    np.fill_diagonal(r, 1)
    return r, label


def test_separation_against_a_loop():
    r, label = matrix()
    found = separation(r, label)
    pairs = [(i, j) for i in range(30) for j in range(i)]
    same = np.array([label[i] == label[j] for i, j in pairs])
    entry = np.array([r[i, j] for i, j in pairs])
    assert found["within"] == pytest.approx(entry[same].mean())
    assert found["cross_sq"] == pytest.approx((entry[~same] ** 2).mean())
    assert found["auc"] == pytest.approx(roc_auc_score(same, entry**2))
    nearest = [max((j for j in range(30) if j != i), key=lambda j: abs(r[i, j])) for i in range(30)]
    assert found["nearest"] == np.mean([label[i] == label[j] for i, j in enumerate(nearest)])


def test_mantel_is_spearman_with_an_honest_p():
    r, label = matrix()
    like = (label[:, None] == label).astype(float)
    upper = np.triu_indices(30, 1)
    found = mantel(r, like, permutations=199)
    assert found["rho"] == pytest.approx(stats.spearmanr(r[upper], like[upper])[0])
    assert found["p"] == 1 / 200
    # Under the null the p value is uniform, although pairs share examples.
    rng = np.random.default_rng(0)
    ps = []
    for _ in range(120):
        effect = rng.standard_normal(20)
        a = np.add.outer(effect, effect) + rng.standard_normal((20, 20))
        b = np.add.outer(*[rng.standard_normal(20)] * 2)
        ps.append(mantel(a + a.T, b, permutations=49)["p"])
    assert stats.kstest(ps, "uniform").pvalue > 1e-3


def test_mistakes_are_refused():
    r, label = matrix()
    for call in (
        lambda: separation(r[:4], label[:4]),
        lambda: separation(r, label[:-1]),
        lambda: separation(r, np.zeros(30)),
        lambda: mantel(r, r[:-1, :-1]),
        lambda: mantel(r, np.eye(30)),
        lambda: mantel(np.where(r == 1, np.nan, r), r),
    ):
        with pytest.raises(InputError):
            call()
