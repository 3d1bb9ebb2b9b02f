"""Is a kernel larger between examples that a hierarchy holds nearer?  By depth, by neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from slt_notebook.errors import InputError, say
from slt_notebook.estimators.kernel.alignment import square


def by_depth(kernel: Any, depth: Any) -> pd.DataFrame:
    """Mean entry of the pairs whose lowest common ancestor has each depth.

    Args:
        kernel: square array or DataArray.
        depth: square integers: depth of the lowest common ancestor of each pair.

    Returns:
        Table indexed by `depth`: `mean`, `stderr` (jackknife over examples, since pairs share
        them; NaN where some example is in every pair) and `pairs`.

    Raises:
        InputError: not square, not finite, or of different size.
    """
    r, levels = square(kernel), square(depth)
    if r.shape != levels.shape:
        raise InputError(say(f"{len(r)} and {len(levels)} examples", "as many", "align them"))
    off = ~np.eye(len(r), dtype=bool)
    rows = {}
    for level in np.unique(levels[off]):
        mask = (levels == level) & off
        total, count = (r * mask).sum() / 2, mask.sum() / 2
        left, pairs = total - (r * mask).sum(1), count - mask.sum(1)
        taken = mask.any(1)
        n = int(taken.sum())
        error = np.nan
        if n > 2 and (pairs[taken] > 0).all():
            without = left[taken] / pairs[taken]
            error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
        rows[int(level)] = {"mean": total / count, "stderr": error, "pairs": int(count)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("depth")


def neighbour_purity(
    kernel: Any, labels: Any, *, k: int = 3, permutations: int = 999, seed: int = 0
) -> pd.Series:
    """Share of the `k` nearest others (largest entries) that have an example's own label.

    Args:
        kernel: square array or DataArray.
        labels: one an example.
        k: neighbours; an example is none of its own.
        permutations: relabellings of the examples, for `chance` and `p`.

    Returns:
        Series `purity`, `chance` (mean over relabellings), `null_sd`, `p` (one-sided).

    Raises:
        InputError: not square, not finite, another number of labels, or a `k` that is too large.
    """
    r, labels = square(kernel), np.asarray(labels)
    if labels.shape != (len(r),):
        raise InputError(say(f"{labels.shape} labels", f"{len(r)}", "pass one an example"))
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
