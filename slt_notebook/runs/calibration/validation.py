"""Confirmation of a chosen setting: whether its LLC has converged, and how wrong it can be.

A chain that starts at w* reaches the stiff directions of the loss first and the soft ones last, so
its LLC rises ever more slowly, and looks converged (R-hat, ESS, drift) long before it is.  A run of
twice the length shows that.  This one is extended until doubling no longer changes the answer.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.models.probes import Probe
from slt_notebook.runs.plan.settings import Settings, Speed
from slt_notebook.runs.prepare import start_run

CHAINS = 4
DOUBLINGS = 3


@dataclass(frozen=True)
class Confirmation:
    """A run of one setting, and of half its step, extended until its LLC stopped changing.

    Attributes:
        ok: chains stayed finite, and the last doubling changed the LLC by less than was asked.
        mean, mcse: of the second half of the steps.
        doubled: relative change of the LLC by the last doubling, (T/2, T] against (T/4, T/2].
        halved: relative difference to the LLC at half the step.
        interval: mean +- (the 95 % half width of Monte Carlo error + both changes): it is meant to
            hold the value, not only the mean of these chains.
        steps, burnin, ess: of a chain, in all; of the kept half.
        why: what was wrong, where not `ok`.
    """

    ok: bool
    mean: float
    mcse: float
    doubled: float
    halved: float
    interval: tuple[float, float]
    steps: int
    burnin: int
    ess: float
    why: str = ""


def confirm(
    loss: Any,
    data: Probe,
    component: str,
    settings: Settings,
    speed: Speed,
    *,
    steps: int,
    precision: float,
) -> Confirmation:
    """Sample `CHAINS` chains of a setting and of half its step until the LLC stops changing.

    Args:
        loss: as in `slt.sample`.
        data: as in `slt.sample`.
        component: as in `slt.sample`.
        settings: kernel with one step size, nbeta, gamma, batches and seed.
        speed: as in `slt.sample`.
        steps: of the first attempt; doubled at most `DOUBLINGS` times.
        precision: half of it is the relative change by a doubling that counts as none (or two of
            its errors, where these are below `precision`): what is left to come after a change is
            about as large as the change.
    """
    kernel: Any = settings.kernel
    sizes = (kernel.step_size,) * CHAINS + (kernel.step_size / 2,) * CHAINS
    several = replace(
        settings, kernel=replace(kernel, step_size=sizes), chains=2 * CHAINS, burnin=0
    )
    found = None
    with tempfile.TemporaryDirectory(prefix="slt-confirm-") as folder:
        for doubling in range(DOUBLINGS + 1):
            length = steps * 2**doubling
            run = start_run(
                loss, data, (), component, replace(several, draws=length), speed,
                Path(folder) / "run.zarr",
            )  # fmt: skip
            found = _measure(run.wait()[names.SAMPLING].to_dataset().load(), length, precision)
            if found.ok or found.why.startswith("diverged"):
                return found
    assert found is not None
    return found


def _measure(sampling: xr.Dataset, length: int, precision: float) -> Confirmation:
    lost = Confirmation(
        False, np.nan, np.nan, np.nan, np.nan, (np.nan, np.nan), length, length // 2, 0.0
    )
    if not (sampling[names.STATUS] == names.STATUS_OK).all():
        return replace(lost, why=f"diverged within {length} steps")
    own = sampling.isel({names.CHAIN: slice(0, CHAINS)})
    half = sampling.isel({names.CHAIN: slice(CHAINS, None)})
    try:
        late, slow = llc(own, burnin=length // 2), llc(half, burnin=length // 2)
        early = llc(own.isel({names.STEP: slice(0, length // 2)}), burnin=length // 4)
    except Diverged as cause:
        return replace(lost, why=f"diverged: {cause}")
    mean, mcse = float(late["mean"]), float(late["mcse"])
    size = max(abs(mean), 1e-12)
    doubled = (mean - float(early["mean"])) / size
    doubled_error = float(np.hypot(mcse, early["mcse"])) / size
    halved = (mean - float(slow["mean"])) / size
    halved_error = float(np.hypot(mcse, slow["mcse"])) / size
    width = float(late["interval"][1]) - mean + size * (abs(doubled) + abs(halved))
    why = ""
    # A difference counts as none where it is small, or cannot be told from chance and chance is
    # small: errors as large as the change that is looked for say nothing.
    if abs(doubled) > max(precision / 2, 2 * doubled_error) or doubled_error > precision:
        why = f"still changing by {doubled:+.1%} (error {doubled_error:.1%}) after {length} steps"
    elif abs(halved) > max(0.05, 2 * halved_error):
        why = f"half the step gives an LLC that is {-halved:+.1%} apart"
    return Confirmation(
        not why, mean, mcse, doubled, halved, (mean - width, mean + width), length, length // 2,
        float(late["ess"]), why,
    )  # fmt: skip
