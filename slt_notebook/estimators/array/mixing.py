"""ESS, R-hat and Monte Carlo standard error of many series at once.

ArviZ takes milliseconds per scalar series, and a probe has tens of thousands.  These functions do
the same arithmetic on `[chain, draw, series]` by FFT and sorting along axes (tests compare them
with ArviZ).  Series that are constant or not finite give NaN and do not affect others.

Source: Vehtari et al. 2021 (arXiv:1903.08008), Geyer 1992.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft  # pyright: ignore[reportMissingTypeStubs]  # scipy has none
import scipy.special  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

Array = NDArray[Any]
fft: Any = scipy.fft
special: Any = scipy.special
_SLAB = 2**26  # bytes of float64 work at a time
_BATCHES = 8  # batch means in an interval, at least


def ess(x: Array) -> Array:
    """Return the effective sample size for the mean, `[chain, draw, series] -> [series]`.

    `C T / tau`, where `tau` sums the autocorrelations of the split chains over Geyer's initial
    monotone sequence; the autocorrelations include the spread between chains.
    """
    return _by_slab(_ess, x)


def rhat(x: Array) -> Array:
    """Return the rank-normalized split R-hat, `[chain, draw, series] -> [series]`.

    NaN for one chain.
    """
    return _by_slab(_rhat, x)


def mcse(x: Array) -> Array:
    """Return the Monte Carlo standard error of the mean, `sd / sqrt(ESS)`.

    `[chain, draw, series] -> [series]`.
    """
    return _by_slab(_mcse, x)


def half_width(values: Array, mcse_value: float, effective: float, level: float = 0.95) -> float:
    """Return half the width of a confidence interval for the mean of `[chain, draw]`.

    The larger of two t intervals, since each is too short in some cases:

    - `t * MCSE` with `max(C - 1, ESS / 4 - 1, 1)` degrees of freedom: the estimated MCSE has about
      one for every four effective draws in long chains, and C - 1 in short ones.  It misses a slow
      component that is hidden by fast noise.
    - `t * sd / sqrt(B)` over the means of B >= 8 batches (whole chains, or equal pieces of them)
      with B - 1 degrees of freedom.  It is too short when a batch is no longer than the memory of
      the chain.

    On AR(1) chains of 1 to 40 autocorrelation times and on SGLD around quadratic minima the 95 %
    interval covers 93 to 99 %; the normal interval covers as little as 60 %
    (`python -m tests.estimators.llc.test_coverage`).

    Args:
        values: `[chain, draw]`.
        mcse_value: Their Monte Carlo standard error.
        effective: Their effective sample size.
        level: Confidence level.
    """
    chains, draws = values.shape
    freedom = max(chains - 1, effective / 4 - 1, 1.0)
    spectral = special.stdtrit(freedom, 0.5 + level / 2) * mcse_value
    pieces = -(-_BATCHES // chains)
    length = draws // pieces
    if length < 2:
        return float(spectral)
    means = values[:, draws - pieces * length :].reshape(-1, length).mean(1)
    error = means.std(ddof=1) / np.sqrt(len(means))
    return float(max(spectral, special.stdtrit(len(means) - 1, 0.5 + level / 2) * error))


def _by_slab(function: Callable[[Array], Array], x: Array) -> Array:
    chains, draws, series = x.shape
    if draws < 4:
        return np.full(int(series), np.nan)
    width = max(1, _SLAB // (8 * 4 * chains * draws))
    parts = [
        function(np.asarray(x[:, :, i : i + width], dtype=np.float64))
        for i in range(0, series, width)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _mcse(x: Array) -> Array:
    deviation: Array = x.std((0, 1), ddof=1)
    return deviation / np.sqrt(_ess(x))


def _split(x: Array) -> Array:
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, -half:]])


def _usable(x: Array) -> Array:
    """Return which series are finite and not constant; others would give inf or 0/0."""
    finite = np.isfinite(x).all((0, 1))
    spread = np.where(finite, np.ptp(np.where(finite, x, 0.0), axis=(0, 1)), 0.0)
    return finite & (spread > np.finfo(float).resolution)


def _without(good: Array, x: Array) -> Array:
    """Return `x` with some finite, varying numbers in the series that are not good."""
    numbers: Array = np.arange(int(x.shape[1]))
    return np.where(good, x, numbers[None, :, None])


def _ess(x: Array) -> Array:
    good = _usable(x)
    split = _split(_without(good, x))
    chains, draws, _ = split.shape
    centred = split - split.mean(1, keepdims=True)
    length = fft.next_fast_len(2 * draws, real=True)
    power = np.abs(np.asarray(fft.rfft(centred, length, axis=1))) ** 2
    acov = np.asarray(fft.irfft(power, length, axis=1))[:, :draws].mean(0) / draws
    within = acov[0] * draws / (draws - 1)
    total = acov[0] + split.mean(1).var(0, ddof=1)
    rho = 1 - (within - acov) / total
    rho[0] = 1.0
    pairs = rho[0 : draws - draws % 2 : 2] + rho[1::2]  # [pair, series]
    # Geyer: the sum ends at the first pair that is not positive, or at the last pair.
    last = max((int(draws) - 3) // 2, 0)
    index: Array = np.arange(last + 1)[:, None]
    stop: Array = np.where(pairs[: last + 1] > 0, last, index).min(0)
    monotone = np.minimum.accumulate(pairs, axis=0)
    before = np.arange(len(pairs))[:, None] < stop
    even = np.take_along_axis(rho[0::2], stop[None], 0)[0]
    whole = np.take_along_axis(pairs, stop[None], 0)[0] >= 0
    tail = np.where(whole | (even > 0), even, 0.0)
    size = chains * draws
    tau = -1 + 2 * (monotone * before).sum(0) + tail
    return np.where(good, size / np.maximum(tau, 1 / np.log10(size)), np.nan)


def _rhat(x: Array) -> Array:
    if x.shape[0] < 2:
        return np.full(int(x.shape[2]), np.nan)
    good = _usable(x)
    split = _split(_without(good, x))
    folded = np.abs(split - np.median(split, axis=(0, 1)))
    both = np.maximum(_plain_rhat(_normal_scores(split)), _plain_rhat(_normal_scores(folded)))
    return np.where(good, both, np.nan)


def _plain_rhat(x: Array) -> Array:
    draws = x.shape[1]
    between = draws * x.mean(1).var(0, ddof=1)
    within = x.var(1, ddof=1).mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt((between / within + draws - 1) / draws)


def _normal_scores(x: Array) -> Array:
    # It takes half a second to import, and is seldom needed.
    import scipy.stats  # pyright: ignore[reportMissingTypeStubs]

    stats: Any = scipy.stats
    flat = x.reshape(-1, x.shape[2])
    ranks = stats.rankdata(flat, axis=0)
    return special.ndtri((ranks - 0.375) / (len(flat) + 0.25)).reshape(x.shape)
