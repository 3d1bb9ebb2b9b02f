"""Which training tokens push a query's loss down?  The Bayesian influence function (BIF).

Neighbours: `kernel` (the same covariances with a plus sign, as geometry), `sources` (the top of
one row, streamed), `_moments` (the arithmetic).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.estimators.array import moments as _moments
from slt_notebook.estimators.influence.covariance import Sides
from slt_notebook.estimators.influence.top_sources import top_sources
from slt_notebook.results import selection as _pick

__all__ = ["influence", "top_sources"]

SIGN = "negative = helpful: more weight on the column lowers the row's expected loss"


def influence(
    run: Any,
    *,
    query: Any = None,
    train: Any = None,
    level: str = "token",
    normalize: bool = False,
    chains: str = "within",
    stderr: bool = True,
    dtype: str = "float32",
    max_bytes: int = 4 * 2**30,
    out: str | os.PathLike | None = None,
) -> xr.Dataset:
    """The Bayesian influence of every training loss on every query loss.

        influence(q, t) = -Cov(l_q, l_t)        over draws from the local posterior

    and with `normalize=True` minus the posterior correlation, `-Corr(l_q, l_t)`.  The sign is the
    same for both: **negative = helpful** (a larger weight on t lowers the expected loss of q).
    Under the tempered posterior `exp(-nbeta L)` the derivative of E[l_q] by the weight of t in the
    mean loss is `nbeta` times this covariance; rankings and correlations do not need the factor.

    At `level="sequence"` the loss of a sequence is the **sum** over its tokens (padding skipped),
    so that the covariance is the double sum of the token one.

    Args:
        run: A run, or a probe Dataset.
        query: Rows: a probe's name, example ids, or a (part of a) probe; the only probe if None.
        train: Columns, in the same way.
        level: "token" or "sequence".  Array probes have examples only.
        normalize: Minus the correlation instead of minus the covariance.
        chains: "within" centres each chain by itself; "pool" takes differences between the means
            of chains for covariance.
        stderr: Also the Monte Carlo standard error, from the spread between chains (3 or more) or
            between batches of successive draws.
        dtype: Of the result.  Centring is done in float64 whatever it is.
        max_bytes: Refuse to need more memory than this.
        out: A new Zarr path to write the result to instead, one query example at a time.

    Returns:
        Dataset `influence(example[, token], example_[, token_])`: rows are queries, columns
        (with the underscore) are training losses; `stderr` with the same dims.  NaN where a token
        is padding; 0 where one of the two losses does not vary at all (counted in
        attrs["zero_variance"]).  Units: nat^2, or none with `normalize`.

    Raises:
        InputError: Unknown names or options, or a result larger than `max_bytes`.
        Diverged: No chain with two finite draws.

    References: Kreer et al. 2025 (arXiv:2509.26544); over training: Lee et al. 2025
    (arXiv:2510.12071).
    """
    rows = _pick.pick(run, query)
    named = isinstance(train, str) and isinstance(query, str)
    same = (train is None and query is None) or (named and train == query)
    columns = rows if same else _pick.pick(run, train)
    side = Sides(run, rows, columns, _pick.check_level(level), chains, np.dtype(dtype))
    side.check_memory(max_bytes, (1 + stderr) if out is None else 0)
    a, b = side.traces()
    if normalize:
        a = _moments.standardised(a)
        b = a if same else _moments.standardised(b)
    attrs = side.attrs(a, b, normalize, "-Corr(l_q, l_t)" if normalize else "-Cov(l_q, l_t)")
    attrs |= {
        names.A_SIGN: SIGN,
        names.A_SOURCE: "arXiv:2509.26544",
        "rows": "query (example, token)",
        "columns": "train (example_, token_)",
    }
    options = {"sign": -1.0, "correlation": normalize, "errors": stderr}
    if out is not None:
        return side.write(out, a, b, attrs, "influence", options)
    return side.dataset(*_moments.matrix(a, b, **options), attrs, "influence")
