"""`slt.calibrate`: a step size, nbeta and gamma that can be trusted, with the evidence for it.

Nothing is known of the answer.  What is known: halving the step must not change it by more than
its error; the loss cannot rise more than under localization alone (else the noise of the batches
drives the chain, which R-hat and ESS do not see); chains must agree and have stopped drifting.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from slt_notebook.core.kernels.sghmc import SGHMC
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.types import Kernel
from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe
from slt_notebook.runs.calibration import validation
from slt_notebook.runs.calibration.grid import curvature, run_grid
from slt_notebook.runs.calibration.result import Calibration, choose, failed
from slt_notebook.runs.calibration.verdicts import SCREENED, SURE, tally
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.settings import Settings, Speed
from slt_notebook.runs.plan.task import default_kernel
from slt_notebook.runs.prepare import check_inputs

SHARES = (1.0, 0.5, 0.25)
"""Step sizes of a grid, as shares of 1 / (nbeta h + gamma), h the largest curvature at w*."""
NOISY_SHARES = (0.5, 0.25, 0.125)  # with batches, whose noise adds a bias that grows with the step


@in_plain_modes
def calibrate(
    loss,
    data: Probe,
    *,
    components: str | None = None,
    kernel: Kernel | None = None,
    nbetas: Sequence[float] | None = None,
    gammas: Sequence[float] | None = None,
    shares: Sequence[float] | None = None,
    chains: int = 2,
    steps: int | None = None,
    batch_size: int | None = None,
    precision: float = 0.03,
    rounds: int = 3,
    confirm: bool | None = None,
    seed: int = 0,
    device: str | torch.device = Speed.device,
    progress: bool = False,
) -> Calibration:
    """Find step size, nbeta, gamma, burn-in and length of a run, without knowing the answer.

    1. The largest curvature h of the loss at w* is measured by power iteration on differences of
       gradients; step sizes are `shares` of `1 / (nbeta h + gamma)`.
    2. All of (step size, nbeta, gamma) are sampled as chains of one run.
    3. A setting is trusted when its chains stayed finite, the LLC is above 0, the trace does not
       drift, R-hat is below 1.2, ESS is at least 20, the virial ratio is not above 1.3 (heated by
       batches or by the step), `rho_loc` is not above 1 (batch noise) nor above 0.8 (nothing but
       localization), and half its step gives the same LLC within 5 % or two errors, the error
       being at most 5 % (20 % where gradients are exact or step 6 follows).  (The smallest step
       has no half to be compared with; it serves the next.)
    4. Of the trusted ones the first choice is a plateau of the LLC over nbeta / gamma (5 % from one
       trusted ratio to the next), at its largest ratio; without one, `rho_loc` in 0.3 to 0.7, or,
       where the data dominate everywhere, the largest ratio; then the largest step, which mixes
       best.
    5. Nothing trusted: the grid is repeated with a quarter of the step sizes, or, where only
       drift, R-hat or ESS failed, with twice the length.
    6. With `confirm`, four chains of the choice and four of half its step are continued until
       twice the length no longer changes the LLC; a choice that diverges or keeps changing is
       rejected and the next one is tried, three times at most.

    Args:
        loss: as in `slt.sample`.
        data: as in `slt.sample`.
        components: one component, as in `slt.sample`.
        kernel: its step size is what is looked for; `SGHMC(friction=0.05)` for exact gradients and
            `SGLD` for batches by default.  Its metric must not adapt.
        nbetas: to try; by default `n / log n` (30,000 for fewer than 100 examples) and the 10th
            and the root of the 10th part of it.
        gammas: to try; (3, 30) for exact gradients and (1, 300) for batches by default.  Less than
            1 or so lets flat directions wander as far as the weights are long, to places of
            another curvature, where a step that was stable at w* is not.
        shares: step sizes to try, of `1 / (nbeta h + gamma)`, each half of the one before; (1, 1/2,
            1/4) for exact gradients and half of that for batches by default.
        chains: of every setting.
        steps: of every chain; half of them are burn-in.  1000 for exact gradients and 400 for
            batches by default.  There are three step sizes for every pair of nbeta and gamma: with
            a large model pass few of those, and 200 steps.
        batch_size: as in `slt.sample`; all of the data up to 64 examples by default, else 32.
        precision: the relative standard error that `draws` aims at, with 4 chains.
        rounds: grids at most.
        confirm: whether to do step 6; None does it for exact gradients, whose steps cost little.
        seed: of noise and batches.
        device: as in `slt.sample`.
        progress: print a line per grid.

    Returns:
        A `Calibration`; when `ok` is False its `reason` says "no trustworthy setting found,
        because ...".

    Raises:
        InputError: a metric that adapts, or values out of range.
    """
    data, _ = check_inputs(loss, data, ())
    components = partition.component_of(loss, components)
    size = len(data)
    batch = batch_size or (size if size <= 64 else 32)
    steps = steps or (1000 if batch == size else 400)
    if kernel is None:
        # Little friction: a soft direction is reached in 1 / (frequency * time step) steps, not in
        # the square of that.
        kernel = SGHMC(friction=0.05) if batch == size else default_kernel()
    top = size / np.log(size) if size >= 100 else 3e4
    nbetas = sorted(float(v) for v in (nbetas or (top / 10, top / 10**0.5, top)))
    gammas = sorted(float(v) for v in gammas or ((3, 30) if batch == size else (1, 300)))
    shares = sorted(float(v) for v in shares or (SHARES if batch == size else NOISY_SHARES))[::-1]
    _check(kernel, nbetas, gammas, shares, chains, steps, precision, rounds)
    noisy = batch < size
    check = confirm if confirm is not None else not noisy
    settings = Settings(kernel=kernel, batch_size=batch, seed=seed)
    speed = Speed(device=device)
    most = curvature(loss, data, components, max(batch, min(size, 4 * batch)), seed, speed)
    scale, said = 1.0, []
    evidence = None
    for number in range(rounds):
        sizes = {
            (g, b, s): scale * s / (b * most + g) for g in gammas for b in nbetas for s in shares
        }
        settings = replace(settings, burnin=steps // 2, draws=steps - steps // 2)
        evidence = run_grid(
            loss, data, components, settings, speed, sizes, chains,
            SURE if noisy and not check else SCREENED,
        )  # fmt: skip
        evidence.attrs |= {"curvature": most, "round": number, "steps": steps, "batch": batch}
        verdicts = [str(v) for v in evidence.verdict.values.ravel()]
        if progress:
            print(f"grid {number + 1}: {verdicts.count('trusted')} of {len(verdicts)} trusted")
        if "trusted" in verdicts:
            confirm_choice = None
            if check:
                confirm_choice = partial(
                    _confirm, loss, data, components, replace(settings, seed=seed + 1), speed,
                    2 * steps, precision,
                )  # fmt: skip
            return choose(evidence, kernel, chains, steps, precision, confirm_choice)
        waiting = sum(v in ("still drifting", "chains disagree", "too few draws") for v in verdicts)
        if waiting > len(verdicts) / 3:
            steps *= 2
            said.append(f"{steps} steps")
        else:
            scale /= 4
            said.append(f"steps {scale:g} times as large")
    assert evidence is not None  # there is at least one round
    why = tally(evidence)
    tried = f" (also tried: {', '.join(said[:-1])})" if said[:-1] else ""
    return failed(evidence, f"{why}{tried}")


def _confirm(
    loss: Any,
    data: Probe,
    component: str,
    settings: Settings,
    speed: Speed,
    steps: int,
    precision: float,
    kernel: Kernel,
    nbeta: float,
    gamma: float,
) -> validation.Confirmation:
    """Return a longer run of one setting of the grid; see `validation.confirm`."""
    asked = replace(settings, kernel=kernel, nbeta=nbeta, gamma=gamma)
    return validation.confirm(loss, data, component, asked, speed, steps=steps, precision=precision)


def _check(
    kernel: Any,
    nbetas: Sequence[float],
    gammas: Sequence[float],
    shares: Sequence[float],
    chains: int,
    steps: int,
    precision: float,
    rounds: int,
) -> None:
    if kernel.metric.adapt != "never":
        raise InputError(
            say(
                f"{kernel.metric!r}",
                "a metric that does not adapt: the steps to try follow from the curvature at w*",
                "pass kernel=slt.SGLD() or slt.SGHMC(), or sweep step sizes with slt.sample",
            )
        )
    if min(nbetas) <= 0 or min(gammas) <= 0 or not np.isfinite([*nbetas, *gammas]).all():
        raise InputError(
            say(f"nbetas={nbetas}, gammas={gammas}", "positive numbers", "pass nbetas=(10, 100)")
        )
    halves = [np.isclose(b, a / 2) for a, b in itertools.pairwise(shares)]
    if len(shares) < 2 or not all(halves) or not 0 < shares[0] < 4:
        raise InputError(
            say(
                f"shares={shares}",
                "two or more numbers, each half of the next larger, below 4 (no step above is "
                "stable)",
                "pass shares=(0.5, 0.25, 0.125)",
            )
        )
    if chains < 2 or steps < 80 or not 0 < precision < 1 or rounds < 1:
        raise InputError(
            say(
                f"chains={chains}, steps={steps}, precision={precision}, rounds={rounds}",
                "at least 2 chains, 80 steps and 1 round, and a precision between 0 and 1",
                "leave them out",
            )
        )
