"""Mean influence between classes of examples or tokens, over pairs that pass a filter.

The mean over all pairs of two classes needs no matrix: it is a product of the summed losses of the
classes.  Pairs within one sequence, or of equal tokens, are subtracted in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy import sparse

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.estimators.array import moments
from slt_notebook.estimators.array.grouped_error import covariance_deviations, grouped_error
from slt_notebook.estimators.deprecated import UNIT, renamed
from slt_notebook.estimators.losses import gather
from slt_notebook.results.result import resolve
from slt_notebook.results.selection import pick, result_dims
from slt_notebook.results.store import read

EXCLUDE = ("same_example", "same_token")


@renamed(**UNIT)
def group_influence(
    run: Any,
    groups: Mapping[str, Any] | Any,
    *,
    probe: Any = None,
    normalize: bool = False,
    exclude: str | tuple[str, ...] = (),
    unit: str = "token",
    sign: str = "bif",
) -> xr.Dataset:
    """Return the mean influence between classes of losses, over pairs that pass a filter.

        influence(A, B) = mean over i in A, j in B, i != j of -Cov(l_i, l_j)      (or -Corr)

    Look at both over training: the covariance follows how much is left to learn, the correlation
    how much is shared.

    Args:
        run: A run, or a probe Dataset.
        groups: `{name: boolean mask}` over (example, token) or over examples, classes may overlap;
            or one label for each (an array of strings; "" belongs to no class).
        probe: As in `loss_kernel`.
        normalize: Minus the correlation instead of minus the covariance.
        exclude: "same_example" leaves out pairs within one sequence (shared context), "same_token"
            pairs of equal token ids (shared embedding); one of them or a tuple of both.
        unit: "token" or "sequence".
        sign: "bif" (negative = helpful), or "kernel" (plus the covariance; positive = alike).

    Returns:
        Dataset over (group, group_): `influence`, `stderr` (from groups of draws, as in
        `influence`), `pairs` (ordered pairs averaged over; NaN influence where there are none);
        `size(group)`.

    Raises:
        InputError: Masks of another shape, unknown names, "same_token" without tokens.
        Diverged: No chain with two finite draws.

    References: Lee et al. 2025 (arXiv:2510.12071).
    """
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    wrong = next((e for e in exclude if e not in EXCLUDE), None)
    if wrong is not None:
        known = f"of {', '.join(EXCLUDE)}"
        raise InputError(say(f"exclude={wrong!r}{nearest(wrong, EXCLUDE)}", known, "name them"))
    if sign not in ("bif", "kernel"):
        raise InputError(say(f"sign={sign!r}", "'bif' or 'kernel'", "use sign='bif'"))
    result = resolve(run)
    data = pick(result, probe)
    traces = moments.centre(gather(data[names.LOSS], unit=unit, skip=result.diverged))
    if normalize:
        traces = moments.standardized(traces)
    _, _, sizes = result_dims(data, unit)
    shape = tuple(sizes.values())
    masks = {k: m & traces.usable for k, m in _masks(groups, shape).items()}
    cells = _cells(data, shape, exclude)
    value, error, pairs = _means(traces, list(masks.values()), cells, normalize)
    flip = -1.0 if sign == "bif" else 1.0
    labels = list(masks)
    what = "Corr" if normalize else "Cov"
    attrs = {
        names.A_FORMULA: f"mean of {'-' if flip < 0 else ''}{what}(l_i, l_j) over pairs",
        names.A_SIGN: "negative = helpful" if flip < 0 else "positive = alike",
        names.A_SOURCE: "arXiv:2510.12071",
        "excluded_pairs": ", ".join(("itself", *exclude)),
        "normalized": int(normalize),
        "unit": unit,
        "chains": traces.chains,
        "draws": len(traces.z),
        "stderr_from": f"{len(traces.groups)} groups of draws",
    }
    both = ("group", "group_")
    return xr.Dataset(
        {
            "influence": (both, flip * value),
            "stderr": (both, error),
            "pairs": (both, pairs),
            "size": ("group", [int(m.sum()) for m in masks.values()]),
        },
        {"group": labels, "group_": labels},
        attrs,
    )


def _masks(groups: Any, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    if not isinstance(groups, Mapping):
        labels = np.asarray(getattr(groups, "values", groups)).astype(str)
        groups = {name: labels == name for name in dict.fromkeys(labels.ravel()) if name}
    found = {}
    for name, mask in groups.items():
        mask = np.asarray(getattr(mask, "values", mask))
        if mask.dtype != bool or mask.shape not in (shape, shape[:1]):
            raise InputError(
                say(
                    f"group {name!r}: {mask.dtype} of shape {mask.shape}",
                    f"a boolean mask of shape {shape} or {shape[:1]}",
                    "compare the probe's labels or token_id, such as probe.token_id == 13",
                )
            )
        wide = mask if mask.shape == shape else np.broadcast_to(mask[:, None], shape)
        found[str(name)] = wide.ravel()
    if not found:
        raise InputError(say("no groups", "at least one", "pass {'name': mask}"))
    return found


def _cells(
    data: xr.Dataset, shape: tuple[int, ...], exclude: tuple[str, ...]
) -> list[tuple[float, np.ndarray]]:
    """Return signed partitions of the series whose within-cell pairs add up to those left out.

    |A or B| = |A| + |B| - |A and B|; a series with itself is in every one of them.
    """
    single = np.arange(int(np.prod(shape)))
    parts = []
    if "same_example" in exclude:
        each = np.arange(shape[0])[:, None] if len(shape) == 2 else np.arange(shape[0])
        parts.append(np.broadcast_to(each, shape).ravel())
    if "same_token" in exclude:
        if names.TOKEN_ID not in data or len(shape) != 2:
            raise InputError(say("no token ids", "a text probe at token level", "drop same_token"))
        ids = read(data[names.TOKEN_ID].transpose(names.EXAMPLE, names.TOKEN))
        parts.append(np.asarray(ids).ravel())
    if not parts:
        return [(1.0, single)]
    if len(parts) == 1:
        return [(1.0, parts[0])]
    joint = parts[0].astype(np.int64) * (int(parts[1].max()) + 1) + parts[1]
    return [(1.0, parts[0]), (1.0, parts[1]), (-1.0, joint)]


def _means(
    traces: moments.Traces,
    masks: list[np.ndarray],
    cells: list[tuple[float, np.ndarray]],
    correlation: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean covariance of every two classes, its standard error, and their pairs."""
    z, freedom, spans = traces.z, traces.freedom, traces.groups
    count = len(masks)
    sums = np.zeros((len(spans), count, count))
    lost = np.zeros((len(spans), count, count))
    pairs = np.zeros((count, count))
    shares = np.stack([traces.variance_shares(s) for s in spans])
    whole = [(1.0, np.zeros(traces.series, int)), *((-weight, cell) for weight, cell in cells)]
    for weight, cell in whole:
        _, cell = np.unique(cell, return_inverse=True)
        total = int(cell.max()) + 1
        by_cell = []
        for mask in masks:
            on = np.flatnonzero(mask)
            members = sparse.csr_matrix(
                (np.ones(len(on), z.dtype), (on, cell[on])), (len(mask), total)
            )
            by_cell.append(z @ members)  # [row, cell]
        for a in range(count):
            on = np.flatnonzero(masks[a])
            sizes = np.bincount(cell[on], minlength=total)
            for b in range(count):
                other = np.bincount(cell[masks[b]], minlength=total)
                pairs[a, b] += weight * float(sizes @ other)
                for g, span in enumerate(spans):
                    part = np.einsum("ij,ij->", by_cell[a][span], by_cell[b][span], dtype="f8")
                    sums[g, a, b] += weight * part / freedom
                if correlation:
                    r = np.einsum("ij,ij->j", z[:, on], by_cell[b][:, cell[on]]) / freedom
                    lost[:, a, b] += weight * (shares[:, on] @ r) / 2
    value = sums.sum(0)
    if correlation:  # `lost` holds r v_g / 2, summed over the pairs
        error = grouped_error(sums - lost - lost.transpose(0, 2, 1))
    else:
        error = grouped_error(covariance_deviations(sums, traces.weights, value))
    pairs = np.round(pairs)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.where(pairs > 0, value / pairs, np.nan),
            np.where(pairs > 0, error / pairs, np.nan),
            pairs.astype(int),
        )
