"""Susceptibilities: the response of a component to a shift of the data.

There are two estimands of this name; a result holds one of them, named in its attrs:

    within      chi_k = -Cov_C(phi, l_k - L)
    two-chain   chi_k = -( E_C[phi (l_k - L)] - E_C[phi] E_full[l_k - L] )

`E_C` is the posterior in which only the component C varies, `E_full` that of all weights.  The
two-chain form follows from the definition with a delta function at the other weights, up to a
factor that depends on C alone; the within form is a covariance under the restricted posterior.
They differ by `E_C[phi] (E_full - E_C)[l_k - L]`, which depends on the token and has the opposite
sign for the mode that all components share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.estimators.components.moments import HALF, PIECE, by_half, moments, spread
from slt_notebook.results.result import LABELS

ESTIMATORS = ("two-chain", "within")
SIGN = {
    "within": "negative = expression: the component supports the token (after center_component)",
    "two-chain": "negative = expression, after center_token only",
}


def susceptibility(
    sweep: Any,
    *,
    probe: str | None = None,
    train: str | None = None,
    estimator: str = "two-chain",
    full: str = "full",
) -> xr.Dataset:
    """Return the susceptibility of every component to every token.

        within:     -Cov_C(phi, l_k - L)
        two-chain:  -( E_C[phi (l_k - L)] - E_C[phi] E_full[l_k - L] ),    phi = L - L(w*)

    L is the mean loss of a fixed probe of training data, not of the minibatch, whose noise would
    enter the covariance.  The mean of chi over the tokens of a dataset is the susceptibility to
    mixing that dataset in (see `dataset_susceptibility`).  Raw values are not comparable across
    components: use `zscore`, and `center_token` for what distinguishes components.

    Args:
        sweep: A sweep, or its `moments`.
        probe: The probe of the tokens; may be left out when there is only one.
        train: The probe whose mean loss is L; `probe` itself if None.
        estimator: `"two-chain"` (as devinterp does) or `"within"`.
        full: The component that contains all weights, for the two-chain estimator.

    Returns:
        Dataset `chi([..,] component, example, token)`, `stderr` from the spread between pieces
        (chains, or batches of draws), `chi_halves(half, ...)` for `reliability`, `rho_loc`.
        Units: nat^2.  NaN at padding.  attrs["estimator"] names the estimand.

    Raises:
        InputError: An unknown estimator, a two-chain estimate without the full run.

    References: Baker et al. 2025 (arXiv:2504.18274).
    """
    if estimator not in ESTIMATORS:
        raise InputError(
            say(
                f"estimator={estimator!r}{nearest(estimator, ESTIMATORS)}",
                "'two-chain' or 'within'",
                "name one",
            )
        )
    m = moments(sweep, probe=probe, train=train)
    if estimator == "within":
        each = m.cov_train - m.cov
        value, error = each.mean(PIECE), spread(each)
        halves = by_half(each, m.half)
    else:
        value, error, halves = _two_chain(m, full)
    about = {names.A_SIGN: SIGN[estimator], "units": "nat^2", "estimator": estimator}
    attrs = {
        names.A_FORMULA: {
            "within": "-Cov_C(phi, l - L)",
            "two-chain": "-(E_C[phi (l - L)] - E_C[phi] E_full[l - L])",
        }[estimator],
        names.A_SOURCE: "arXiv:2504.18274",
        "centred": "no",
        **about,
        **m.attrs,
        names.A_KIND: "susceptibility",
    }
    out = xr.Dataset(
        {"chi": value.assign_attrs(about), "stderr": error, "chi_halves": halves}, attrs=attrs
    )
    out["rho_loc"] = m.rho_loc if estimator == "within" else m.rho_loc.sel(component=out.component)
    return _ordered(out.assign_coords(_labels(m)))


def _two_chain(m: xr.Dataset, full: str):
    known = [str(c) for c in m[names.COMPONENT].values]
    if full not in known:
        raise InputError(
            say(
                f"a two-chain estimate without the component {full!r}",
                f"one of {', '.join(known)} in which all weights vary",
                "sample with components=['full', ...], or use estimator='within'",
            )
        )
    whole = m.sel({names.COMPONENT: full}, drop=True)
    parts = m.sel({names.COMPONENT: [c for c in known if c != full]})
    # E_C[phi (l - L)] of a piece: its covariance (made one over n) and the product of its means.
    share = (parts.draws - 1) / parts.draws
    delta = parts.mean_loss - parts.mean_train
    joint = share * (parts.cov - parts.cov_train) + parts.mean_phi * delta
    beyond = whole.mean_loss - whole.mean_train

    def combine(mean):
        return mean(parts.mean_phi, parts) * mean(beyond, whole) - mean(joint, parts)

    value = combine(lambda x, _: x.mean(PIECE))
    halves = xr.concat(
        [combine(lambda x, of, h=h: x.where(of.half == h).mean(PIECE)) for h in (0, 1)], HALF
    )
    own = parts.mean_phi * beyond.mean(PIECE) - joint
    error = np.sqrt(spread(own) ** 2 + (parts.mean_phi.mean(PIECE) * spread(beyond)) ** 2)
    return value, error, halves


def dataset_susceptibility(chi: xr.Dataset, by: str | None = None) -> xr.Dataset:
    """Return the susceptibility to a dataset: the mean of chi over its tokens.

        chi(q') = E_{(x, y) ~ q'} [ chi_xy ]

    Args:
        chi: Of `susceptibility`, centred or not.
        by: A coordinate of the examples; `label` (the domain of a text) if there is one.

    Returns:
        Dataset `chi(dataset, component)` with `stderr` and halves.  The standard error is that of
        the mean over draws for these tokens; it treats tokens as independent, which they are not,
        and is a lower bound.

    Raises:
        InputError: No such coordinate.
    """
    by = by or (names.LABEL if names.LABEL in chi.coords else names.EXAMPLE)
    if by not in chi.coords:
        raise InputError(say(f"by={by!r}", f"one of {list(chi.coords)}", "name a coordinate"))
    label = chi[by].astype(str)
    dims = [d for d in (names.EXAMPLE, names.TOKEN) if d in chi.chi.dims]
    groups = list(dict.fromkeys(label.values.ravel().tolist()))
    parts = []
    for group in groups:
        here = chi.where(label == group)
        mean = here.mean(dims)
        count = here["chi"].notnull().sum(dims)
        mean["stderr"] = np.sqrt((here["stderr"] ** 2).sum(dims)) / count
        mean["tokens"] = count.isel({names.COMPONENT: 0}, drop=True)
        parts.append(mean[[v for v in ("chi", "stderr", "chi_halves", "tokens") if v in mean]])
    out = xr.concat(parts, xr.DataArray(groups, dims=names.DATASET, name=names.DATASET))
    return out.assign_attrs(chi.attrs)


def center_component(chi: xr.Dataset) -> xr.Dataset:
    """Return chi minus each component's mean over tokens, a constant that depends on C alone.

    arXiv:2504.18274 calls this standardized (centering rows of a components x tokens matrix).
    """
    dims = [d for d in (names.EXAMPLE, names.TOKEN) if d in estimate_of(chi).dims]
    return _transformed(chi, lambda x: x - x.mean(dims), "component")


def center_token(chi: xr.Dataset) -> xr.Dataset:
    """Return chi minus each token's mean over components, the mode that all of them share.

    This is the row-centering of arXiv:2601.12703 (tokens as rows); apply it to z-scores.
    """
    return _transformed(chi, lambda x: x - x.mean(names.COMPONENT), "token")


def zscore(chi: xr.Dataset) -> xr.Dataset:
    """Return chi standardized over tokens, per component: mean 0, standard deviation 1.

    >>> chi = xr.Dataset({"chi": (("component", "example"), [[1.0, 2.0, 3.0]])})
    >>> zscore(chi)["chi"].values.round(3)
    array([[-1.225,  0.   ,  1.225]])
    """
    dims = [d for d in (names.EXAMPLE, names.TOKEN) if d in estimate_of(chi).dims]
    sd = estimate_of(chi).std(dims)
    sd = sd.where(sd > 0)
    out = _transformed(chi, lambda x: (x - x.mean(dims)) / x.std(dims).where(x.std(dims) > 0), "z")
    name = str(estimate_of(chi).name)
    out[name] = out[name].assign_attrs(units="sd over tokens")
    if "stderr" in chi:
        out["stderr"] = chi["stderr"] / sd
    return out


def estimate_of(chi: xr.Dataset) -> xr.DataArray:
    """Return the estimate in a result: `chi`, or a refined LLC per token.

    Raises:
        InputError: Neither.
    """
    for name in ("chi", "llc"):
        if name in chi:
            return chi[name]
    raise InputError(
        say(f"a Dataset of {list(chi.data_vars)}", "chi or llc", "see slt.susceptibility")
    )


def _transformed(chi: xr.Dataset, function, what: str) -> xr.Dataset:
    """Apply `function` to the estimate and to each of its halves; a shift leaves the stderr."""
    name = str(estimate_of(chi).name)
    out = chi.copy()
    for key in (name, f"{name}_halves"):
        if key in chi:
            out[key] = function(chi[key]).assign_attrs(chi[key].attrs)
    before = chi.attrs.get("centred", "no")
    return out.assign_attrs(centred=what if before == "no" else f"{before}, {what}")


def _labels(m: xr.Dataset) -> dict[str, Any]:
    return {k: m[k] for k in (*LABELS, names.TRAINING_STEP) if k in m}


def _ordered(out: xr.Dataset) -> xr.Dataset:
    order = (HALF, names.CHECKPOINT_DIM, names.COMPONENT, names.EXAMPLE, names.TOKEN)
    return out.transpose(..., *order, missing_dims="ignore").transpose(HALF, ...)
