"""Agreement of a kernel with known groups of examples, or with another similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from slt_notebook.errors import InputError, say


def separation(kernel: Any, labels: Any) -> pd.Series:
    """Return how well a kernel separates groups of examples.

    Args:
        kernel: Square array or DataArray, such as `slt.loss_kernel(run)`.
        labels: One label per example.

    Returns:
        Series: `within`, `cross` (mean entry of pairs of one group, of two groups), `within_sq`,
        `cross_sq` (means of squares), `ratio` of those two, `nearest` (share of examples whose
        nearest other by |entry| is of their group), `nearest_signed` (by entry), `auc` (the
        probability that a pair of one group has the larger square).  `nearest` has the binomial
        error `nearest_error`; the means have none, since pairs share examples: take it from
        `group_influence(..., sign="kernel")`.

    Raises:
        InputError: Not square, not finite, another number of labels, or one group only.

    >>> kernel = np.kron(np.eye(2) + 0.1, np.ones((2, 2)))
    >>> float(separation(kernel, ["a", "a", "b", "b"])["auc"])
    1.0
    """
    r, labels = square(kernel), np.asarray(labels)
    if labels.shape != (len(r),):
        raise InputError(say(f"{labels.shape} labels", f"{len(r)}", "pass one per example"))
    if len(np.unique(labels)) < 2:
        raise InputError(say("one group", "two or more", "pass labels that differ"))
    upper = np.triu_indices(len(r), 1)
    same = (labels[:, None] == labels)[upper]
    flat = r[upper]
    size = np.abs(r)
    np.fill_diagonal(size, -1)
    signed = r.copy()
    np.fill_diagonal(signed, -np.inf)
    near = float((labels[size.argmax(1)] == labels).mean())
    ranks = stats.rankdata(flat**2)
    n = int(same.sum())
    auc = (
        (ranks[same].sum() - n * (n + 1) / 2) / (n * (len(flat) - n))
        if 0 < n < len(flat)
        else np.nan
    )
    return pd.Series(
        {
            "within": flat[same].mean(),
            "cross": flat[~same].mean(),
            "within_sq": (flat[same] ** 2).mean(),
            "cross_sq": (flat[~same] ** 2).mean(),
            "ratio": (flat[same] ** 2).mean() / (flat[~same] ** 2).mean(),
            "nearest": near,
            "nearest_error": np.sqrt(near * (1 - near) / len(r)),
            "nearest_signed": float((labels[signed.argmax(1)] == labels).mean()),
            "auc": float(auc),
        }
    )


def mantel(kernel: Any, similarity: Any, *, permutations: int = 999, seed: int = 0) -> pd.Series:
    """Return the rank correlation of two matrices over pairs, with its permutation p value.

    Pairs that share an example are not independent.  Permuting the *examples* of one matrix keeps
    that dependence; the p value of a plain rank test would be far too small.

    Args:
        kernel: Square array or DataArray.
        similarity: Another one of the same examples.
        permutations: Of the examples.
        seed: Of the permutations.

    Returns:
        Series `rho` (Spearman over pairs), `p` (one-sided: as large by chance), `null_sd`,
        `pairs`.

    Raises:
        InputError: Not square, of different size, not finite, or all pairs equal.

    References: Mantel 1967, Cancer Research 27.
    """
    a, b = square(kernel), square(similarity)
    if a.shape != b.shape:
        raise InputError(say(f"{len(a)} and {len(b)} examples", "as many", "align them first"))
    upper = np.triu_indices(len(a), 1)
    if np.ptp(a[upper]) == 0 or np.ptp(b[upper]) == 0:
        got = "a matrix whose pairs are all equal"
        raise InputError(say(got, "entries that differ", "pass matrices that vary"))
    ranks = np.zeros_like(a)
    ranks[upper] = stats.rankdata(a[upper])
    ranks += ranks.T
    other = stats.rankdata(b[upper])
    other = (other - other.mean()) / other.std()
    rng = np.random.default_rng(seed)

    def rho(order: np.ndarray) -> float:
        x = ranks[np.ix_(order, order)][upper]
        return float(((x - x.mean()) / x.std() * other).mean())

    found = rho(np.arange(len(a)))
    null = np.array([rho(rng.permutation(len(a))) for _ in range(permutations)])
    return pd.Series(
        {
            "rho": found,
            "p": (1 + int((null >= found).sum())) / (1 + permutations),
            "null_sd": float(null.std()),
            "pairs": len(other),
        }
    )


def square(matrix: Any) -> np.ndarray:
    """Return `matrix` as a float64 copy.

    Raises:
        InputError: Not square, smaller than 3, or not finite.
    """
    found = np.array(getattr(matrix, "values", matrix), np.float64)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or len(found) < 3:
        raise InputError(say(f"shape {found.shape}", "a square of 3 or more", "pass a kernel"))
    if not np.isfinite(found).all():
        raise InputError(say("entries that are not finite", "numbers", "drop those examples"))
    return found
