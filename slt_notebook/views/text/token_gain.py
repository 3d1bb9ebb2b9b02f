"""The loss gain of every token of a probe: the expected rise of its loss around w*."""

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from slt_notebook import names
from slt_notebook.errors import Diverged, say
from slt_notebook.estimators.array import mixing
from slt_notebook.results.result import resolve
from slt_notebook.results.store import read


def usable_chains(data: xr.Dataset, skip: dict) -> tuple[np.ndarray, int, dict]:
    """Which chains count, how many draws they all have, and why the others are left out.

    Left out: chains that the sampler marked (`skip`: label -> reason), chains without one finite
    draw, and chains with less than half of the draws of the longest.
    """
    loss = data[names.LOSS]
    rest = [str(d) for d in loss.dims if d not in (names.CHAIN, names.DRAW)]
    finite = loss.notnull().any(rest)  # an infinite loss is a draw too; `mcse` will say NaN
    done = read(finite.transpose(names.CHAIN, names.DRAW)).sum(1)
    labels = data[names.CHAIN].values if names.CHAIN in data.coords else np.arange(len(done))
    why = {}
    for label, n in zip(labels, done, strict=True):
        if label in skip:
            why[int(label)] = skip[label]
        elif n == 0:
            why[int(label)] = "no finite draw"
        elif n < done.max() / 2:
            why[int(label)] = f"only {n} draws"
    keep = np.array([int(label) not in why for label in labels])
    if not keep.any() or done[keep].min() < 4:
        raise Diverged(say("no chain with 4 finite draws", "at least one", "sample longer"))
    return keep, int(done[keep].min()), why


def loss_gain(run: Any, name: str | None = None) -> tuple[xr.Dataset, dict]:
    """Return the expected rise of each token's loss, with its Monte Carlo error.

        gain = E[loss(w)] - loss(w*)        in nats, over draws of all chains

    `error` is `sd / sqrt(ESS)` (`estimators.mixing.mcse`, which sees the spread between chains);
    `z` multiplies it into half of a 95 % interval: Student's t with max(C - 1, ESS / 4 - 1, 1)
    degrees of freedom at the median ESS.  Summed over tokens and scaled by nbeta, gains are the
    LLC's probe-side analogue (arXiv:2308.12108), which is why they are worth looking at one by one.

    Returns:
        (Dataset `gain, error, init_loss, sd` with dims (example[, token]), a dict
        `{z, chains, draws, excluded}`).

    Raises:
        Diverged: No chain with at least 4 finite draws.
    """
    result = resolve(run)
    data = result.probe(name)
    keep, draws, why = usable_chains(data, result.diverged)
    rest = [d for d in (names.EXAMPLE, names.TOKEN) if d in data[names.LOSS].dims]
    loss = data[names.LOSS].transpose(names.CHAIN, names.DRAW, *rest)
    x = read(loss.isel({names.CHAIN: np.flatnonzero(keep), names.DRAW: slice(draws)}))
    shape = x.shape[2:]
    flat = x.reshape(*x.shape[:2], -1)
    with np.errstate(invalid="ignore"):
        mean = flat.mean((0, 1), dtype=np.float64)
        sd = flat.std((0, 1), dtype=np.float64)
    effective = mixing.ess(flat)
    error = sd / np.sqrt(effective)
    typical = float(np.nanmedian(effective)) if np.isfinite(effective).any() else 4.0
    freedom = max(keep.sum() - 1, typical / 4 - 1, 1)
    init = read(data[names.INIT_LOSS].transpose(*rest))
    table = {
        "gain": mean.reshape(shape) - init,
        "error": error.reshape(shape),
        "init_loss": init,
        "sd": sd.reshape(shape),
    }
    about = {
        "z": float(stats.t.ppf(0.975, freedom)),
        "chains": int(keep.sum()),
        "draws": draws,
        "ess": typical,
        "excluded": why,
    }
    return xr.Dataset({k: (rest, v) for k, v in table.items()}), about
