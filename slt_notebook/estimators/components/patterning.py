"""Patterning: weights of the data that change observables in a wanted direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook.errors import InputError, nearest, say

TRUST, WARN = 0.25, 0.7
"""Largest relative change of a weight up to which the linear prediction holds to a few per cent,
and from which it misleads: measured on Bayesian linear regression (see the test)."""


def patterning(
    chi: xr.DataArray,
    target: Mapping[str, float] | Any,
    *,
    nbeta: float,
    strength: float | None = None,
    clip: bool = False,
) -> xr.Dataset:
    """Return weights of the data that change observables by `strength * target`, to first order.

        d mu = nbeta chi dp,    p = p0 + strength / nbeta chi^+ target,    chi^+ = chi'(chi chi')^-1

    with chi_kj = -Cov(phi_k, l_j - L) and p0 = 1/n: the smallest such change of weights.
    The rows of chi are centred over the data, so that the weights still sum to one.

    Args:
        chi: `(observable, example)`, the susceptibilities of observables to single examples.
        target: The wanted direction of change, one number per observable.
        nbeta: Of the posterior.
        strength: How far; the largest for which no weight changes by more than a quarter if None.
        clip: Set negative weights to 0 in place of an error; the prediction does not hold then.

    Returns:
        Dataset `weight(example)` (mean 1/n), `predicted(observable)`, and attrs `strength`,
        `largest_change` (relative), `trusted_up_to`, `verdict` ("trusted", "rough", "misleading").

    Raises:
        InputError: Observables that are missing or depend linearly on each other, negative weights.

    References: Patterning, 2026 (arXiv:2601.13548).

    >>> chi = xr.DataArray([[1.0, -1.0, 0.0, 0.0]], dims=("observable", "example"))
    >>> patterning(chi, [1.0], nbeta=1.0, strength=0.1)["weight"].values
    array([0.3 , 0.2 , 0.25, 0.25])
    """
    if chi.ndim != 2:
        raise InputError(say(f"dims {chi.dims}", "(observable, example)", "select and stack"))
    row, column = map(str, chi.dims)
    if isinstance(target, Mapping):
        known = [str(v) for v in chi[row].values]
        wrong = [k for k in target if k not in known]
        if wrong:
            raise InputError(
                say(f"{wrong[0]!r}{nearest(wrong[0], known)}", f"one of {known}", "name one")
            )
        wanted = np.array([float(target.get(k, 0.0)) for k in known])
    else:
        wanted = np.asarray(target, float)
    x = chi.values.astype(float)
    if wanted.shape != (len(x),) or not np.isfinite(x).all():
        raise InputError(
            say(
                f"a target of shape {wanted.shape}",
                f"({len(x)},) finite numbers",
                "pass one per observable",
            )
        )
    x = x - x.mean(1, keepdims=True)
    gram = x @ x.T
    if np.linalg.matrix_rank(gram, tol=1e-10 * np.trace(gram)) < len(x):
        raise InputError(
            say(
                "observables that depend linearly on each other",
                "independent rows of chi",
                "leave one of them out",
            )
        )
    step = x.T @ np.linalg.solve(gram, wanted) / nbeta
    count = x.shape[1]
    trusted = TRUST / float(abs(step * count).max())
    used = trusted if strength is None else float(strength)
    weight = 1 / count + used * step
    largest = float(abs(used * step * count).max())
    if (weight < 0).any():
        if not clip:
            raise InputError(
                say(
                    f"strength={used:g}, which makes {int((weight < 0).sum())} weights negative",
                    f"at most {1 / float((-step * count).max()):.3g}",
                    "lower it, or pass clip=True and retrain to see what really happens",
                )
            )
        weight = np.maximum(weight, 0)
        weight /= weight.sum()
    verdict = (
        "trusted" if largest <= TRUST * 1.0001 else "rough" if largest <= WARN else "misleading"
    )
    return xr.Dataset(
        {
            "weight": (column, weight),
            "predicted": (row, nbeta * x @ (weight - 1 / count)),
        },
        {k: chi[k] for k in (row, column) if k in chi.coords},
        {
            "strength": used, "largest_change": largest, "trusted_up_to": trusted,
            "verdict": verdict, "formula": "p0 + strength / nbeta chi^+ target",
            "source": "arXiv:2601.13548",
        },
    )  # fmt: skip
