"""Export a run to ArviZ."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, say
from slt_notebook.results.result import resolve
from slt_notebook.results.settings import observation_beta
from slt_notebook.results.steps import Steps, steps_after_burnin
from slt_notebook.results.store import read


def to_arviz(run: Any, probe: Any = None, *, temper: bool = False) -> Any:
    """Return a run for ArviZ: for its diagnostics, plots and leave-one-out cross-validation.

    Groups, all over (chain, draw):
    - `posterior`: `llc` = nbeta (loss - init_loss), averaged over the steps of each draw, and
      `loss_<probe>`, the mean loss of a probe;
    - `sample_stats`: `step_size`, `diverging`, and those of `acceptance_rate`, `virial`,
      `distance`, `grad_norm` that were recorded;
    - `log_likelihood`: `<probe>(chain, draw, example)` = minus the loss of an example, summed over
      its tokens;
    - `observed_data`: `<probe>_token_id`, for text.

    Chains that diverged and draws that do not exist yet are left out, since a single NaN makes
    the results of ArviZ NaN.

    Args:
        run: A run.
        probe: A probe's name; all of them if None.
        temper: Multiply the log-likelihood by beta = nbeta / n (of text, n counts tokens).
            Importance weights for leave-one-out need it, because the draws come from the
            posterior at beta, not at 1; pointwise predictive densities do not.

    Returns:
        arviz.InferenceData where ArviZ 0.x is installed, otherwise a DataTree, which ArviZ 1.x
        accepts.

    Raises:
        InputError: Unknown probe.  Diverged: No chain left.
    """
    result = resolve(run)
    steps = steps_after_burnin(result)
    wanted = result.probe_names if probe is None else [probe]
    probes = {p: result.probe(p) for p in wanted}
    draws = _draws_done(steps, probes)
    chain = {names.CHAIN: steps.labels}
    coords = chain | {names.DRAW: np.arange(draws)}
    posterior = {"llc": ((names.CHAIN, names.DRAW), _by_draw(steps, draws))}
    likelihood, observed, attrs = {}, {}, {"tempered": int(temper)}
    for name, data in probes.items():
        total, mean = _example_losses(data, steps, draws)
        beta = observation_beta(result, data) if temper else 1.0
        posterior[f"loss_{name}"] = ((names.CHAIN, names.DRAW), mean)
        ids = f"{name}_example"
        coords_ids = {ids: data[names.EXAMPLE].values}
        likelihood[name] = xr.DataArray(
            -beta * total,
            coords | coords_ids,
            (names.CHAIN, names.DRAW, ids),
            attrs={"beta": beta, names.A_FORMULA: "-beta * sum of token losses"},
        )
        if names.TOKEN_ID in data:
            tokens = data[names.TOKEN_ID].transpose(names.EXAMPLE, names.TOKEN)
            observed[f"{name}_token_id"] = ((ids, f"{name}_token"), read(tokens))
    attrs |= {
        "created_at": str(result.attrs.get(names.A_CREATED, "")),
        "inference_library": "slt_notebook",
        "sample_dims": [names.CHAIN, names.DRAW],
    }
    groups = {
        "posterior": xr.Dataset(posterior, coords, attrs),
        "sample_stats": xr.Dataset(_stats(steps, draws), coords, attrs),
    }
    if likelihood:
        groups["log_likelihood"] = xr.Dataset(likelihood, attrs=attrs)
    if observed:
        groups["observed_data"] = xr.Dataset(observed)
    return _wrapped(xr.DataTree.from_dict({f"/{k}": v for k, v in groups.items()}))


def _wrapped(tree: xr.DataTree) -> Any:
    try:
        import arviz
    except ImportError:
        return tree
    if int(arviz.__version__.split(".")[0]) >= 1:
        return tree
    return arviz.InferenceData.from_datatree(tree)


def _draws_done(steps: Steps, probes: dict[str, xr.Dataset]) -> int:
    done = (steps.stop - steps.start) // steps.thin
    for data in probes.values():
        loss = data[names.LOSS].isel({names.CHAIN: steps.used})
        first = loss.isel({names.EXAMPLE: 0}).transpose(names.CHAIN, names.DRAW, ...)
        finite: Any = np.isfinite(read(first))
        finite = finite.any(2) if finite.ndim == 3 else finite
        done = min(done, int(np.where(finite.all(1), finite.shape[1], finite.argmin(1)).min()))
    if done < 1:
        raise Diverged(say("no draw that every chain has", "at least one", "sample longer"))
    return done


def _by_draw(steps: Steps, draws: int, name: str | None = None) -> np.ndarray:
    """Return a series averaged over the steps of each draw, `[chain, draw]`: llc if no name."""
    thin = steps.thin
    if name is None:
        values = steps.series(names.LOSS) - steps.series(names.INIT_LOSS)
        values = values * steps.nbeta[:, None]
    else:
        values = steps.series(name)
    return values[:, : draws * thin].reshape(len(values), draws, thin).mean(2)


def _example_losses(data: xr.Dataset, steps: Steps, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `[chain, draw, example]` sums over tokens, and `[chain, draw]` means over all."""
    loss = data[names.LOSS].isel({names.CHAIN: steps.used, names.DRAW: slice(draws)})
    rest = [d for d in (names.EXAMPLE, names.TOKEN) if d in loss.dims]
    parts_total, parts_mean = [], []
    for c in range(len(steps.used)):
        x = np.asarray(read(loss.isel({names.CHAIN: c}).transpose(names.DRAW, *rest)), "f8")
        flat = x.reshape(draws, -1)
        parts_mean.append(np.nanmean(flat, axis=1))
        parts_total.append(np.nansum(x, axis=2) if x.ndim == 3 else x)
    return np.stack(parts_total), np.stack(parts_mean)


def _stats(steps: Steps, draws: int) -> dict:
    dims = (names.CHAIN, names.DRAW)
    shape = (len(steps.used), draws)
    found = {"diverging": (dims, np.zeros(shape, bool))}
    if names.STEP_SIZE in steps.data.coords:
        sizes = np.asarray(steps.data[names.STEP_SIZE].values, float)[steps.used]
        found["step_size"] = (dims, np.broadcast_to(sizes[:, None], shape).copy())
    for ours, theirs in (
        (names.ACCEPT, "acceptance_rate"),
        (names.DISTANCE, names.DISTANCE),
        (names.GRAD_NORM, names.GRAD_NORM),
    ):
        if ours in steps.data:
            array = steps.data[ours].isel({names.CHAIN: steps.used, names.DRAW: slice(draws)})
            values = read(array.transpose(*dims))
            if np.isfinite(values).all():
                found[theirs] = (dims, values)
    if names.VIRIAL in steps.data:
        values = _by_draw(steps, draws, names.VIRIAL)
        if np.isfinite(values).all():
            found[names.VIRIAL] = (dims, values)
    return found
