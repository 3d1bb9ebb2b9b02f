"""The loss kernel: posterior covariances of losses, the influence with a plus sign."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.estimators.array import moments
from slt_notebook.estimators.deprecated import CENTERING, renamed
from slt_notebook.estimators.influence.covariance import Sides
from slt_notebook.results.result import resolve
from slt_notebook.results.selection import pick


@renamed(**CENTERING)
def loss_kernel(
    run: Any,
    *,
    probe: Any = None,
    normalize: bool = True,
    unit: str = "sequence",
    centering: str = "within",
    stderr: bool = True,
    dtype: str = "float32",
    max_bytes: int = 4 * 2**30,
) -> xr.DataArray:
    """Return the loss kernel of a probe, `K(x, x') = Cov(l(x), l(x'))` over the local posterior.

    With `normalize=True`, `R(x, x') = K(x, x') / sqrt(K(x, x) K(x', x'))`, set to 0 where one of
    the two variances is 0; R does not change under affine changes of the loss.  K is minus the
    Bayesian influence, symmetric and positive semidefinite of rank at most draws - chains.

    Args:
        run: A run, or a probe Dataset.
        probe: A probe's name, example ids, or a (part of a) probe; the only probe if None.
        normalize: R instead of K.
        unit: "sequence" (losses summed over tokens) or "token".
        centering: As in `influence`.
        stderr: As in `influence`.
        dtype: As in `influence`.
        max_bytes: As in `influence`.

    Returns:
        DataArray `(example[, token], example_[, token_])` named "kernel", with the Monte Carlo
        standard error as the coordinate `stderr`.  NaN at padding.

    Raises:
        InputError: Unknown names or options, or a result larger than `max_bytes`.
        Diverged: No chain with two finite draws.

    References: Adam et al. 2025 (arXiv:2509.26537).

    >>> loss = [[[1.0, 2.0], [2.0, 0.0], [3.0, -2.0]]]
    >>> probe = xr.Dataset({"loss": (("chain", "draw", "example"), loss)})
    >>> loss_kernel(probe, stderr=False).values
    array([[ 1., -1.],
           [-1.,  1.]], dtype=float32)
    """
    result = resolve(run)
    data = pick(result, probe)
    side = Sides(result, data, data, unit, centering, np.dtype(dtype))
    side.check_memory(max_bytes, 1 + stderr)
    traces, _ = side.traces()
    traces = moments.standardized(traces) if normalize else traces
    formula = "Corr(l(x), l(x'))" if normalize else "Cov(l(x), l(x'))"
    attrs = side.attrs(traces, traces, normalize, formula)
    attrs |= {
        names.A_SIGN: "positive = alike: the two losses rise and fall together",
        names.A_SOURCE: "arXiv:2509.26537",
    }
    value, error = moments.matrix(traces, traces, correlation=normalize, errors=stderr)
    found = side.dataset(value, error, attrs, "kernel")
    return found["kernel"].assign_coords(stderr=found["stderr"]) if stderr else found["kernel"]
