"""The single checks of a run that `health` puts together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slt_notebook import names
from slt_notebook.errors import Diverged
from slt_notebook.estimators.array import mixing
from slt_notebook.estimators.array.moments import by_chain
from slt_notebook.estimators.llc.llc import summary
from slt_notebook.estimators.losses import gather
from slt_notebook.results.result import Result
from slt_notebook.results.steps import Steps
from slt_notebook.results.store import read

COLUMNS = ("check", "value", "uncertainty", "verdict", "meaning", "do")
_TOKENS = 2000  # losses of a probe that are checked, spread evenly


@dataclass(frozen=True)
class Check:
    """One check of a run: a row of the table.

    Attributes:
        check: Its name.
        value: What was found; NaN if unknown.
        uncertainty: Standard error of the value; NaN if it has none.
        verdict: "ok", "warn", "fail" or "unknown".
        meaning: What the value is.
        do: What to do where the verdict is not "ok".
    """

    check: str
    value: float
    uncertainty: float
    verdict: str
    meaning: str
    do: str = ""


def chains(result: Result) -> Check:
    """Check how many chains diverged."""
    total = result.sampling.sizes[names.CHAIN]
    bad = result.diverged
    verdict = "ok" if not bad else "fail" if len(bad) == total else "warn"
    said = "; ".join(f"chain {k} {v}" for k, v in bad.items())
    return Check(
        "chains",
        float(len(bad)),
        np.nan,
        verdict,
        f"{said} (left out of every average)" if bad else f"all {total} chains are finite",
        result.remedies,
    )


def trace_level(values: np.ndarray, whole: dict[str, float], alike: bool) -> Check:
    """Check that the LLC is above 0."""
    if not alike:  # chains of several settings: the lowest of them
        each = [summary(v[None]) for v in values]
        whole = min(each, key=lambda s: s["mean"])
    mean, error = whole["mean"], whole["mcse"]
    low = mean < -2 * (error if np.isfinite(error) else 0)
    verdict = "fail" if low else "ok" if mean > 2 * np.nan_to_num(error) else "warn"
    meaning = {
        "ok": "the loss rises above the loss at w*, as around a minimum",
        "warn": "the rise of the loss (LLC) cannot be distinguished from 0",
        "fail": "the LLC is negative: the loss falls below the loss at w*",
    }[verdict]
    do = {
        "ok": "",
        "warn": "draw more, or raise nbeta so that the data matter more",
        "fail": "w* is not a minimum of this loss: train further, use the training data and its "
        "loss, or lower step_size; a larger gamma keeps the chain closer",
    }[verdict]
    return Check("trace level", mean, error, verdict, meaning, do)


def drift(values: np.ndarray) -> Check:
    """Check that the trace has levelled off."""
    third = values.shape[1] // 3
    meaning = "last third of the trace against the middle third, relative to its level"
    if third < 8:
        do = "draw at least 24 steps after burn-in"
        return Check("drift", np.nan, np.nan, "unknown", meaning, do)
    middle, last = values[:, third : 2 * third], values[:, -third:]
    a, b = summary(middle), summary(last)
    scale = max(abs(values.mean()), np.finfo(float).tiny)
    value = (b["mean"] - a["mean"]) / scale
    error = float(np.hypot(a["mcse"], b["mcse"])) / scale
    clear = abs(value) > 2 * error if np.isfinite(error) else True
    verdict = (
        "fail" if abs(value) > 0.3 and clear else "warn" if abs(value) > 0.1 and clear else "ok"
    )
    do = (
        "still climbing: lengthen burnin; if it never levels off, raise gamma or lower nbeta"
        if value > 0
        else "still falling: lengthen burnin, or lower step_size"
    )
    return Check("drift", float(value), error, verdict, meaning, do if verdict != "ok" else "")


def r_hat(steps: Steps, whole: dict[str, float]) -> Check:
    """Check R-hat of the loss gain."""
    meaning = "agreement of the chains (1: they sample the same distribution)"
    reason = steps.difference or ("one chain" if len(steps.used) < 2 else "")
    if reason or not np.isfinite(whole["rhat"]):
        do = f"cannot be computed: {reason or 'too few steps'}; use chains=4 of one setting"
        return Check("R-hat", np.nan, np.nan, "unknown", meaning, do)
    value = whole["rhat"]
    verdict = "ok" if value <= 1.05 else "warn" if value <= 1.2 else "fail"
    do = "" if verdict == "ok" else "draw longer or lengthen burnin; look at the traces by chain"
    return Check("R-hat", value, np.nan, verdict, meaning, do)


def effective_draws(steps: Steps, values: np.ndarray, whole: dict[str, float]) -> Check:
    """Check the effective sample size of the loss gain."""
    meaning = f"effective sample size of the {values.size} steps"
    value = whole["ess"]
    if steps.difference or not np.isfinite(value):
        reason = steps.difference or "too few steps"
        return Check("ESS", np.nan, np.nan, "unknown", meaning, f"cannot be computed: {reason}")
    verdict = "ok" if value >= 100 else "warn" if value >= 20 else "fail"
    do = "" if verdict == "ok" else "draw more steps, or raise step_size while acceptance is high"
    return Check("ESS", value, np.nan, verdict, meaning, do)


def acceptance(steps: Steps, whole: dict[str, float]) -> Check:
    """Check the acceptance of a Metropolis test on a batch."""
    meaning = "share of steps that a Metropolis test on a batch would accept"
    values = _draws(steps, names.ACCEPT)
    if values is None:
        do = "the run has no record of the acceptance"
        return Check("acceptance", np.nan, np.nan, "unknown", meaning, do)
    means = [row[np.isfinite(row)].mean() for row in values if np.isfinite(row).any()]
    value = float(np.mean(means))
    error = float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else np.nan
    slow = value > 0.99 and whole["ess"] < 100 and np.isfinite(whole["ess"])
    verdict = "fail" if value < 0.1 else "warn" if value < 0.5 or slow else "ok"
    do = {"ok": ""}.get(verdict, "lower step_size" if value < 0.5 else "raise step_size")
    return Check("acceptance", value, error, verdict, meaning, do)


def virial(steps: Steps) -> Check:
    """Check the virial ratio, 1 at equilibrium."""
    meaning = "(w - w*)·∇U / dim, which is 1 at equilibrium"
    known = names.VIRIAL in steps.data
    if not known or not np.isfinite(steps.series(names.VIRIAL)).all():
        do = "the virial ratio is not finite at some step" if known else "the run has no record"
        return Check("virial", np.nan, np.nan, "unknown", meaning, do)
    found = summary(steps.series(names.VIRIAL))
    value, error = found["mean"], found["mcse"]
    off = abs(value - 1) if abs(value - 1) > 2 * np.nan_to_num(error) else 0.0
    verdict = "fail" if off > 0.3 else "warn" if off > 0.1 else "ok"
    do = (
        "the chain has not spread out yet: lengthen burnin, or raise step_size"
        if value < 1
        else "steps are too large for the curvature, or the chain moves away: lower step_size, "
        "or raise gamma"
    )
    return Check("virial", value, error, verdict, meaning, do if verdict != "ok" else "")


def noise_share(steps: Steps, values: np.ndarray) -> Check:
    """Check `rho_loc`: the rise of the loss over that under localization noise alone."""
    meaning = "rise of the loss over its rise under localization noise alone (1: only noise)"
    after = _rows(steps, names.CONTROL_LOSS, names.CONTROL)
    before = _rows(steps, names.CONTROL_INIT_LOSS, names.CONTROL)
    nbeta = steps.nbeta
    control = np.zeros(0) if after is None or before is None else after - before
    control = control[~np.isnan(control)]  # not drawn
    bad = int(np.isinf(control).sum())
    if bad:
        do = f"at {bad} of {control.size} controls a loss was not finite: raise gamma"
        return Check("rho_loc", np.nan, np.nan, "unknown", meaning, do)
    if not control.size or not (nbeta > 0).all():
        do = "needs gamma > 0 and nbeta > 0, and a run with controls"
        return Check("rho_loc", np.nan, np.nan, "unknown", meaning, do)
    rise = summary(values / nbeta[:, None])
    bottom = control.mean()
    if not bottom > 0:
        do = "the loss does not rise under noise alone; draw more controls"
        return Check("rho_loc", np.nan, np.nan, "unknown", meaning, do)
    value = rise["mean"] / bottom
    bottom_error = control.std(ddof=1) / np.sqrt(control.size) if control.size > 1 else np.nan
    error = float(np.hypot(rise["mcse"], value * bottom_error) / bottom)
    verdict = "warn" if value > 0.8 else "ok"
    do = "raise nbeta (or lower gamma) until rho_loc is 0.3 to 0.7" if value > 0.8 else ""
    return Check("rho_loc", float(value), error, verdict, meaning, do)


def tokens(result: Result, name: str) -> Check:
    """Check R-hat of a sample of the token losses of a probe."""
    data = result.probe(name)[names.LOSS]
    every = max(1, data.isel({names.CHAIN: 0, names.DRAW: 0}).size // _TOKENS)
    if names.TOKEN in data.dims:
        data = data.isel({names.TOKEN: slice(every // 2, None, every)})
    elif every > 1:
        data = data.isel({names.EXAMPLE: slice(every // 2, None, every)})
    meaning = "share of token losses whose chains disagree (R-hat above 1.1)"
    label = f"R-hat > 1.1, {name}"
    unknown = Check(label, np.nan, np.nan, "unknown", meaning, "too few draws yet")
    try:
        raw = gather(data, skip=result.diverged)
    except Diverged:
        return unknown
    x = by_chain(raw)
    if x.shape[0] < 2 or x.shape[1] < 8:
        return unknown
    r = mixing.rhat(x)
    r = r[np.isfinite(r)]
    if not r.size:
        return unknown
    value = float((r > 1.1).mean())
    verdict = "ok" if value <= 0.05 else "warn" if value <= 0.3 else "fail"
    do = "" if verdict == "ok" else "influence and kernel have not converged: draw or thin more"
    return Check(label, value, np.nan, verdict, meaning, do)


def _rows(steps: Steps, name: str, dim: str) -> np.ndarray | None:
    if name not in steps.data:
        return None
    array = steps.data[name].transpose(names.CHAIN, dim).isel({names.CHAIN: steps.used})
    return np.asarray(read(array), np.float64)


def _draws(steps: Steps, name: str) -> np.ndarray | None:
    found = _rows(steps, name, names.DRAW)
    return None if found is None or not np.isfinite(found).any() else found
