"""The linear datamodeling score (LDS) of an attribution against retraining, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from slt_notebook.errors import InputError, say
from slt_notebook.toys.retraining import Retraining, retrain

_PIECES = 10  # groups of subsets whose omission gives the standard error


def lds(
    problem: Retraining | None = None,
    scores: Mapping[str, Any] | None = None,
    *,
    retrained: xr.Dataset | None = None,
    alphas: Sequence[float] = (0.2, 0.5, 0.8),
    subsets: int = 100,
    seeds: int = 3,
    level: float = 0.95,
) -> xr.Dataset:
    """Rank correlation of summed scores with the losses of models retrained on random subsets.

        f_q(S) = sum_{i in S} score(q, i),     LDS = mean over q of Spearman_S( f_q(S), l_q(w_S) )

    with l_q(w_S) the query's loss after training on S, averaged over initializations.  Scores have
    the sign of the Bayesian influence (negative = helpful), so 1 is perfect and 0 is chance.  The
    `ceiling` is the LDS of the models' own losses from other initializations, where there are two
    or more: no attribution of one model can be expected to beat the noise of training.

    Args:
        problem: Trains the subsets here (minutes); or pass `retrained`, made by `retrain` before.
        scores: `{name: array [query, example]}` (an `influence` Dataset of sequences will do).
        retrained: What `retrain` returned, in place of `problem`.
        alphas: As in `retrain`: fractions of the training set.
        subsets: As in `retrain`: subsets of each fraction.
        seeds: As in `retrain`: initializations of each subset.
        level: Of the interval.

    Returns:
        Dataset over (attribution, alpha): `lds`, `stderr`, `lower`, `upper`; `by_query` of each
        query; `difference` over (attribution, attribution_) = row less column, `difference_stderr`
        (paired: the same subsets and queries); `ceiling(alpha)`.  Standard errors: jackknife over
        ten groups of subsets and spread over queries, added in squares.

    Raises:
        InputError: Neither problem nor retrained, or scores of another shape.

    References: Ilyas et al. 2022 (arXiv:2202.00622); Park et al. 2023 (arXiv:2303.14186).
    """
    if retrained is None:
        if problem is None:
            raise InputError(say("no problem", "one, or retrained models", "pass digits_problem()"))
        retrained = retrain(problem, alphas=alphas, subsets=subsets, seeds=seeds)
    methods = {k: _scores(k, v, retrained) for k, v in (scores or {}).items()}
    target = retrained["loss"].transpose("alpha", "subset", "seed", "query").values.mean(2)
    mask = retrained["mask"].transpose("alpha", "subset", "example").values.astype(np.float64)
    every = {k: np.einsum("asn,qn->asq", mask, s) for k, s in methods.items()}
    many, size = target.shape[1], target.shape[2]
    whole = np.array([_spearman(f, target) for f in every.values()]).reshape(-1, len(mask), size)
    pieces = np.array_split(np.arange(many), min(_PIECES, many))
    without = np.array(
        [
            [
                _spearman(np.delete(f, p, 1), np.delete(target, p, 1)).mean(-1)
                for f in every.values()
            ]
            for p in pieces
        ]
    ).reshape(len(pieces), -1, len(mask))
    value = whole.mean(-1)
    half = stats.norm.ppf(0.5 + level / 2) * (error := _error(whole, without))
    pairs = whole[:, None] - whole[None]
    pairs_without = without[:, :, None] - without[:, None]
    labels = list(methods)
    both = ("attribution", "alpha")
    three = ("attribution", "attribution_", "alpha")
    return xr.Dataset(
        {
            "lds": (both, value),
            "stderr": (both, error),
            "lower": (both, value - half),
            "upper": (both, value + half),
            "by_query": ((*both, "query"), whole),
            "difference": (three, pairs.mean(-1)),
            "difference_stderr": (three, _error(pairs, pairs_without)),
            "ceiling": ("alpha", _ceiling(retrained)),
        },
        {
            "attribution": labels, "attribution_": labels, "alpha": retrained["alpha"].values,
            "query": retrained["query"].values,
        },
        {
            "formula": "mean over queries of Spearman over subsets",
            "source": "arXiv:2303.14186",
            "subsets": many,
            "seeds": retrained.sizes["seed"],
            "level": level,
            "stderr_from": "jackknife over groups of subsets, and spread over queries",
        },
    )  # fmt: skip


def _scores(name: str, value: Any, retrained: xr.Dataset) -> np.ndarray:
    if isinstance(value, xr.Dataset):
        value = value["influence"]
    array = np.asarray(getattr(value, "values", value), np.float64)
    shape = (retrained.sizes["query"], retrained.sizes["example"])
    if array.shape != shape or not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        got = f"scores of {name!r}: shape {array.shape}, {bad} not finite"
        raise InputError(
            say(
                got,
                f"finite numbers of shape {shape} (query, example)",
                "reindex the scores by query and example",
            )
        )
    return array


def _spearman(f: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Over axis 1 of `[alpha, subset, query]`; 0 where a prediction does not vary."""
    a, b = (stats.rankdata(x, axis=1) for x in (f, target))
    a -= a.mean(1, keepdims=True)
    b -= b.mean(1, keepdims=True)
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.where(scale > 0, (a * b).sum(1) / np.where(scale > 0, scale, 1), 0.0)


def _error(whole: np.ndarray, without: np.ndarray) -> np.ndarray:
    count = len(without)
    jackknife = (count - 1) / count * ((without - without.mean(0)) ** 2).sum(0)
    return np.sqrt(jackknife + whole.var(-1, ddof=1) / whole.shape[-1])


def _ceiling(retrained: xr.Dataset) -> np.ndarray:
    loss = retrained["loss"].transpose("alpha", "subset", "seed", "query").values
    seeds = loss.shape[2]
    if seeds < 2:
        return np.full(len(loss), np.nan)
    found = [_spearman(loss[:, :, s], np.delete(loss, s, 2).mean(2)).mean(-1) for s in range(seeds)]
    return np.mean(found, axis=0)
