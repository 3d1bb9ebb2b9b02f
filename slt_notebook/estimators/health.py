"""Health of a run: a table of checks, each with what to do when it fails."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from slt_notebook.errors import Diverged, InputError
from slt_notebook.estimators import run_checks
from slt_notebook.estimators.llc.llc import gains, summary
from slt_notebook.estimators.run_checks import COLUMNS, Check
from slt_notebook.results.result import resolve
from slt_notebook.results.steps import steps_after_burnin

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "VERDICTS", "Check", "checks", "health", "health_text", "rho_loc"]

VERDICTS = ("ok", "warn", "fail", "unknown")


def health(run: Any, *, burnin: int | None = None) -> pd.DataFrame:
    """Return checks of a run as a table, one row per check.

    - `chains`: how many diverged.  Any is a warning, all a failure.
    - `trace level`: the LLC.  Below 0 the weights are not at a minimum of the sampled loss.
    - `drift`: the last third of the trace against the middle third, relative to its level.  More
      than 10 % warns, more than 30 % fails, both only beyond two standard errors.
    - `R-hat` of the loss gain: more than 1.05 warns, more than 1.2 fails.
    - `ESS` of the loss gain: below 100 warns, below 20 fails.
    - `acceptance`: of the Metropolis test on a batch.  Below 0.5 warns (the step is too large for
      the discretization), below 0.1 fails; above 0.99 with an ESS below 100 warns (too small).
    - `virial`: `E[(w - w*) . grad U] / dim`, 1 at equilibrium.  Off by more than 10 % warns, 30 %
      fails, beyond two standard errors.
    - `rho_loc`: the rise of the loss over its rise under pure localization noise, at nbeta = 0.
      Above 0.8 warns: mostly noise is measured.  0.3 to 0.7 is a good range.
    - `R-hat > 1.1, <probe>`: the share of token losses with R-hat above 1.1.  More than 5 % warns,
      more than 30 % fails.

    Args:
        run: A run, finished or not, or its group `sampling`.
        burnin: Steps to leave out; the run's own burn-in if None.

    Returns:
        pandas.DataFrame with the columns check, value, uncertainty (standard error, NaN where
        there is none), verdict ("ok", "warn", "fail", "unknown"), meaning, do.

    References: Lau et al. 2023 (arXiv:2308.12108); Vehtari et al. 2021 (arXiv:1903.08008).
    """
    import pandas as pd

    rows = [vars(c) for c in checks(run, burnin)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def health_text(run: Any, *, burnin: int | None = None, width: int = 88) -> str:
    """Return the checks of `health` as text: one line per check, and what to do below it.

    Args:
        run: As in `health`.
        burnin: As in `health`.
        width: Of the lines, in characters.
    """
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
    """Return the rows of `health`, in order."""
    result = resolve(run)
    first = run_checks.chains(result)
    try:
        steps = steps_after_burnin(result, burnin)
    except (Diverged, InputError) as cause:
        why = str(cause)
        if first.verdict == "fail":
            return [first]
        return [first, Check("trace level", np.nan, np.nan, "unknown", "no estimate yet", why)]
    values = gains(steps)
    alike = not steps.difference
    whole = summary(values) if alike else {"mean": np.nan, "mcse": np.nan, "ess": 0, "rhat": 0}
    each: list[Callable[[], Check]] = [
        lambda: run_checks.trace_level(values, whole, alike),
        lambda: run_checks.drift(values),
        lambda: run_checks.r_hat(steps, whole),
        lambda: run_checks.effective_draws(steps, values, whole),
        lambda: run_checks.acceptance(steps, whole),
        lambda: run_checks.virial(steps),
        lambda: run_checks.noise_share(steps, values),
    ]
    probes = [run_checks.tokens(result, name) for name in result.probe_names]
    return [first, *(c() for c in each), *probes]


def rho_loc(run: Any, burnin: int | None = None) -> Check:
    """Return the check `rho_loc` of `health`."""
    steps = steps_after_burnin(resolve(run), burnin)
    return run_checks.noise_share(steps, gains(steps))
