"""Can the numbers of this run be trusted?  One row a check, with what to do when it fails."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError
from slt_notebook.estimators.array import mixing as _mixing
from slt_notebook.estimators.array import moments as _moments
from slt_notebook.estimators.llc.llc import gains, summary
from slt_notebook.results import tree as trees
from slt_notebook.results.steps import Steps, steps_after_burnin

VERDICTS = ("ok", "warn", "fail", "unknown")
COLUMNS = ("check", "value", "uncertainty", "verdict", "meaning", "do")
_TOKENS = 2000  # tokens of a probe that are looked at, spread evenly


@dataclass(frozen=True)
class Check:
    """One row.  `uncertainty` is a standard error, or NaN when the value has none."""

    check: str
    value: float
    uncertainty: float
    verdict: str
    meaning: str
    do: str = ""


def health(run: Any, *, burnin: int | None = None):
    """Checks of a run, as a table with one row each.

    - `chains`: how many are not finite.  Any is a warning, all a failure.
    - `trace level`: the LLC.  Below 0 the weights are not at a minimum of the loss that is sampled.
    - `drift`: the last third of the trace against the middle third, relative to its level.  More
      than 10 % warns, more than 30 % fails, both only beyond two standard errors.
    - `R-hat` of the loss gain: more than 1.05 warns, more than 1.2 fails.
    - `ESS` of the loss gain: below 100 warns, below 20 fails.
    - `acceptance`: of the Metropolis test on a batch.  Below 0.5 warns (the step is too large for
      the discretization), below 0.1 fails; above 0.99 with an ESS below 100 warns (too small).
    - `virial`: `E[(w - w*) . grad U] / dim`, 1 at equilibrium.  Off by more than 10 % warns, 30 %
      fails, beyond two standard errors.
    - `rho_loc`: the rise of the loss over its rise under pure localization noise, at nbeta = 0.
      Above 0.8 warns: what is measured is mostly the noise.  0.3 to 0.7 is a good range.
    - `tokens of <probe>`: the share of token losses with R-hat above 1.1.  More than 5 % warns,
      more than 30 % fails.

    Args:
        run: A run, finished or not, or its group `sampling`.
        burnin: Steps to leave out; the run's own burn-in if None.

    Returns:
        pandas.DataFrame with the columns check, value, uncertainty (standard error; NaN: has
        none), verdict ("ok", "warn", "fail", "unknown"), meaning, do.

    References: Lau et al. 2023 (arXiv:2308.12108); Vehtari et al. 2021 (arXiv:1903.08008).
    """
    import pandas as pd

    rows = [vars(c) for c in checks(run, burnin)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def health_text(run: Any, *, burnin: int | None = None, width: int = 88) -> str:
    """The same for a terminal: one line a check, and what to do below those that are not ok."""
    mark = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL", "unknown": "?   "}
    lines = []
    for c in checks(run, burnin):
        value = "-" if np.isnan(c.value) else f"{c.value:.3g}"
        error = "" if np.isnan(c.uncertainty) else f" ± {c.uncertainty:.2g}"
        lines.append(f"{mark[c.verdict]}  {c.check:18} {value + error:16} {c.meaning}")
        if c.verdict in ("warn", "fail") and c.do:
            wide = max(20, width - 10)
            lines += [f"          {part}" for part in textwrap.wrap("→ " + c.do, wide)]
    return "\n".join(lines)


def checks(run: Any, burnin: int | None = None) -> list[Check]:
    """The rows of `health`, in order."""
    first = _chains(run)
    try:
        steps = steps_after_burnin(run, burnin)
    except (Diverged, InputError) as cause:
        why = str(cause)
        if first.verdict == "fail":
            return [first]
        return [first, Check("trace level", np.nan, np.nan, "unknown", "no estimate yet", why)]
    values = gains(steps)
    alike = not steps.comparable()
    whole = summary(values) if alike else {"mean": np.nan, "mcse": np.nan, "ess": 0, "rhat": 0}
    each: list[Callable[[], Check]] = [
        lambda: _level(values, whole, alike),
        lambda: _drift(values),
        lambda: _rhat(steps, whole),
        lambda: _ess(steps, values, whole),
        lambda: _acceptance(steps, whole),
        lambda: _virial(steps),
        lambda: _share(steps, values),
    ]
    return [first, *(c() for c in each), *_probes(run)]


def _chains(run: Any) -> Check:
    data = trees.sampling(run)
    total = data.sizes[names.CHAIN]
    bad = trees.statuses(run)
    verdict = "ok" if not bad else "fail" if len(bad) == total else "warn"
    said = "; ".join(f"chain {k} {v}" for k, v in bad.items())
    return Check(
        "chains",
        float(len(bad)),
        np.nan,
        verdict,
        f"{said} (left out of every average)" if bad else f"all {total} chains are finite",
        "use a smaller step_size, or a smaller nbeta or gamma" if bad else "",
    )


def _level(values: np.ndarray, whole: dict, alike: bool) -> Check:
    if not alike:  # one row for chains of several settings: the worst of them
        each = [summary(v[None]) for v in values]
        whole = min(each, key=lambda s: s["mean"])
    mean, error = whole["mean"], whole["mcse"]
    low = mean < -2 * (error if np.isfinite(error) else 0)
    verdict = "fail" if low else "ok" if mean > 2 * np.nan_to_num(error) else "warn"
    meaning = {
        "ok": "the loss rises above the loss at w*, as around a minimum",
        "warn": "the rise of the loss (LLC) cannot be told from 0",
        "fail": "the LLC is negative: the loss falls below the loss at w*",
    }[verdict]
    do = {
        "ok": "",
        "warn": "draw more, or raise nbeta so that the data matter more",
        "fail": "w* is no minimum of this loss: train further, use the training data and its "
        "loss, or lower step_size; a larger gamma keeps the chain closer",
    }[verdict]
    return Check("trace level", mean, error, verdict, meaning, do)


def _drift(values: np.ndarray) -> Check:
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


def _rhat(steps: Steps, whole: dict) -> Check:
    meaning = "agreement of the chains (1: they sample the same)"
    reason = steps.comparable() or ("one chain" if len(steps.used) < 2 else "")
    if reason or not np.isfinite(whole["rhat"]):
        do = f"cannot be computed: {reason or 'too few steps'}; use chains=4 of one setting"
        return Check("R-hat", np.nan, np.nan, "unknown", meaning, do)
    value = whole["rhat"]
    verdict = "ok" if value <= 1.05 else "warn" if value <= 1.2 else "fail"
    do = "" if verdict == "ok" else "draw longer or lengthen burnin; look at the traces by chain"
    return Check("R-hat", value, np.nan, verdict, meaning, do)


def _ess(steps: Steps, values: np.ndarray, whole: dict) -> Check:
    meaning = f"independent draws that the {values.size} steps are worth"
    value = whole["ess"]
    if steps.comparable() or not np.isfinite(value):
        reason = steps.comparable() or "too few steps"
        return Check("ESS", np.nan, np.nan, "unknown", meaning, f"cannot be computed: {reason}")
    verdict = "ok" if value >= 100 else "warn" if value >= 20 else "fail"
    do = "" if verdict == "ok" else "draw more steps, or raise step_size while acceptance is high"
    return Check("ESS", value, np.nan, verdict, meaning, do)


def _acceptance(steps: Steps, whole: dict) -> Check:
    meaning = "share of steps that a Metropolis test on a batch would accept"
    values = _draws(steps, names.ACCEPT)
    if values is None:
        do = "the run holds no acceptance"
        return Check("acceptance", np.nan, np.nan, "unknown", meaning, do)
    means = [row[np.isfinite(row)].mean() for row in values if np.isfinite(row).any()]
    value = float(np.mean(means))
    error = float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else np.nan
    slow = value > 0.99 and whole["ess"] < 100 and np.isfinite(whole["ess"])
    verdict = "fail" if value < 0.1 else "warn" if value < 0.5 or slow else "ok"
    do = {"ok": ""}.get(verdict, "lower step_size" if value < 0.5 else "raise step_size")
    return Check("acceptance", value, error, verdict, meaning, do)


def _virial(steps: Steps) -> Check:
    meaning = "(w - w*)·∇U / dim, which is 1 at equilibrium"
    if names.VIRIAL not in steps.data or not np.isfinite(steps.series(names.VIRIAL)).all():
        return Check("virial", np.nan, np.nan, "unknown", meaning, "the run holds no virial ratio")
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


def rho_loc(run: Any, burnin: int | None = None) -> Check:
    """The check `rho_loc` alone: see `health`."""
    steps = steps_after_burnin(run, burnin)
    return _share(steps, gains(steps))


def _share(steps: Steps, values: np.ndarray) -> Check:
    meaning = "rise of the loss over its rise under pure localization noise (1: noise rules)"
    after = _rows(steps, names.CONTROL_LOSS, names.CONTROL)
    before = _rows(steps, names.CONTROL_INIT_LOSS, names.CONTROL)
    nbeta = steps.nbeta()
    control = np.zeros(0) if after is None or before is None else after - before
    control = control[np.isfinite(control)]
    if not control.size or not (nbeta > 0).all():
        do = "needs gamma > 0 and nbeta > 0, and a run that drew the control"
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


def _probes(run: Any) -> list[Check]:
    try:
        known = trees.probe_names(run)
    except InputError:
        return []
    return [c for c in (_probe(run, name) for name in known) if c is not None]


def _probe(run: Any, name: str) -> Check | None:
    """R-hat of a sample of the probe's token losses, by the batched form of ArviZ's."""
    data = trees.probe(run, name)[names.LOSS]
    every = max(1, data.isel({names.CHAIN: 0, names.DRAW: 0}).size // _TOKENS)
    if names.TOKEN in data.dims:
        data = data.isel({names.TOKEN: slice(every // 2, None, every)})
    elif every > 1:
        data = data.isel({names.EXAMPLE: slice(every // 2, None, every)})
    meaning = "share of token losses whose chains disagree (R-hat above 1.1)"
    unknown = Check(f"tokens of {name}", np.nan, np.nan, "unknown", meaning, "too few draws yet")
    try:
        raw = _moments.gather(data, skip=tuple(trees.statuses(run)))
    except Diverged:
        return unknown
    _, counts = np.unique(raw.chain, return_counts=True)
    kept = counts * 2 >= counts.max()
    length = counts[kept].min()
    if kept.sum() < 2 or length < 8:
        return unknown
    chains = np.unique(raw.chain)[kept]
    x = np.stack([raw.x[raw.chain == c][:length] for c in chains])
    r = _mixing.rhat(x)
    r = r[np.isfinite(r)]
    if not r.size:
        return unknown
    value = float((r > 1.1).mean())
    verdict = "ok" if value <= 0.05 else "warn" if value <= 0.3 else "fail"
    do = "" if verdict == "ok" else "influence and kernel are not settled: draw more, or thin more"
    return Check(f"tokens of {name}", value, np.nan, verdict, meaning, do)


def _rows(steps: Steps, name: str, dim: str) -> np.ndarray | None:
    if name not in steps.data:
        return None
    array = steps.data[name].transpose(names.CHAIN, dim).isel({names.CHAIN: steps.used})
    return np.asarray(trees.read(array), np.float64)


def _draws(steps: Steps, name: str) -> np.ndarray | None:
    found = _rows(steps, name, names.DRAW)
    return None if found is None or not np.isfinite(found).any() else found
