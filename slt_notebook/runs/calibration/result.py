"""The result of a calibration: the setting that was chosen, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook.core.types import Kernel
from slt_notebook.errors import InputError, say
from slt_notebook.runs.calibration.choice import best, draws_for, length, plateaus
from slt_notebook.runs.calibration.validation import CHAINS, Confirmation

TRIES = 3  # choices that are confirmed at most


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibrate` found.

    Attributes:
        ok: whether there is a setting to trust.
        kernel, nbeta, gamma: the chosen setting (None where not `ok`).
        burnin, draws: its length (None where not `ok`); `draws` are the steps after burn-in, per
            chain, that the target precision needs.
        llc: the estimate there: mean, its standard error, the value extrapolated to step 0, and
            the ends of an interval, `lower` and `upper` (with `confirm`: of Monte Carlo error and
            every known bias; without: two standard errors).
        reason: why this setting, or why none, in plain words.
        evidence: Dataset over (gamma, nbeta, share): `step_size`, `llc`, `mcse`, `ess`, `rhat`,
            `drift`, `virial`, `acceptance`, `rho_loc`, `rho_loc_error`, `halved` (relative change
            of the LLC under half the step) and its `halved_error`, `trusted`, `verdict`; and
            `trace(gamma, nbeta, share, chain, block)`, mean LLC per block of steps.
    """

    ok: bool
    kernel: Kernel | None
    nbeta: float | None
    gamma: float | None
    burnin: int | None
    draws: int | None
    llc: dict[str, float] | None
    reason: str
    evidence: xr.Dataset

    def settings(self) -> dict[str, Any]:
        """Keywords for `slt.sample`.

        Raises:
            InputError: no setting was found.
        """
        if not self.ok:
            raise InputError(say("no trustworthy setting", "one", f"read .reason: {self.reason}"))
        return {
            "kernel": self.kernel, "nbeta": self.nbeta, "gamma": self.gamma,
            "burnin": self.burnin, "draws": self.draws, "batch_size": self.evidence.attrs["batch"],
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Calibration {'ok' if self.ok else 'failed'}: {self.reason}>"


def failed(evidence: xr.Dataset, why: str) -> Calibration:
    """Return a calibration that found no setting, and why."""
    reason = f"no trustworthy setting found, because {why}"
    evidence.attrs["reason"] = reason
    return Calibration(False, None, None, None, None, None, None, reason, evidence)


def choose(
    evidence: xr.Dataset,
    kernel: Any,
    chain_count: int,
    steps: int,
    precision: float,
    confirm: Callable[[Kernel, float, float], Confirmation] | None = None,
) -> Calibration:
    """Return the best of the trusted settings that is confirmed, or none.

    Args:
        evidence: of the last grid; settings that are not confirmed are marked in it.
        kernel: whose step size is chosen.
        chain_count: chains of every setting of the grid.
        steps: of every chain of the grid.
        precision: the relative standard error that `draws` aims at.
        confirm: (kernel, nbeta, gamma) -> the longer run of that setting; None trusts the grid.
    """
    cells = evidence.drop_vars("trace").to_dataframe().reset_index()
    plateaus(cells)
    rejected: list[str] = []
    for _ in range(TRIES):
        good = cells[cells.trusted]
        if good.empty:
            break
        cell, meaning = best(good)
        key = {name: float(cell[name]) for name in ("gamma", "nbeta", "share")}
        chosen = replace(kernel, step_size=float(cell.step_size))
        confirmed = confirm and confirm(chosen, key["nbeta"], key["gamma"])
        if confirmed is not None and not confirmed.ok:
            rejected.append(f"nbeta={cell.nbeta:.4g}, gamma={cell.gamma:.4g}: {confirmed.why}")
            evidence.verdict.loc[key] = "not converged"
            evidence.trusted.loc[key] = False
            cells.loc[cell.name, "trusted"] = False
            continue
        evidence.attrs |= {f"chosen_{name}": value for name, value in key.items()}
        return _found(
            evidence, key, cell, chosen, meaning, confirmed, chain_count, steps, precision
        )
    return failed(evidence, "no choice converged: " + "; ".join(rejected))


def _found(
    evidence: xr.Dataset,
    key: dict[str, float],
    cell: Any,
    kernel: Kernel,
    meaning: str,
    confirmed: Confirmation | None,
    chain_count: int,
    steps: int,
    precision: float,
) -> Calibration:
    """Return the calibration of the setting that was chosen, in numbers and in words."""
    here, half = evidence.sel(key), evidence.sel(key | {"share": cell.share / 2})
    burnin, draws = length(here, chain_count, steps, precision)
    mean, mcse = float(cell.llc), float(cell.mcse)
    value = {
        "mean": mean, "mcse": mcse, "extrapolated": 2 * float(half.llc) - mean,
        "lower": mean - 2 * mcse, "upper": mean + 2 * mcse,
    }  # fmt: skip
    lasted = ""
    if confirmed is not None:
        memory = CHAINS * (confirmed.steps - confirmed.burnin) / max(confirmed.ess, 1.0)
        sd = confirmed.mcse * np.sqrt(max(confirmed.ess, 1.0))
        draws = draws_for(sd, confirmed.mean, memory, precision)
        burnin = confirmed.burnin
        value = {
            "mean": confirmed.mean, "mcse": confirmed.mcse,
            "extrapolated": confirmed.mean * (1 - confirmed.halved),
            # What the last increase of nbeta / gamma added bounds the remaining bias of the
            # localization.
            "lower": confirmed.interval[0],
            "upper": confirmed.interval[1] + max(0.0, float(np.nan_to_num(cell.gained))),
        }  # fmt: skip
        lasted = (
            f"; twice the length changes it by {confirmed.doubled:+.1%} ({confirmed.steps} steps, "
            f"{CHAINS} chains)"
        )
    total = int(evidence.trusted.sum())
    reason = (
        f"step_size={cell.step_size:.3g}, nbeta={cell.nbeta:.4g}, gamma={cell.gamma:.4g}: chains "
        f"agree (R-hat {cell.rhat:.3f}), half the step changes the LLC by {cell.halved:+.1%} "
        f"(error {cell.halved_error:.1%}), and {meaning}{lasted}. "
        f"LLC {value['mean']:.4g} ± {value['mcse']:.2g}; "
        f"{total} of {evidence.trusted.size} settings can be trusted"
    )
    evidence.attrs["reason"] = reason
    return Calibration(
        True, kernel, key["nbeta"], key["gamma"], burnin, draws, value, reason, evidence
    )
