"""Whether a setting of the grid can be trusted: its numbers, a verdict, and verdicts in words.

R-hat, ESS and drift do not see a chain that is driven by the noise of its batches: it converges and
agrees with the others, at the wrong place.  `rho_loc` above 1 and an LLC that changes with the step
show it.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError
from slt_notebook.estimators.health import checks
from slt_notebook.estimators.llc.llc import llc

BIAS = 0.05  # relative change of the LLC under half the step that is accepted
NOISE = 0.8  # of rho_loc: above it the localization is what is measured, as in `health`
HEATED = 1.3  # of the virial ratio: above it the chain is hotter than nbeta says, as in `health`
SURE, SCREENED = 0.05, 0.2
"""Largest error of the change under half the step that is accepted: where nothing follows on noisy
gradients, and where gradients are exact or a longer run confirms.  (A change that is within two
errors of none passes, so that with an error of 0.2 an LLC twice too large can pass.)"""


MEANING = {
    "unstable": "the chains diverged",
    "loss falls below w*": "the loss falls below its value at w*, which is no minimum of it",
    "dominated by batch noise": "the loss rises more than under localization alone, so the noise "
    "of the batches drives the chains (use larger batches, or a smaller nbeta)",
    "dominated by localization": "the loss rises as under localization alone, so the data have no "
    "effect (use a larger nbeta or a smaller gamma)",
    "hotter than nbeta implies": "the virial ratio is above 1.3: the noise of the batches, or too "
    "large a step, heats the chains (use larger batches, or smaller steps)",
    "still drifting": "the traces still drift (use more steps)",
    "chains disagree": "the chains disagree (use more steps)",
    "too few draws": "too few effective draws to tell (use more steps)",
    "half the step is unstable": "half the step diverged",
    "depends on the step size": "half the step gives another LLC (use larger batches)",
    "reference for next step": "",
}
"""What each verdict means, in a sentence that says why nothing is trusted."""


def look(part: xr.Dataset, steps: int) -> dict[str, Any]:
    """Return the numbers of one setting; NaN where there are none.

    Args:
        part: `sampling` of the chains of the setting.
        steps: of each chain.
    """
    blocks = 40
    gain = (part[names.LOSS] - part[names.INIT_LOSS]) * part[names.NBETA]
    traces = gain.transpose(names.CHAIN, names.STEP).values[:, : steps // blocks * blocks]
    out: dict[str, Any] = dict.fromkeys(
        ("llc", "mcse", "ess", "rhat", "drift", "virial", "acceptance", "rho_loc", "rho_loc_error"),
        np.nan,
    )
    out["trace"] = traces.reshape(len(traces), blocks, -1).mean(2)
    out["finite"] = bool((part[names.STATUS] == names.STATUS_OK).all())
    out["drifts"] = False
    if not out["finite"]:
        return out
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = llc(part)
            rows = {c.check: c for c in checks(part)}
    except (Diverged, InputError):
        return out
    out |= {k: float(found[k]) for k in ("mcse", "ess", "rhat", "virial")}
    out["llc"] = float(found["mean"])
    out["drift"], out["drifts"] = rows["drift"].value, rows["drift"].verdict in ("warn", "fail")
    out["acceptance"] = rows["acceptance"].value
    out["rho_loc"], out["rho_loc_error"] = rows["rho_loc"].value, rows["rho_loc"].uncertainty
    return out


def judge(rows: dict[tuple[float, float, float], dict[str, Any]], error: float = SURE) -> None:
    """Add `halved`, `halved_error`, `verdict` and `trusted` to every setting.

    Args:
        rows: (gamma, nbeta, share) -> numbers of `look`.
        error: the largest `halved_error` of a setting that is trusted.
    """
    for (g, b, s), row in rows.items():
        half = rows.get((g, b, s / 2))
        row["halved"] = row["halved_error"] = np.nan
        if half is not None and row["llc"]:
            row["halved"] = (row["llc"] - half["llc"]) / abs(half["llc"] or np.nan)
            both = np.hypot(row["mcse"], half["mcse"])
            row["halved_error"] = both / abs(half["llc"] or np.nan)
        row["verdict"] = verdict(row, half, error)
    for row in rows.values():
        row["trusted"] = row["verdict"] == "trusted"


def verdict(row: dict[str, Any], half: dict[str, Any] | None, sure: float = SURE) -> str:
    """Return what is wrong with a setting first of all, or "trusted".

    Args:
        row: numbers of the setting.
        half: of half its step; None where that is not in the grid.
        sure: the largest `halved_error` of a setting that is trusted.
    """
    rho, error = row["rho_loc"], np.nan_to_num(row["rho_loc_error"])
    if not row["finite"] or not np.isfinite(row["llc"]):
        return "unstable"
    if row["llc"] < -2 * np.nan_to_num(row["mcse"]):
        return "loss falls below w*"
    if rho > 1 + 2 * error:
        return "dominated by batch noise"
    if rho - 2 * error > NOISE:
        return "dominated by localization"
    if row["virial"] > HEATED:
        return "hotter than nbeta implies"
    if row["drifts"]:
        return "still drifting"
    if row["rhat"] > 1.2:
        return "chains disagree"
    if not row["ess"] >= 20:
        return "too few draws"
    if half is None:
        return "reference for next step"
    if not np.isfinite(row["halved"]):
        return "half the step is unstable"
    # What cannot be told apart is not the same: errors must also be small enough to tell.
    if abs(row["halved"]) > max(BIAS, 2 * row["halved_error"]):
        return "depends on the step size"
    return "trusted" if row["halved_error"] < sure else "too few draws"


def tally(evidence: xr.Dataset) -> str:
    """Return the verdicts of a grid in words, most frequent first."""
    parts = []
    found, counts = np.unique(evidence.verdict.values.ravel(), return_counts=True)
    for place in np.argsort(-counts):
        words = MEANING[str(found[place])]
        if words:
            parts.append(f"in {counts[place]} settings {words}")
    return "; ".join(parts) or "nothing was tried"
