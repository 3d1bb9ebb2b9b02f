"""The influence of a posterior that is a mixture of two phases, from each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.array import moments
from slt_notebook.estimators.deprecated import UNIT, renamed
from slt_notebook.estimators.losses import gather
from slt_notebook.results.result import resolve
from slt_notebook.results.selection import pick, result_dims


@renamed(**UNIT)
def phase_mixture(
    first: Any,
    second: Any,
    weights: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0),
    *,
    probe: Any = None,
    unit: str = "sequence",
) -> xr.Dataset:
    """Return the influence of a posterior of two phases, predicted from each phase.

        Cov = pi Cov_U + (1 - pi) Cov_V + pi (1 - pi) (mu_U - mu_V)(mu_U - mu_V)'

    for `p = pi p_U + (1 - pi) p_V`.  The last term is large where the mean losses of the phases
    differ for both examples, and largest at pi = 1/2: influence peaks at a transition, and changes
    sign where the terms have opposite signs.

    Args:
        first: Run in the phase U.
        second: Run in the phase V, with the same probe.
        weights: pi, the share of the first.
        probe: As in `loss_kernel`.
        unit: As in `loss_kernel`.

    Returns:
        Dataset over (weight, example, example_): `influence = within + between`, each with a minus
        sign (negative = helpful), nats^2; `gap(example) = mu_U - mu_V`.  No standard error is
        given; `slt.influence` gives those of the two phases.

    Raises:
        InputError: Other examples in the two, or weights outside 0 to 1.

    References: Lee et al. 2025 (arXiv:2510.12071), section 2.3.
    """
    pi = np.asarray(weights, float)
    if pi.ndim != 1 or not len(pi) or (pi < 0).any() or (pi > 1).any():
        raise InputError(say(f"weights={weights}", "numbers from 0 to 1", "pass [0, 0.5, 1]"))
    parts = []
    for run in (first, second):
        result = resolve(run)
        data = pick(result, probe)
        raw = gather(data[names.LOSS], unit=unit, skip=result.diverged)
        traces = moments.centre(raw, dtype=np.float64)
        parts.append(
            (data, raw.x.mean(0, dtype=np.float64), traces.z.T @ traces.z / traces.freedom)
        )
    dims, coords, sizes = result_dims(parts[0][0], unit)
    same = [str(e) for e in parts[1][0][names.EXAMPLE].values]
    if [str(e) for e in parts[0][0][names.EXAMPLE].values] != same:
        raise InputError(say("two probes", "the same examples in both", "sample one probe in both"))
    _, columns, wide = result_dims(parts[0][0], unit, "_")
    gap = parts[0][1] - parts[1][1]
    p = pi[:, None, None]
    within = p * parts[0][2] + (1 - p) * parts[1][2]
    between = p * (1 - p) * np.outer(gap, gap)
    shape = (len(pi), *sizes.values(), *wide.values())
    over = ("weight", *sizes, *wide)
    found = {"influence": within + between, "within": within, "between": between}
    return xr.Dataset(
        {k: (over, -v.reshape(shape)) for k, v in found.items()}
        | {"gap": (dims, gap.reshape(tuple(sizes.values())))},
        {**coords, **columns, "weight": pi},
        {names.A_SIGN: "negative = helpful", names.A_SOURCE: "arXiv:2510.12071"},
    )
