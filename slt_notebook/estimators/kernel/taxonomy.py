"""Agreement of a kernel with a hierarchy of examples: by depth, and among neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from slt_notebook.errors import InputError, say
from slt_notebook.estimators.kernel.alignment import square


def by_depth(kernel: Any, depth: Any) -> pd.DataFrame:
    """Return the mean entry of the pairs by the depth of their lowest common ancestor.

    Args:
        kernel: Square array or DataArray.
        depth: Square integers: depth of the lowest common ancestor of each pair.

    Returns:
        Table indexed by `depth`: `mean`, `stderr` (jackknife over examples, since pairs share
        them; NaN where some example is in every pair) and `pairs`.

    Raises:
        InputError: Not square, not finite, or of different size.

    >>> by_depth(np.eye(3) + 0.5, [[2, 1, 0], [1, 2, 0], [0, 0, 2]])["mean"].tolist()
    [0.5, 0.5]
    """
    r, depths = square(kernel), square(depth)
    if r.shape != depths.shape:
        raise InputError(say(f"{len(r)} and {len(depths)} examples", "as many", "align them"))
    off = ~np.eye(len(r), dtype=bool)
    rows = {}
    for value in np.unique(depths[off]):
        mask = (depths == value) & off
        total, count = (r * mask).sum() / 2, mask.sum() / 2
        left, pairs = total - (r * mask).sum(1), count - mask.sum(1)
        taken = mask.any(1)
        n = int(taken.sum())
        error = np.nan
        if n > 2 and (pairs[taken] > 0).all():
            without = left[taken] / pairs[taken]
            error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
        rows[int(value)] = {"mean": total / count, "stderr": error, "pairs": int(count)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("depth")


def neighbour_purity(
    kernel: Any, labels: Any, *, k: int = 3, permutations: int = 999, seed: int = 0
) -> pd.Series:
    """Return the share of the `k` nearest others (largest entries) with the label of an example.

    Args:
        kernel: Square array or DataArray.
        labels: One label per example.
        k: Number of neighbours; an example is not its own.
        permutations: Of the labels, for `chance` and `p`.
        seed: Of the permutations.

    Returns:
        Series `purity`, `chance` (mean over permutations), `null_sd`, `p` (one-sided).

    Raises:
        InputError: Not square, not finite, another number of labels, or a `k` that is too large.

    >>> kernel = np.kron(np.eye(2), np.ones((2, 2)))
    >>> float(neighbour_purity(kernel, ["a", "a", "b", "b"], k=1)["purity"])
    1.0
    """
    r, labels = square(kernel), np.asarray(labels)
    if labels.shape != (len(r),):
        raise InputError(say(f"{labels.shape} labels", f"{len(r)}", "pass one per example"))
    if not 1 <= k < len(r):
        raise InputError(say(f"k={k}", f"1 to {len(r) - 1}", "pass k=3"))
    np.fill_diagonal(r, -np.inf)
    near = np.argsort(-r, axis=1, kind="stable")[:, :k]
    share = lambda named: float((named[near] == named[:, None]).mean())
    found = share(labels)
    rng = np.random.default_rng(seed)
    null = np.array([share(rng.permutation(labels)) for _ in range(permutations)])
    return pd.Series(
        {
            "purity": found,
            "chance": float(null.mean()),
            "null_sd": float(null.std()),
            "p": (1 + int((null >= found).sum())) / (1 + permutations),
        }
    )
