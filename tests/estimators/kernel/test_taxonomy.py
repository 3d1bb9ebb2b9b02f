"""Means by depth and neighbour purity find a planted hierarchy, and nothing in noise."""

import numpy as np
import pytest
from scipy import stats

import slt_notebook as slt


def planted(strength, seed=0, count=24):
    """Two branches of two twigs of six leaves; entries grow by `strength` with each level."""
    rng = np.random.default_rng(seed)
    twig = np.arange(count) // (count // 4)
    branch = twig // 2
    depth = (branch[:, None] == branch).astype(int) + (twig[:, None] == twig)
    noise = rng.standard_normal((count, count)) / 4
    r = strength * depth + (noise + noise.T) / 2
    np.fill_diagonal(r, 1)
    return r, depth, twig


def test_means_by_depth_against_a_loop():
    r, depth, _ = planted(0.3)
    found = slt.by_depth(r, depth)
    for level in (0, 1, 2):
        pairs = [(i, j) for i in range(24) for j in range(i) if depth[i, j] == level]
        assert found.loc[level, "pairs"] == len(pairs)
        assert found.loc[level, "mean"] == pytest.approx(np.mean([r[p] for p in pairs]))
        without = [np.mean([r[p] for p in pairs if i not in p]) for i in range(24)]
        error = np.sqrt(23 / 24 * ((without - np.mean(without)) ** 2).sum())
        assert found.loc[level, "stderr"] == pytest.approx(error)
        assert abs(found.loc[level, "mean"] - 0.3 * level) < 5 * found.loc[level, "stderr"]


def test_one_pair_has_no_error():
    found = slt.by_depth(np.eye(3), [[2, 1, 0], [1, 2, 0], [0, 0, 2]])
    assert np.isnan(found.loc[1, "stderr"]) and found.loc[1, "pairs"] == 1


def test_purity_finds_what_was_planted():
    r, depth, twig = planted(0.5)
    found = slt.neighbour_purity(r, twig, k=3, permutations=199)
    top = [sorted((j for j in range(24) if j != i), key=lambda j: -r[i, j])[:3] for i in range(24)]
    assert found["purity"] == pytest.approx(
        np.mean([twig[t] == twig[i] for i, t in enumerate(top)])
    )
    assert abs(found["chance"] - 5 / 23) < 5 * found["null_sd"] / np.sqrt(199)
    assert found["p"] == 1 / 200
    assert slt.mantel(r, depth, permutations=199)["p"] == 1 / 200


def test_nothing_planted_gives_uniform_p():
    ps, ms = [], []
    for seed in range(80):
        r, depth, twig = planted(0.0, seed)
        ps.append(slt.neighbour_purity(r, twig, permutations=49, seed=seed)["p"])
        ms.append(slt.mantel(r, depth, permutations=49, seed=seed)["p"])
    # Purity takes few values, so that its p is uniform only up to ties: large ones are too common.
    assert stats.kstest(ms, "uniform").pvalue > 1e-3
    assert stats.binomtest(sum(p <= 0.1 for p in ps), 80, 0.1, alternative="greater").pvalue > 1e-3


def test_mistakes_are_refused():
    r, depth, twig = planted(0.3)
    for call in (
        lambda: slt.by_depth(r, depth[1:, 1:]),
        lambda: slt.by_depth(r[1:], depth),
        lambda: slt.neighbour_purity(r, twig[1:]),
        lambda: slt.neighbour_purity(r, twig, k=24),
    ):
        with pytest.raises(slt.InputError):
            call()
