"""Refined LLCs: of one component, on one kind of data, over training; stages and clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError, say
from slt_notebook.estimators.components.moments import PIECE, by_half, moments, spread
from slt_notebook.estimators.deprecated import renamed
from slt_notebook.estimators.health import rho_loc
from slt_notebook.estimators.llc.llc import llc, pooled_llc
from slt_notebook.results.result import LABELS, resolve
from slt_notebook.results.settings import SETTINGS
from slt_notebook.results.stacked import LEADING
from slt_notebook.results.store import group_of
from slt_notebook.results.sweep import as_sweep, map_runs

NORMALIZATIONS = ("none", "standardize", "minmax")


def refined_llc(
    sweep: Any, *, probe: str | None = None, burnin: int | None = None, level: float = 0.95
) -> xr.Dataset:
    """Return the refined LLC of every run of a sweep; with `probe`, of every token.

        lambda(C, q') = nbeta ( E_C[ L_q'(w) ] - L_q'(w*) )

    where only the weights of C vary (weight refinement) and both the posterior and the loss are
    those of the data q' of the run (data refinement).  C = "full" on the training data is the LLC.
    With a `probe`, the value of a token

        lambda_k(C) = nbeta ( E_C[ l_k(w) ] - l_k(w*) )

    whose mean over tokens drawn from the training data is the refined LLC.

    Args:
        sweep: A sweep or a run; with `probe` also `moments`.
        probe: Resolve by the tokens of this probe.
        burnin: As in `slt.llc`.
        level: Confidence level of the interval.

    Returns:
        Without `probe`: Dataset over ([dataset,] checkpoint, component) with `llc`, `mcse`,
        `interval(.., bound)`, `ess`, `rhat`, `virial`, `rho_loc`.  With it: `llc(.., component,
        example, token)`, `stderr`, `llc_halves` for `reliability`.  Trust the order of values, not
        their size; values with a `rho_loc` near 1 measure localization noise.

    Raises:
        InputError: Nothing sampled.

    References: Wang et al. 2024 (arXiv:2410.02984); the form per token is the kit's own.
    """
    if probe is not None or (isinstance(sweep, xr.Dataset) and "mean_phi" in sweep):
        return _by_token(moments(sweep, probe=probe))
    tree = as_sweep(sweep)
    group = group_of(tree, names.SAMPLING)
    dims = [d for d in LEADING if d in group.dims]
    sizes = [group.sizes[d] for d in dims]
    keys = ("llc", "mcse", "ess", "rhat", "virial", "lower", "upper", "rho_loc")
    found = {k: np.full(sizes, np.nan) for k in keys}
    excluded = []

    def of_run(run: xr.DataTree, labels: dict[str, str]) -> tuple[xr.Dataset, float] | None:
        result = resolve(run)
        try:
            one = llc(result, burnin=burnin, level=level)
        except (Diverged, InputError) as cause:
            excluded.append(f"{labels}: {cause}")
            return None
        return one, rho_loc(result, burnin).value

    for place, values in map_runs(tree, of_run).items():
        if values is not None:
            one, found["rho_loc"][place] = values
            found["llc"][place] = float(pooled_llc(one))
            for key in ("mcse", "ess", "rhat", "virial"):
                found[key][place] = float(one[key])
            found["lower"][place], found["upper"][place] = one["interval"].values
    if len(excluded) == np.prod(sizes):
        raise InputError(say("a sweep without estimates", "runs with draws", excluded[0]))
    interval = np.stack([found.pop("lower"), found.pop("upper")], -1)
    variables: dict[str, Any] = {k: (dims, v) for k, v in found.items()}
    variables["interval"] = ([*dims, "bound"], interval)
    coords = {k: v for k, v in group.coords.items() if set(v.dims) <= set(dims)}
    attrs = {
        names.A_KIND: "refined_llc",
        names.A_FORMULA: "nbeta (E_C[L] - L(w*)), paired",
        names.A_SOURCE: "arXiv:2410.02984",
        "excluded": "; ".join(excluded) or "none",
        **{k: float(group[k][0]) for k in SETTINGS},
    }
    return xr.Dataset(variables, coords | {"bound": ["lower", "upper"]}, attrs)


def _by_token(m: xr.Dataset) -> xr.Dataset:
    nbeta = m.attrs[names.NBETA] or 1.0  # of a control run (nbeta = 0): the mean rise itself
    gain = nbeta * (m.mean_loss - m[names.INIT_LOSS])
    about = {"units": "1", names.A_FORMULA: "nbeta (E_C[l_k] - l_k(w*))"}
    if not m.attrs[names.NBETA]:
        about = {"units": "nats", names.A_FORMULA: "E_0[l_k] - l_k(w*), nbeta = 0"}
    out = xr.Dataset(
        {
            "llc": gain.mean(PIECE).assign_attrs(about),
            "stderr": spread(gain),
            "llc_halves": by_half(gain, m.half),
            "rho_loc": m.rho_loc,
        },
        attrs={
            **m.attrs,
            **about,
            names.A_KIND: "refined_llc_by_token",
            "centred": "no",
            names.A_SOURCE: "arXiv:2410.02984",
        },
    )
    return out.assign_coords({k: m[k] for k in (*LABELS, names.TRAINING_STEP) if k in m})


def stages(curve: xr.Dataset, component: str = "full", smooth: int = 1) -> xr.Dataset:
    """Return boundaries of stages: zeros of the slope of a refined LLC over log training time.

        d lambda / d log t = 0

    Slopes are differences of neighbouring checkpoints; a zero is placed by linear interpolation in
    log t.  A boundary is `sure` where both slopes beside it differ from 0 by two standard errors;
    the others may be noise.  Step 0 has no logarithm and is left out.

    Args:
        curve: Of `refined_llc`, with the coordinate `training_step`.
        component: Whose curve.
        smooth: Checkpoints on each side in the running mean that is taken first; 0 for none.

    Returns:
        Dataset over `boundary`: `step`, `kind` ("peak" or "dip"), `sure`; and `slope(interval)`
        with `slope_error`, `at`.

    Raises:
        InputError: A curve without training steps.
    """
    if names.TRAINING_STEP not in curve.coords:
        raise InputError(
            say("a curve without training steps", "checkpoints named like step1000", "rename them")
        )
    one = curve.sel({names.COMPONENT: component})
    step = np.asarray(one[names.TRAINING_STEP], float)
    keep = step > 0
    t, y, e = np.log(step[keep]), one["llc"].values[keep], one["mcse"].values[keep]
    if smooth:
        window = [slice(max(0, i - smooth), i + smooth + 1) for i in range(len(y))]
        e = np.array([np.sqrt((e[w] ** 2).sum()) / len(e[w]) for w in window])
        y = np.array([y[w].mean() for w in window])
    slope = np.diff(y) / np.diff(t)
    error = np.sqrt(e[1:] ** 2 + e[:-1] ** 2) / np.diff(t)
    middle = (t[1:] + t[:-1]) / 2
    found = []
    for i in range(len(slope) - 1):
        if slope[i] * slope[i + 1] < 0:
            share = slope[i] / (slope[i] - slope[i + 1])
            at = np.exp(middle[i] + share * (middle[i + 1] - middle[i]))
            sure = abs(slope[i]) > 2 * error[i] and abs(slope[i + 1]) > 2 * error[i + 1]
            found.append((at, "peak" if slope[i] > 0 else "dip", sure))
    return xr.Dataset(
        {
            "step": ("boundary", [f[0] for f in found]),
            "kind": ("boundary", [f[1] for f in found]),
            "sure": ("boundary", [bool(f[2]) for f in found]),
            "slope": ("interval", slope),
            "slope_error": ("interval", error),
            "at": ("interval", np.exp(middle)),
        },
        attrs={names.A_FORMULA: "d llc / d log t = 0", names.A_SOURCE: "arXiv:2410.02984"},
    )


@renamed(normalise="normalize")
def cluster_curves(
    curve: xr.Dataset, k: int = 2, *, normalize: str = "standardize", seed: int = 0
) -> xr.Dataset:
    """Return k-means clusters of the components' curves over checkpoints, with silhouettes.

    Args:
        curve: Of `refined_llc` over several checkpoints; "full" is left out.
        k: Number of clusters.
        normalize: How each curve is normalized first: "none", "standardize" or "minmax".
        seed: Of k-means.

    Returns:
        Dataset over component: `cluster`, `silhouette`; attrs: `mean_silhouette`.  With few curves
        a clustering is weak evidence: compare several k and normalizations.

    Raises:
        InputError: Fewer curves than clusters, an unknown normalization.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_samples

    normalize = "standardize" if normalize == "standardise" else normalize  # its old spelling
    if normalize not in NORMALIZATIONS:
        raise InputError(say(f"normalize={normalize!r}", f"one of {NORMALIZATIONS}", "name one"))
    value = curve["llc"].sel(
        {names.COMPONENT: [c for c in curve[names.COMPONENT].values if str(c) != "full"]}
    )
    x = value.transpose(names.COMPONENT, names.CHECKPOINT_DIM).values
    if not 2 <= k < len(x):
        raise InputError(say(f"k={k} for {len(x)} curves", "2 to one less", "choose another k"))
    if normalize == "standardize":
        x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    elif normalize == "minmax":
        x = (x - x.min(1, keepdims=True)) / np.ptp(x, axis=1)[:, None]
    # pyright infers the type of n_init from its default, "auto".
    means = KMeans(k, n_init=20, random_state=seed)  # pyright: ignore[reportArgumentType]
    labels = means.fit_predict(x)
    several = len(set(labels)) > 1
    width = np.asarray(silhouette_samples(x, labels)) if several else np.full(len(x), np.nan)
    return xr.Dataset(
        {"cluster": (names.COMPONENT, labels), "silhouette": (names.COMPONENT, width)},
        {names.COMPONENT: value[names.COMPONENT].values},
        {"mean_silhouette": float(np.mean(width)), "normalize": normalize, "k": k},
    )
