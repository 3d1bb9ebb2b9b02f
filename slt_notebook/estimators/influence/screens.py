"""Checks of an influence matrix, made before its entries are ranked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.array import mixing
from slt_notebook.estimators.array.moments import Raw, by_chain, common
from slt_notebook.estimators.deprecated import UNIT, renamed
from slt_notebook.estimators.losses import gather
from slt_notebook.estimators.run_checks import COLUMNS, Check
from slt_notebook.results.result import Result, resolve
from slt_notebook.results.selection import check_unit, pick

if TYPE_CHECKING:
    import pandas as pd

_PAIRS = 400  # pairs of losses that are checked, at random
_SERIES = 1500  # losses that are checked, at random


@renamed(**UNIT)
def screen(
    run: Any,
    *,
    query: Any = None,
    train: Any = None,
    control: Any = None,
    unit: str = "token",
    seed: int = 0,
) -> pd.DataFrame:
    """Return checks of an influence matrix as a table; for checks of the run see `slt.health`.

    - `time trend`: the share of a loss's variance that a straight line in time explains, in the
      median series, per chain.  A chain that still drifts makes all losses correlate.  Above 15 %
      warns, above 40 % fails.
    - `split R-hat`: the share of losses with R-hat above 1.1.  More than 5 % warns, 30 % fails.
    - `ESS of products`: effective draws of `z_q z_t`, whose mean is the covariance, in the median
      pair.  Below 100 warns, below 20 fails.
    - `signal`: the share of pairs whose 95 % interval excludes 0 (0.05 by chance).  Below 0.1
      warns: rankings of such a matrix are mostly noise.
    - `nbeta = 0`: correlation of the matrix with that of a `control` run without the loss.  Above
      0.9 warns: the ranking shows the gradients at w* rather than the posterior.  A control with
      the seed of the run warns too: the same noise alone makes the two matrices similar.

    Args:
        run: A run, or a probe Dataset.
        query: As in `influence`.
        train: As in `influence`.
        unit: As in `influence`.
        control: The same run sampled with `nbeta=0.0` and another seed, or None to leave that
            check out.
        seed: Of the random choice of the losses and pairs that are checked.

    Returns:
        pandas.DataFrame with the columns of `slt.health`; `frame.attrs["verdict"]` is the worst.

    Raises:
        InputError: Unknown names.  Diverged: No chain with two finite draws.
    """
    import pandas as pd

    result = resolve(run)
    a, b = _sides(result, query, train, check_unit(unit))
    rng = np.random.default_rng(seed)
    pairs = _pairs(a, b, rng)
    rows = [_trend(a, rng), _rhat(a, rng), *_products(a, b, pairs)]
    if control is not None:
        rows.append(_control(result, (a, b), resolve(control), query, train, unit, rng))
    frame = pd.DataFrame([vars(c) for c in rows], columns=list(COLUMNS))
    order = {"ok": 0, "unknown": 1, "warn": 2, "fail": 3}
    frame.attrs["verdict"] = max((c.verdict for c in rows), key=order.__getitem__)
    return frame


def _sides(result: Result, query: Any, train: Any, unit: str) -> tuple[Raw, Raw]:
    skip = result.diverged
    a = gather(pick(result, query)[names.LOSS], unit=unit, skip=skip)
    if train is None and query is None:
        return a, a
    b = gather(pick(result, train)[names.LOSS], unit=unit, skip=skip)
    return common(a, b)


def _chains(raw: Raw, series: np.ndarray) -> np.ndarray:
    """Return `[chain, draw, series]` float64, all chains cut to the shortest."""
    return by_chain(raw, series, least=0.0).astype(np.float64)


def _usable(raw: Raw) -> np.ndarray:
    good = np.isfinite(raw.x).all(0)
    return np.flatnonzero(good & (np.ptp(np.where(good, raw.x, 0), axis=0) > 0))


def _pairs(a: Raw, b: Raw, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    left, right = _usable(a), _usable(b)
    if not len(left) or not len(right):
        raise InputError(say("no loss that varies", "some", "sample longer, or raise step_size"))
    i, j = rng.choice(left, _PAIRS), rng.choice(right, _PAIRS)
    keep = i != j if a is b else np.ones(_PAIRS, bool)
    return i[keep], j[keep]


def _some(raw: Raw, rng: np.random.Generator) -> np.ndarray:
    known = _usable(raw)
    return rng.choice(known, min(_SERIES, len(known)), replace=False)


def _trend(raw: Raw, rng: np.random.Generator) -> Check:
    x = _chains(raw, _some(raw, rng))
    t = np.linspace(-1, 1, x.shape[1])
    t /= np.linalg.norm(t)
    z = x - x.mean(1, keepdims=True)
    share = (np.einsum("cds,d->cs", z, t) ** 2).sum(0) / (z**2).sum((0, 1))
    value = float(np.median(share))
    verdict = "fail" if value > 0.4 else "warn" if value > 0.15 else "ok"
    meaning = "share of a loss's variance that a line in time explains (median; per chain)"
    do = "" if verdict == "ok" else "lengthen burnin: drift correlates every loss with every other"
    return Check("time trend", value, np.nan, verdict, meaning, do)


def _rhat(raw: Raw, rng: np.random.Generator) -> Check:
    x = _chains(raw, _some(raw, rng))
    meaning = "share of losses whose chains disagree (split R-hat above 1.1)"
    if len(x) < 2 or x.shape[1] < 8:
        do = "needs two chains of 8 draws"
        return Check("split R-hat", np.nan, np.nan, "unknown", meaning, do)
    r = mixing.rhat(x)
    value = float((r[np.isfinite(r)] > 1.1).mean())
    verdict = "fail" if value > 0.3 else "warn" if value > 0.05 else "ok"
    do = "" if verdict == "ok" else "draw more or thin more; per-chain centering helps a little"
    return Check("split R-hat", value, np.nan, verdict, meaning, do)


def _products(a: Raw, b: Raw, pairs: tuple[np.ndarray, np.ndarray]) -> list[Check]:
    i, j = pairs
    x, y = _chains(a, i), _chains(b, j)
    z = (x - x.mean(1, keepdims=True)) * (y - y.mean(1, keepdims=True))
    with np.errstate(invalid="ignore"):
        effective = mixing.ess(z)
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
            "share of pairs whose 95 % interval excludes 0 (0.05 by chance)",
            "" if v2 == "ok" else "draw more, or rank sums over classes (slt.group_influence)",
        ),
    ]  # fmt: skip


def _control(
    result: Result,
    sides: tuple[Raw, Raw],
    control: Result,
    query: Any,
    train: Any,
    unit: str,
    rng: np.random.Generator,
) -> Check:
    a, b = sides
    c, d = _sides(control, query, train, unit)
    if a.x.shape[1] != c.x.shape[1] or b.x.shape[1] != d.x.shape[1]:
        raise InputError(say("a control with other probes", "the same", "sample it with nbeta=0"))
    left = np.intersect1d(_usable(a), _usable(c))
    right = np.intersect1d(_usable(b), _usable(d))
    i = rng.choice(left, min(200, len(left)), replace=False)
    j = rng.choice(right, min(200, len(right)), replace=False)

    def table(p, q):
        z, w = (_chains(s, k) for s, k in ((p, i), (q, j)))
        z, w = (x - x.mean(1, keepdims=True) for x in (z, w))
        z, w = (x.reshape(-1, x.shape[2]) / np.sqrt((x**2).sum((0, 1))) for x in (z, w))
        return z.T @ w

    off = ~(i[:, None] == j) if a is b else np.ones((len(i), len(j)), bool)
    found: Any = stats.pearsonr(table(a, b)[off], table(c, d)[off])
    value = float(found.statistic)
    do = "raise nbeta or lower gamma until the data matter" if value > 0.9 else ""
    own = _seed(result)
    if own is not None and own == _seed(control):
        do = f"sample the control with a seed other than {own}: the two runs share their noise"
    verdict = "warn" if do else "ok"
    meaning = "correlation with the matrix of a run without the loss (nbeta = 0)"
    return Check("nbeta = 0", value, np.nan, verdict, meaning, do)


def _seed(result: Result) -> int | None:
    """Return the seed of a run; None for a probe Dataset, which does not hold it."""
    task = result.attrs.get(names.A_TASK)
    return json.loads(task).get("seed") if isinstance(task, str) else None
