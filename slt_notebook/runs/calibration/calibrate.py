"""Which step size, nbeta and gamma can be trusted here?  A sweep as chains of one run, judged.

Nothing is known of the answer.  What is known: halving the step must not change it by more than
its error; the loss cannot rise more than under localization alone (else the noise of the batches
drives the chain, which R-hat and ESS do not see); chains must agree and have stopped drifting.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.kernels.sghmc import SGHMC
from slt_notebook.core.potential import Potential
from slt_notebook.core.types import Kernel
from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe
from slt_notebook.runs.calibration.choice import best, draws_for, length, plateaus
from slt_notebook.runs.calibration.validation import CHAINS, settle
from slt_notebook.runs.calibration.verdicts import SCREENED, SURE, judge, look, tally
from slt_notebook.runs.plan import partition as plan
from slt_notebook.runs.plan.task import default_kernel
from slt_notebook.runs.sample import sample

SHARES = (1.0, 0.5, 0.25)
"""Step sizes of a sweep, as shares of 1 / (nbeta h + gamma), h the largest curvature at w*."""
NOISY_SHARES = (0.5, 0.25, 0.125)  # with batches, whose noise adds a bias that grows with the step
TRIES = 3  # choices that are confirmed at most
POWER = 12  # pairs of gradients spent on the curvature


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibrate` found.

    Attributes:
        ok: whether there is a setting to trust.
        kernel, nbeta, gamma, burnin, draws: the setting (None where not `ok`); `draws` are the
            steps after burn-in, per chain, that the target precision needs.
        llc: the estimate there: mean, its standard error, the value extrapolated to step 0, and
            the ends of an interval, `lower` and `upper` (with `confirm`: of all that is known to be
            wrong with it, see `runs.settle`; without: of Monte Carlo error alone, two of them).
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


def calibrate(
    loss,
    data: Probe,
    *,
    components: str = "full",
    kernel: Kernel | None = None,
    nbetas=None,
    gammas=None,
    shares=None,
    chains: int = 2,
    steps: int | None = None,
    batch_size: int | None = None,
    precision: float = 0.03,
    rounds: int = 3,
    confirm: bool | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> Calibration:
    """Finds step size, nbeta, gamma, burn-in and length of a run, without knowing the answer.

    1. The largest curvature h of the loss at w* is measured by power iteration on differences of
       gradients; step sizes are `shares` of `1 / (nbeta h + gamma)`.
    2. All of (step size, nbeta, gamma) walk as chains of one run.
    3. A setting is trusted when its chains stayed finite, the LLC is above 0, the trace does not
       drift, R-hat is below 1.2, ESS is at least 20, the virial ratio is not above 1.3 (heated by
       batches or by the step), `rho_loc` is not above 1 (batch noise) nor above 0.8 (nothing but
       localization), and half its step gives the same LLC within 5 % or two errors, the error
       being at most 5 % (20 % where gradients are exact or step 6 follows).  (The smallest step
       has no half to be compared with; it serves the next.)
    4. Of the trusted ones the first choice is a plateau of the LLC over nbeta / gamma (5 % from one
       trusted ratio to the next), at its largest ratio; without one, `rho_loc` in 0.3 to 0.7, or,
       where the data rule everywhere, the largest ratio; then the largest step, which mixes best.
    5. Nothing trusted: the sweep is repeated with a quarter of the steps' size, or, where only
       drift, R-hat or ESS stood in the way, with twice the length.
    6. Where `confirm` says so, four chains of the choice and four of half its step walk on until
       twice the length no longer changes the LLC (`runs.settle`); a choice that diverges or does
       not settle is struck out and the next one is tried, three times at most.

    Args:
        loss, data, components, batch_size, seed, device: as in `slt.sample`; `batch_size` is
            all of the data up to 64 examples by default, else 32.
        kernel: its step size is what is looked for; `SGHMC(friction=0.05)` for exact gradients and
            `SGLD` for batches by default.  Its metric must not adapt.
        nbetas: to try; by default `n / log n` (30,000 for fewer than 100 examples) and the 10th
            and the root of the 10th part of it.
        gammas: to try; (3, 30) for exact gradients and (1, 300) for batches by default.  Less than
            1 or so lets flat directions wander as far as the weights are long, to places of
            another curvature, where a step that was stable at w* is not.
        shares: step sizes to try, of `1 / (nbeta h + gamma)`, each half of the one before; (1, 1/2,
            1/4) for exact gradients and half of that for batches by default.
        chains, steps: of every setting; half of the steps are burn-in.  1000 steps for exact
            gradients and 400 for batches by default.  There are three step sizes for every
            pair of nbeta and gamma: with a large model pass few of those, and 200 steps.
        precision: the relative standard error that `draws` aims at, with 4 chains.
        rounds: sweeps at most.
        confirm: step 6; None does it for exact gradients, whose steps cost little.
        progress: print a line per sweep.

    Returns:
        A `Calibration`; when `ok` is False its `reason` says "no trustworthy setting found,
        because ...".

    Raises:
        InputError: a metric that adapts, or values out of range.
    """
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
    curvature = _curvature(loss, data, components, max(batch, min(size, 4 * batch)), seed, device)
    scale, said, evidence = 1.0, [], None
    for number in range(rounds):
        sizes = {
            (g, b, s): scale * s / (b * curvature + g)
            for g in gammas
            for b in nbetas
            for s in shares
        }
        evidence = _sweep(
            loss, data, components, kernel, sizes, chains=chains, steps=steps, batch_size=batch,
            seed=seed, device=device, error=SURE if noisy and not check else SCREENED,
        )  # fmt: skip
        evidence.attrs |= {"curvature": curvature, "round": number, "steps": steps, "batch": batch}
        verdicts = [str(v) for v in evidence.verdict.values.ravel()]
        if progress:
            print(f"sweep {number + 1}: {verdicts.count('trusted')} of {len(verdicts)} trusted")
        if "trusted" in verdicts:
            walk = None
            if check:
                walk = partial(
                    settle, loss, data, components=components, batch_size=batch, seed=seed + 1,
                    device=device, steps=2 * steps, precision=precision,
                )  # fmt: skip
            return _chosen(evidence, kernel, chains, steps, precision, walk)
        waiting = sum(v in ("still drifting", "chains disagree", "too few draws") for v in verdicts)
        if waiting > len(verdicts) / 3:
            steps *= 2
            said.append(f"{steps} steps")
        else:
            scale /= 4
            said.append(f"steps {scale:g} times as large")
    why = tally(evidence)
    tried = f" (also tried: {', '.join(said[:-1])})" if said[:-1] else ""
    reason = f"no trustworthy setting found, because {why}{tried}"
    evidence.attrs["reason"] = reason
    return Calibration(False, None, None, None, None, None, None, reason, evidence)


def _curvature(loss, data: Probe, components: str, examples: int, seed: int, device) -> float:
    """The largest eigenvalue, by size, of the Hessian of the mean loss of some examples at w*."""
    where = plan.pick_device(device, next(iter(loss.params.values())).device)
    here = loss.to(where)
    space = plan.resolve(components, here)
    center = space.flatten(here.params)
    one = torch.ones(1, device=where)
    potential = Potential(here, space, here.params, center, one, one * 0)
    rows = streams.batch(seed, 0, 0, examples, len(data), streams.CONTROL)
    index = torch.from_numpy(np.asarray(rows)).to(where)
    batch = {key: value[index] for key, value in data.tensors(where).items()}
    vector = streams.noise(seed, (0,), 0, space.dim, where, streams.CONTROL)[0]
    reach = 1e-3 * max(float(center.norm()), 1.0)
    value = 0.0
    for _ in range(POWER):
        vector = vector / vector.norm()
        ends = torch.stack([center + reach * vector, center - reach * vector])
        grads = potential.loss_and_grad(ends, [batch, batch])[1]
        vector = (grads[0] - grads[1]) / (2 * reach)
        value = float(vector.norm())
        if not np.isfinite(value) or value == 0:
            break
    return value if np.isfinite(value) else 0.0


def _sweep(
    loss, data, components, kernel, sizes, *, chains, steps, error, **settings
) -> xr.Dataset:
    """One run of all settings, and what each looks like."""
    repeat = lambda values: tuple(v for v in values for _ in range(chains))
    several: Any = replace(kernel, step_size=repeat(sizes.values()))
    run = sample(
        loss, data, components=components, kernel=several, nbeta=repeat(b for _, b, _ in sizes),
        gamma=repeat(g for g, _, _ in sizes), chains=chains * len(sizes), burnin=steps // 2,
        draws=steps - steps // 2, progress=False, blocking=False, **settings,
    )  # fmt: skip
    sampling = run.wait()[names.SAMPLING].to_dataset()
    rows = {}
    for place, (key, step) in enumerate(sizes.items()):
        part = sampling.isel({names.CHAIN: slice(place * chains, (place + 1) * chains)})
        rows[key] = look(part, steps) | {"step_size": step}
    judge(rows, error)
    axes = {"gamma": 0, "nbeta": 1, "share": 2}
    coords = {name: sorted({key[i] for key in rows}) for name, i in axes.items()}
    shape = tuple(len(values) for values in coords.values())
    order = [(g, b, s) for g in coords["gamma"] for b in coords["nbeta"] for s in coords["share"]]
    out = xr.Dataset(coords=coords)
    for name in rows[order[0]]:
        values = np.array([rows[key][name] for key in order])
        dims = (*axes, "chain", "block")[: 3 + values.ndim - 1]
        out[name] = (dims, values.reshape(*shape, *values.shape[1:]))
    return out


def _chosen(evidence: xr.Dataset, kernel, chains, steps, precision, walk=None) -> Calibration:
    cells = evidence.drop_vars("trace").to_dataframe().reset_index()
    plateaus(cells)
    struck: list[str] = []
    for _ in range(TRIES):
        good = cells[cells.trusted]
        if good.empty:
            break
        cell, meaning = best(good)
        key = {name: float(cell[name]) for name in ("gamma", "nbeta", "share")}
        chosen: Any = replace(kernel, step_size=float(cell.step_size))
        settled = walk and walk(kernel=chosen, nbeta=key["nbeta"], gamma=key["gamma"])
        if settled is not None and not settled.ok:
            struck.append(f"nbeta={cell.nbeta:.4g}, gamma={cell.gamma:.4g}: {settled.why}")
            evidence.verdict.loc[key] = "did not last"
            evidence.trusted.loc[key] = False
            cells.loc[cell.name, "trusted"] = False
            continue
        evidence.attrs |= {f"chosen_{name}": value for name, value in key.items()}
        return _found(evidence, key, cell, chosen, meaning, settled, chains, steps, precision)
    reason = "no trustworthy setting found, because what looked settled did not last: " + "; ".join(
        struck
    )
    evidence.attrs["reason"] = reason
    return Calibration(False, None, None, None, None, None, None, reason, evidence)


def _found(evidence, key, cell, chosen, meaning, settled, chains, steps, precision) -> Calibration:
    """The verdict on the setting that was chosen, in numbers and in words."""
    here, half = evidence.sel(key), evidence.sel(key | {"share": cell.share / 2})
    burnin, draws = length(here, chains, steps, precision)
    mean, mcse = float(cell.llc), float(cell.mcse)
    value = {
        "mean": mean, "mcse": mcse, "extrapolated": 2 * float(half.llc) - mean,
        "lower": mean - 2 * mcse, "upper": mean + 2 * mcse,
    }  # fmt: skip
    lasted = ""
    if settled is not None:
        memory = CHAINS * (settled.steps - settled.burnin) / max(settled.ess, 1.0)
        sd = settled.mcse * np.sqrt(max(settled.ess, 1.0))
        draws = draws_for(sd, settled.mean, memory, precision)
        burnin = settled.burnin
        value = {
            "mean": settled.mean, "mcse": settled.mcse,
            "extrapolated": settled.mean * (1 - settled.halved),
            # What the last ratio added bounds what the localization still keeps away.
            "lower": settled.interval[0],
            "upper": settled.interval[1] + max(0.0, float(np.nan_to_num(cell.gained))),
        }  # fmt: skip
        lasted = (
            f"; twice the length changes it by {settled.doubled:+.1%} ({settled.steps} steps, "
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
        True, chosen, key["nbeta"], key["gamma"], burnin, draws, value, reason, evidence
    )


def _check(kernel, nbetas, gammas, shares, chains, steps, precision, rounds) -> None:
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
