"""May this influence be ranked?  Checks of the products of losses, before any list is believed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from scipy import stats

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.array import mixing as _mixing
from slt_notebook.estimators.array import moments as _moments
from slt_notebook.estimators.health import COLUMNS, Check
from slt_notebook.results import selection as _pick
from slt_notebook.results import tree as trees

_PAIRS = 400  # products that are looked at
_SERIES = 1500


def screen(
    run: Any,
    *,
    query: Any = None,
    train: Any = None,
    control: Any = None,
    level: str = "token",
    seed: int = 0,
):
    """Checks of an influence matrix, one row each; `slt.health` asks whether the run is well.

    - `time trend`: the share of a loss's variance that a straight line in time explains, in the
      median series, per chain.  A chain that still drifts makes all losses correlate.  Above 15 %
      warns, above 40 % fails.
    - `split R-hat`: the share of losses with R-hat above 1.1.  More than 5 % warns, 30 % fails.
    - `ESS of products`: effective draws of `z_q z_t`, in the median pair (what a covariance is the
      mean of).  Below 100 warns, below 20 fails.
    - `signal`: the share of pairs whose 95 % interval leaves 0 out (0.05 by chance).  Below 0.1
      warns: rankings of such a matrix are mostly noise.
    - `nbeta = 0`: correlation of the matrix with that of a `control` run without the loss.  Above
      0.9 warns: what is ranked is the geometry of gradients at w* rather than the posterior.  A
      control of the run's own seed warns too: both move by the same noise, which alone makes their
      matrices alike.

    Args:
        run: A run, or a probe Dataset.
        query, train, level: As in `influence`.
        control: The same run sampled with `nbeta=0.0` and another seed, or None to leave that
            check out.
        seed: Of the choice of 400 pairs that are looked at.

    Returns:
        pandas.DataFrame with the columns of `slt.health`; `frame.attrs["verdict"]` is the worst.

    Raises:
        InputError: Unknown names.  Diverged: No chain with two finite draws.
    """
    import pandas as pd

    _pick.check_level(level)
    a, b = _sides(run, query, train, level)
    rng = np.random.default_rng(seed)
    pairs = _pairs(a, b, rng)
    rows = [_trend(a, rng), _rhat(a, rng), *_products(a, b, pairs)]
    if control is not None:
        rows.append(_control(run, control, query, train, level, rng))
    frame = pd.DataFrame([vars(c) for c in rows], columns=list(COLUMNS))
    order = {"ok": 0, "unknown": 1, "warn": 2, "fail": 3}
    frame.attrs["verdict"] = max((c.verdict for c in rows), key=order.__getitem__)
    return frame


def _sides(run, query, train, level) -> tuple[_moments.Raw, _moments.Raw]:
    skip = tuple(_pick.skipped(run))
    rows = _pick.pick(run, query)
    a = _moments.gather(rows[names.LOSS], level=level, skip=skip)
    if train is None and query is None:
        return a, a
    b = _moments.gather(_pick.pick(run, train)[names.LOSS], level=level, skip=skip)
    return _moments.common(a, b)


def _square(raw: _moments.Raw, columns: np.ndarray) -> np.ndarray:
    labels, counts = np.unique(raw.chain, return_counts=True)
    length = counts.min()
    return np.stack([raw.x[raw.chain == c][:length, columns] for c in labels]).astype(np.float64)


def _usable(raw: _moments.Raw) -> np.ndarray:
    good = np.isfinite(raw.x).all(0)
    return np.flatnonzero(good & (np.ptp(np.where(good, raw.x, 0), axis=0) > 0))


def _pairs(a, b, rng) -> tuple[np.ndarray, np.ndarray]:
    left, right = _usable(a), _usable(b)
    if not len(left) or not len(right):
        raise InputError(say("no loss that varies", "some", "sample longer, or raise step_size"))
    i, j = rng.choice(left, _PAIRS), rng.choice(right, _PAIRS)
    keep = i != j if a is b else np.ones(_PAIRS, bool)
    return i[keep], j[keep]


def _some(raw, rng) -> np.ndarray:
    known = _usable(raw)
    return rng.choice(known, min(_SERIES, len(known)), replace=False)


def _trend(raw, rng) -> Check:
    x = _square(raw, _some(raw, rng))
    t = np.linspace(-1, 1, x.shape[1])
    t /= np.linalg.norm(t)
    z = x - x.mean(1, keepdims=True)
    share = (np.einsum("cds,d->cs", z, t) ** 2).sum(0) / (z**2).sum((0, 1))
    value = float(np.median(share))
    verdict = "fail" if value > 0.4 else "warn" if value > 0.15 else "ok"
    meaning = "share of a loss's variance that a line in time explains (median; per chain)"
    do = "" if verdict == "ok" else "lengthen burnin: drift correlates every loss with every other"
    return Check("time trend", value, np.nan, verdict, meaning, do)


def _rhat(raw, rng) -> Check:
    x = _square(raw, _some(raw, rng))
    meaning = "share of losses whose chains disagree (split R-hat above 1.1)"
    if len(x) < 2 or x.shape[1] < 8:
        do = "needs two chains of 8 draws"
        return Check("split R-hat", np.nan, np.nan, "unknown", meaning, do)
    r = _mixing.rhat(x)
    value = float((r[np.isfinite(r)] > 1.1).mean())
    verdict = "fail" if value > 0.3 else "warn" if value > 0.05 else "ok"
    do = "" if verdict == "ok" else "draw more or thin more; the centring per chain helps a little"
    return Check("split R-hat", value, np.nan, verdict, meaning, do)


def _products(a, b, pairs) -> list[Check]:
    i, j = pairs
    x, y = _square(a, i), _square(b, j)
    z = (x - x.mean(1, keepdims=True)) * (y - y.mean(1, keepdims=True))
    with np.errstate(invalid="ignore"):
        effective = _mixing.ess(z)
        error = z.std((0, 1)) / np.sqrt(effective)
    effective = float(np.nanmedian(effective))
    v1 = "fail" if effective < 20 else "warn" if effective < 100 else "ok"
    do = "" if v1 == "ok" else "draw more: a covariance is the mean of these products"
    share = np.abs(z.mean((0, 1))) > 1.96 * error
    value = float(share[np.isfinite(error)].mean())
    v2 = "warn" if value < 0.1 else "ok"
    return [
        Check("ESS of products", effective, np.nan, v1, "effective draws of z_q z_t (median)", do),
        Check(
            "signal", value, float(np.sqrt(value * (1 - value) / len(share))), v2,
            "share of pairs whose 95 % interval leaves 0 out (0.05 by chance)",
            "" if v2 == "ok" else "draw more, or rank sums over classes (slt.group_influence)",
        ),
    ]  # fmt: skip


def _control(run, control, query, train, level, rng) -> Check:
    a, b = _sides(run, query, train, level)
    c, d = _sides(control, query, train, level)
    if a.x.shape[1] != c.x.shape[1] or b.x.shape[1] != d.x.shape[1]:
        raise InputError(say("a control with other probes", "the same", "sample it with nbeta=0"))
    left = np.intersect1d(_usable(a), _usable(c))
    right = np.intersect1d(_usable(b), _usable(d))
    i = rng.choice(left, min(200, len(left)), replace=False)
    j = rng.choice(right, min(200, len(right)), replace=False)

    def table(p, q):
        z, w = (_square(s, k) for s, k in ((p, i), (q, j)))
        z, w = (x - x.mean(1, keepdims=True) for x in (z, w))
        z, w = (x.reshape(-1, x.shape[2]) / np.sqrt((x**2).sum((0, 1))) for x in (z, w))
        return z.T @ w

    off = ~(i[:, None] == j) if a is b else np.ones((len(i), len(j)), bool)
    value = float(stats.pearsonr(table(a, b)[off], table(c, d)[off])[0])
    do = "raise nbeta or lower gamma until the data matter" if value > 0.9 else ""
    own = _seed(run)
    if own is not None and own == _seed(control):
        do = f"sample the control with another seed than the run's, {own}: they share their noise"
    verdict = "warn" if do else "ok"
    meaning = "correlation of the matrix with one drawn without the loss (nbeta = 0)"
    return Check("nbeta = 0", value, np.nan, verdict, meaning, do)


def _seed(run: Any) -> int | None:
    """The seed of a run; None for a probe Dataset, which does not know it."""
    try:
        task = trees.as_tree(run).attrs.get(names.A_TASK)
    except InputError:
        return None
    return json.loads(task).get("seed") if isinstance(task, str) else None
