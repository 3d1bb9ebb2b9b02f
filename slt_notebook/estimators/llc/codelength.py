"""Singular minimum description length: the code length of a model (arXiv:2510.12077).

All logarithms are natural.
"""

from __future__ import annotations

import numpy as np

from slt_notebook.errors import InputError, say
from slt_notebook.estimators.llc.model_selection import free_energy


def redundancy(n, llc, multiplicity=1):
    """Return the nats of a two-part code beyond the entropy of the data, up to O(1).

        R_n = llc log n - (multiplicity - 1) log log n

    The first part encodes a set of parameters that n observations cannot tell apart, the second
    the data given the set.  It holds where the model class contains the truth; a regular model has
    llc = d/2 and this is Rissanen's d/2 log n.

    Args:
        n: Number of observations, more than 1.
        llc: The learning coefficient.
        multiplicity: Of the learning coefficient.

    Returns:
        Nats, of the shape that the arguments broadcast to.

    Raises:
        InputError: As `free_energy`, of which it is the value at loss 0.

    References: Urdshals et al. 2025 (arXiv:2510.12077), theorem 1.

    >>> round(float(redundancy(1000, 2.5)), 3)
    17.269
    """
    return free_energy(n, 0.0, llc, multiplicity)


def fit_volume(log_n, log_volume) -> tuple[float, float]:
    """Return (lambda, m) by least squares of `-log V(1/n)` on `log n`, `log log n` and 1.

    The log log term converges only as 1 / log n: on 1e2 .. 1e8 a multiplicity of 2 is found as
    1.7.  The multiplicity is returned as it was fitted, not rounded.

    Args:
        log_n: `[point]`, above 1 each, three or more different ones.
        log_volume: `[point]`, log V(1/n).

    Raises:
        InputError: Too few points, or n below e.

    >>> size = np.array([2.0, 4.0, 8.0])
    >>> [round(v, 6) for v in fit_volume(size, -1.5 * size)]
    [1.5, 1.0]
    """
    size, volume = np.asarray(log_n, float), np.asarray(log_volume, float)
    if size.shape != volume.shape or size.ndim != 1 or len(np.unique(size)) < 3:
        raise InputError(say(f"shapes {size.shape}, {volume.shape}", "3 points or more", "add n"))
    if not (size > 1).all():
        raise InputError(say(f"log n = {size.min():g}", "n above e", "start at n = 10"))
    columns = np.stack([size, np.log(size), np.ones_like(size)], 1)
    found = np.linalg.lstsq(columns, -volume, rcond=None)[0]
    return float(found[0]), float(1 - found[1])
