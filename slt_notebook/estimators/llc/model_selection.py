"""Model selection: WAIC, WBIC, the free energy, and where two free energies cross.

All logarithms are natural, all losses in nats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.array.moments import Raw, centre
from slt_notebook.estimators.llc.llc import gains, summary
from slt_notebook.estimators.losses import gather
from slt_notebook.results.result import resolve
from slt_notebook.results.selection import excluded_text, pick
from slt_notebook.results.settings import data_size, observation_beta, one_value
from slt_notebook.results.steps import steps_after_burnin

_WBIC_TOLERANCE = 0.02  # relative difference of nbeta to n / log n that still counts as equal


def waic(
    run: Any, *, probe: Any = None, n: int | None = None, beta: float | None = None
) -> xr.Dataset:
    """Return WAIC, an estimate of the generalization loss per observation.

        WAIC = mean_i [ -log E[exp(-l_i)] + beta Var(l_i) ]

    over training observations i, with E and Var over draws from `exp(-nbeta L - ...)` and
    `beta = nbeta / n`.  The losses stay raw; the temperature enters in front of the variance
    only.  It holds for every beta > 0 (Watanabe 2010, Section 4), is the usual WAIC at beta = 1,
    and estimates the loss of the Bayes predictive distribution *at that temperature*.  The
    posterior is also localized: the value describes the neighbourhood of w*.

    An observation is an example.  Of a text it is the sequence, with the sum of its token losses;
    since `nbeta` multiplies the mean loss of a token, beta is `nbeta / (n * tokens per example)`.

    Args:
        run: A run (its nbeta and data_size are used), or a probe Dataset with `beta`.
        probe: Which probe; it must hold training examples (a sample of them will do).
        n: Number of training examples; the run's data_size if None.
        beta: The inverse temperature of one observation, instead of `nbeta / n`.

    Returns:
        Dataset `waic`, `stderr` (spread over observations), `mcse` (spread over chains or
        batches: Monte Carlo error), `train_loss` (the Bayes training loss), `variance` (mean
        functional variance), `beta`.  In nats per observation.

    Raises:
        InputError: n or nbeta unknown or different between chains.  Diverged: No chain left.

    References: Watanabe 2010, JMLR 11 (WAIC); Watanabe 2018 (book, chapter 8).
    """
    result = resolve(run)
    data = pick(result, probe)
    if beta is None:
        beta = observation_beta(result, data, n)
    if not beta > 0:
        raise InputError(say(f"beta={beta}", "more than 0", "sample with nbeta > 0"))
    raw = gather(data[names.LOSS], unit="sequence", skip=result.diverged)
    traces = centre(raw, "within", np.float64)
    x = _rows(raw)[:, traces.usable]
    if not x.shape[1]:
        raise InputError(say("no example with finite losses", "at least one", "check the probe"))
    bayes = np.log(len(x)) - special.logsumexp(-x, axis=0)
    variance = traces.sd[traces.usable] ** 2
    each = bayes + beta * variance
    parts = [_waic_of(x[g], traces.z[g][:, traces.usable], beta) for g in traces.groups]
    count = len(parts)
    mcse = np.std(parts, ddof=1) / np.sqrt(count) if count > 1 else np.nan
    m = len(each)
    error = each.std(ddof=1) / np.sqrt(m) if m > 1 else np.nan
    values = {
        "waic": each.mean(),
        "stderr": error,
        "mcse": mcse,
        "train_loss": bayes.mean(),
        "variance": variance.mean(),
        "beta": beta,
    }
    attrs = {
        names.A_FORMULA: "mean_i [ -log E[exp(-l_i)] + beta Var(l_i) ]",
        names.A_SOURCE: "Watanabe 2010, JMLR 11",
        "units": "nat per observation",
        "observations": m,
        "observation_loss": "sum over tokens" if names.TOKEN in data[names.LOSS].dims else "loss",
        "mcse_from": f"{count} {'chains' if count == traces.chains else 'batches'}",
        "excluded": excluded_text(result.diverged),
    }
    return xr.Dataset({k: ((), float(v)) for k, v in values.items()}, attrs=attrs)


def _rows(raw: Raw) -> np.ndarray:
    """Return the rows that `centre` keeps: those of chains with two draws or more."""
    _, inverse, counts = np.unique(raw.chain, return_inverse=True, return_counts=True)
    return raw.x[counts[inverse] >= 2].astype(np.float64)


def _waic_of(x: np.ndarray, z: np.ndarray, beta: float) -> float:
    bayes = np.log(len(x)) - special.logsumexp(-x, axis=0)
    return float(np.mean(bayes + beta * np.einsum("ij,ij->j", z, z) / max(len(z) - 1, 1)))


def wbic(
    run: Any, *, n: int | None = None, burnin: int | None = None, strict: bool = True
) -> xr.Dataset:
    """Return WBIC, an estimate of the free energy.

        WBIC = E[n L(w)]  at  beta = 1 / log n,  that is at  nbeta = n / log n

    computed as `n L(w*) + (n / nbeta) llc`, with the paired baseline in the second term.  At any
    other temperature `E[n L]` is the derivative of the free energy by beta, not the free energy,
    and an error is raised.  The prior is the localization, whose normalization is not included:
    compare values of one gamma only.  A loss that is a mean over tokens gives the free energy of n
    tokens: pass their number as `n`.

    Args:
        run: A run, or its group `sampling`.
        n: Number of observations; the run's data_size if None.
        burnin: As in `llc`.
        strict: Raise an error at a temperature other than 1 / log n; with False, the attrs say so.

    Returns:
        Dataset `wbic`, `stderr` (Monte Carlo, with the batch noise of the baseline), `beta`,
        `beta_wanted`.  In nats.

    Raises:
        InputError: Another temperature, or n unknown or below 3.  Diverged: No chain left.

    References: Watanabe 2013, JMLR 14 (WBIC).
    """
    steps = steps_after_burnin(resolve(run), burnin)
    n = data_size(steps.data, n)
    if n < 3:
        raise InputError(say(f"n={n}", "3 or more", "pass the number of training examples"))
    nbeta = one_value(steps.data, names.NBETA)
    beta, wanted = nbeta / n, 1 / np.log(n)
    note = f"beta = {beta:.4g}; WBIC needs 1 / log n = {wanted:.4g}, nbeta = {n * wanted:.4g}"
    right = abs(beta / wanted - 1) <= _WBIC_TOLERANCE
    if strict and not right:
        raise InputError(
            say(
                f"a run at nbeta = {nbeta:g} with n = {n} ({note})",
                "the temperature of WBIC",
                f"sample with nbeta={n * wanted:.6g}, or pass strict=False for E[n L]",
            )
        )
    base = steps.series(names.INIT_LOSS)
    rise = summary(gains(steps))
    # Batches are drawn anew each step, so the baseline's error is that of independent values.
    base_error = base.std(ddof=1) / np.sqrt(base.size)
    values = {
        "wbic": n * base.mean() + n / nbeta * rise["mean"],
        "stderr": n * np.hypot(base_error, rise["mcse"] / nbeta),
        "beta": beta,
        "beta_wanted": wanted,
    }
    attrs = {
        names.A_FORMULA: "E[n L(w)] at beta = 1 / log n",
        names.A_SOURCE: "Watanabe 2013, JMLR 14",
        "units": "nat",
        "temperature": "right" if right else f"wrong: {note}",
        "n": n,
    }
    return xr.Dataset({k: ((), float(v)) for k, v in values.items()}, attrs=attrs)


def free_energy(n, loss, llc, multiplicity=1):
    """Return the free energy of a solution with n observations, up to O(1).

        F_n = n L + llc log n - (multiplicity - 1) log log n

    Args:
        n: Number of observations, more than 1 (more than e for a multiplicity above 1).
        loss: Mean loss of the solution on them, in nats.
        llc: Its learning coefficient.
        multiplicity: Of the learning coefficient, 1 or more.

    Returns:
        Nats; of the shape that the arguments broadcast to, labelled if they are.

    Raises:
        InputError: n not above 1, or a multiplicity below 1.

    References: Watanabe 2009 (book), Main Theorem 6.2; as a rule for choosing between two
    regions: Lehalleur et al. 2025 (arXiv:2502.05475).

    >>> round(float(free_energy(1000, 0.3, 20)), 2)
    438.16
    """
    if not np.all(np.asarray(n) > 1):
        raise InputError(say(f"n={n}", "more than 1", "pass the number of observations"))
    if np.any(np.asarray(multiplicity) < 1):
        raise InputError(say(f"multiplicity={multiplicity}", "1 or more", "leave it out"))
    size = np.log(n)
    if np.all(np.asarray(multiplicity) == 1):
        return n * loss + llc * size  # log log n does not exist below n = e
    return n * loss + llc * size - (multiplicity - 1) * np.log(size)


def crossover(losses=(0.3, 0.5), llcs=(20.0, 2.0), *, root: str = "upper") -> float:
    """Return the number of observations at which two solutions have the same free energy.

    With `F_i = n L_i + llc_i log n` it solves `n / log n = R`, `R = (llc_1 - llc_2) / (L_2 - L_1)`.
    Below the crossover the simpler solution (lower llc) is preferred, above it the more accurate.

    `n / log n` falls from infinity at n = 1 to e at n = e and rises after it, so that for R > e
    there are two roots.  The lower one lies between 1 and e, where the expansion in n does not
    apply; it is given for completeness.  In closed form `n = -R W(-1/R)`, with the branch W_-1 of
    Lambert's function for the upper and W_0 for the lower root.

    Args:
        losses: (L_1, L_2), nats per observation.
        llcs: (llc_1, llc_2).
        root: "upper" or "lower".

    Returns:
        n; NaN when there is no crossover: one solution has both the lower loss and the lower llc,
        or the simpler one loses at every n (R < e).

    Raises:
        InputError: Not two of each, or an unknown root.

    References: Lehalleur et al. 2025 (arXiv:2502.05475); Watanabe 2009.

    >>> round(crossover(losses=(0.3, 0.5), llcs=(20, 2)), 1)
    571.3
    >>> round(crossover(losses=(0.3, 0.5), llcs=(20, 2), root="lower"), 4)
    1.0113
    >>> crossover(losses=(0.3, 0.5), llcs=(2, 20))
    nan
    """
    if np.shape(losses) != (2,) or np.shape(llcs) != (2,):
        raise InputError(say(f"losses={losses}, llcs={llcs}", "two numbers each", "pass pairs"))
    if root not in ("upper", "lower"):
        raise InputError(say(f"root={root!r}", "'upper' or 'lower'", "leave it out"))
    gap = float(losses[1]) - float(losses[0])
    more = float(llcs[0]) - float(llcs[1])
    if gap == 0 or more == 0 or more / gap < np.e:
        return float("nan")
    ratio = more / gap
    return float(-ratio * special.lambertw(-1 / ratio, -1 if root == "upper" else 0).real)
