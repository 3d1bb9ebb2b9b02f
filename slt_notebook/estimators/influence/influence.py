"""The Bayesian influence function (BIF): minus the posterior covariance of two losses."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.estimators.array import moments
from slt_notebook.estimators.deprecated import CENTERING, renamed
from slt_notebook.estimators.influence.covariance import Sides
from slt_notebook.estimators.influence.top_sources import top_sources
from slt_notebook.results.result import resolve
from slt_notebook.results.selection import pick

__all__ = ["influence", "top_sources"]

SIGN = "negative = helpful: more weight on the column lowers the row's expected loss"


@renamed(**CENTERING)
def influence(
    run: Any,
    *,
    query: Any = None,
    train: Any = None,
    unit: str = "token",
    normalize: bool = False,
    centering: str = "within",
    stderr: bool = True,
    dtype: str = "float32",
    max_bytes: int = 4 * 2**30,
    out: str | os.PathLike | None = None,
) -> xr.Dataset:
    """Return the Bayesian influence of every training loss on every query loss.

        influence(q, t) = -Cov(l_q, l_t)        over draws from the local posterior

    and with `normalize=True` minus the posterior correlation, `-Corr(l_q, l_t)`.  The sign is the
    same for both: **negative = helpful** (a larger weight on t lowers the expected loss of q).
    Under the tempered posterior `exp(-nbeta L)` the derivative of E[l_q] by the weight of t in the
    mean loss is `nbeta` times this covariance; rankings and correlations do not need the factor.

    With `unit="sequence"` the loss of a sequence is the **sum** over its tokens (padding skipped),
    so that the covariance is the double sum of the token one.

    Args:
        run: A run, or a probe Dataset.
        query: Rows: a probe's name, example ids, or a (part of a) probe; the only probe if None.
        train: Columns, in the same way.
        unit: What a row or column is: "token" or "sequence".  Array probes have examples only.
        normalize: Minus the correlation instead of minus the covariance.
        centering: "within" subtracts the mean of each chain; "pool" subtracts the mean over all
            chains, so that differences between the means of chains count as covariance.
        stderr: Also the Monte Carlo standard error, from the spread between chains (3 or more) or
            between batches of successive draws.
        dtype: Of the result, "float32" or "float64".  Means are subtracted in float64.
        max_bytes: Raise an error if more memory than this is needed.
        out: A new Zarr store to write the result to, one query example at a time.

    Returns:
        Dataset `influence(example[, token], example_[, token_])`: rows are queries, columns
        (with the underscore) are training losses; `stderr` with the same dims.  NaN where a token
        is padding; 0 where one of the two losses is constant (their number is
        attrs["zero_variance"]).  Units: nat^2, or none with `normalize`.

    Raises:
        InputError: Unknown names or options, or a result larger than `max_bytes`.
        Diverged: No chain with two finite draws.

    References: Kreer et al. 2025 (arXiv:2509.26544); over training: Lee et al. 2025
    (arXiv:2510.12071).

    >>> loss = [[[1.0, 2.0], [2.0, 1.0], [3.0, 0.0]]]
    >>> probe = xr.Dataset({"loss": (("chain", "draw", "example"), loss)})
    >>> influence(probe, stderr=False)["influence"].values
    array([[-1.,  1.],
           [ 1., -1.]], dtype=float32)
    """
    result = resolve(run)
    rows = pick(result, query)
    named = isinstance(train, str) and isinstance(query, str)
    same = (train is None and query is None) or (named and train == query)
    columns = rows if same else pick(result, train)
    side = Sides(result, rows, columns, unit, centering, np.dtype(dtype))
    side.check_memory(max_bytes, (1 + stderr) if out is None else 0)
    a, b = side.traces()
    if normalize:
        a = moments.standardized(a)
        b = a if same else moments.standardized(b)
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
    return side.dataset(*moments.matrix(a, b, **options), attrs, "influence")
