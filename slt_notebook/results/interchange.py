"""How do runs travel to ArviZ, and stores of devinterp 2.x to us?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError, StoreError, say
from slt_notebook.estimators.llc.model_selection import _beta
from slt_notebook.results import tree as trees
from slt_notebook.results.steps import Steps, steps_after_burnin

_MISSING = (
    "virial ratio, acceptance, distance and gradient norm; the nbeta = 0 control; the loss at w* "
    "of the probes and of each batch (one number from other batches stands in for it, so that the "
    "LLC is unpaired); the model, its fingerprint and the data's size"
)


def to_arviz(run: Any, probe: Any = None, *, temper: bool = False) -> Any:
    """A run for ArviZ: its diagnostics, plots and leave-one-out cross-validation.

    Groups, all over (chain, draw):
    - `posterior`: `llc` = nbeta (loss - init_loss), averaged over the steps of each draw, and
      `loss_<probe>`, the mean loss of a probe;
    - `sample_stats`: `step_size`, `diverging`, and what was recorded of `acceptance_rate`,
      `virial`, `distance`, `grad_norm`;
    - `log_likelihood`: `<probe>(chain, draw, example)` = minus the loss of an example, summed over
      its tokens;
    - `observed_data`: `<probe>_token_id`, for text.

    Chains that diverged and draws that are not there yet are left out, since one NaN makes all
    of ArviZ's results NaN.

    Args:
        run: A run.
        probe: A probe's name; all of them if None.
        temper: Multiply the log-likelihood by beta = nbeta / n (of text, n counts tokens).
            Importance weights for leave-one-out need it, because the draws come from the
            posterior at beta, not at 1; pointwise predictive densities do not.

    Returns:
        arviz.InferenceData where ArviZ 0.x is installed, otherwise a DataTree, which ArviZ 1.x
        works on.

    Raises:
        InputError: Unknown probe.  Diverged: No chain left.
    """
    steps = steps_after_burnin(run)
    wanted = trees.probe_names(run) if probe is None else [probe]
    probes = {p: trees.probe(run, p) for p in wanted}
    draws = _draws_done(steps, probes)
    chain = {names.CHAIN: _labels(steps)}
    coords = chain | {names.DRAW: np.arange(draws)}
    posterior = {"llc": ((names.CHAIN, names.DRAW), _by_draw(steps, draws))}
    likelihood, observed, attrs = {}, {}, {"tempered": int(temper)}
    for name, data in probes.items():
        total, mean = _example_losses(data, steps, draws)
        beta = _beta(run, data, None) if temper else 1.0
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
            observed[f"{name}_token_id"] = ((ids, f"{name}_token"), trees.read(tokens))
    attrs |= {
        "created_at": str(trees.as_tree(run).attrs.get(names.A_CREATED, "")),
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


def _labels(steps: Steps) -> np.ndarray:
    if names.CHAIN in steps.data.coords:
        return steps.data[names.CHAIN].values[steps.used]
    return steps.used


def _draws_done(steps: Steps, probes: dict[str, xr.Dataset]) -> int:
    thin = int(steps.data.attrs.get(names.A_THIN, 1))
    done = (steps.stop - steps.start) // thin
    for data in probes.values():
        loss = data[names.LOSS].isel({names.CHAIN: steps.used})
        first = loss.isel({names.EXAMPLE: 0}).transpose(names.CHAIN, names.DRAW, ...)
        finite: Any = np.isfinite(trees.read(first))
        finite = finite.any(2) if finite.ndim == 3 else finite
        done = min(done, int(np.where(finite.all(1), finite.shape[1], finite.argmin(1)).min()))
    if done < 1:
        raise Diverged(say("no draw that every chain has", "at least one", "sample longer"))
    return done


_TOKEN = (names.TOKEN,)


def _by_draw(steps: Steps, draws: int, name: str | None = None) -> np.ndarray:
    """A per-step series averaged over the steps that lead to each draw, `[chain, draw]`."""
    thin = int(steps.data.attrs.get(names.A_THIN, 1))
    if name is None:
        values = steps.series(names.LOSS) - steps.series(names.INIT_LOSS)
        values = values * steps.nbeta()[:, None]
    else:
        values = steps.series(name)
    return values[:, : draws * thin].reshape(len(values), draws, thin).mean(2)


def _example_losses(data: xr.Dataset, steps: Steps, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum over the tokens of each example, and the mean over all tokens."""
    loss = data[names.LOSS].isel({names.CHAIN: steps.used, names.DRAW: slice(draws)})
    rest = [names.EXAMPLE, *(d for d in _TOKEN if d in loss.dims)]
    parts_total, parts_mean = [], []
    for c in range(len(steps.used)):
        x = np.asarray(trees.read(loss.isel({names.CHAIN: c}).transpose(names.DRAW, *rest)), "f8")
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
            values = trees.read(array.transpose(*dims))
            if np.isfinite(values).all():
                found[theirs] = (dims, values)
    if names.VIRIAL in steps.data:
        values = _by_draw(steps, draws, names.VIRIAL)
        if np.isfinite(values).all():
            found[names.VIRIAL] = (dims, values)
    return found


# From devinterp ----------------------------------------------------------------------------------


def import_devinterp(path: str | os.PathLike, tokenizer: Any = None) -> xr.DataTree:
    """Open a store that devinterp 2.x sampled as one of ours, lazily.

    Its conventions differ, and are kept: the loss gain of a step is the loss of its batch minus
    *one* number, the mean of `init_loss` over other batches.  devinterp's `compute_llc` is
    `slt.llc(tree, burnin=0)`, since it averages over burn-in; leave `burnin` out for the better
    value.  Its `compute_bif(compute_covariance=True)` is minus `slt.influence(tree,
    chains="pool")`.  Its draw d is the position after step burn-in + d * steps between draws + 1.

    Args:
        path: The folder that `sample(..., output_path=...)` wrote.
        tokenizer: Anything with `decode([id])`, for the texts of tokens; their ids are shown if
            None.

    Returns:
        A tree with `sampling` and one probe for each observable.  attrs["missing"] says what such
        a store does not hold.

    Raises:
        StoreError: Not such a store.
    """
    root = Path(path).expanduser()
    if not (root / "sampling_loss_micro").is_dir():
        raise StoreError(
            say(f"'{root}'", "a store of devinterp 2.x, with sampling_loss_micro", "check the path")
        )
    try:
        data = xr.open_dataset(root, engine="zarr", consolidated=False, chunks=None)
        config = data.attrs["metadata"]["config"]["sampler"]
    except Exception as cause:
        raise StoreError(
            say(f"'{root}', which cannot be opened ({cause})", "a complete store", "copy it again")
        ) from cause
    groups = {"/": xr.Dataset(attrs=_root(data)), f"/{names.SAMPLING}": _sampling(data, config)}
    for variable in data.data_vars:
        kind, _, name = str(variable).partition("_")
        if kind == "loss" and name:
            groups[f"/{names.PROBE}/{name}"] = _observable(data, name, tokenizer)
    return xr.DataTree.from_dict(groups, name=root.stem)


def _root(data: xr.Dataset) -> dict:
    import json

    return {
        names.A_SCHEMA: names.SCHEMA,
        names.A_TASK: json.dumps({"imported": "devinterp 2.x", **data.attrs["metadata"]}),
        names.A_VERSIONS: json.dumps({"devinterp": "2.x"}),
        names.A_MODEL: "unknown",
        names.A_CREATED: "",
        "missing": _MISSING,
    }


def _sampling(data: xr.Dataset, config: dict) -> xr.Dataset:
    micro = data["sampling_loss_micro"].transpose(
        names.CHAIN, names.STEP, "batch_sampling", "token_pos"
    )
    chains, steps = micro.sizes[names.CHAIN], micro.sizes[names.STEP]
    loss = np.stack(
        [
            np.asarray(trees.read(micro.isel({names.CHAIN: c})), "f8").mean((1, 2))
            for c in range(chains)
        ]
    )
    base = float(np.mean(trees.read(data["init_loss"]), dtype="f8"))
    finite = np.isfinite(loss)
    done = np.where(finite.all(1), steps, finite.argmin(1))
    # "completed" is written even when a chain gave up on a loss that was not finite.
    broken = (done < steps) & bool(data.attrs.get("completed", 0))
    every = (names.CHAIN, names.STEP)
    each = lambda value: (names.CHAIN, np.full(chains, float(value)))
    return xr.Dataset(
        {
            names.LOSS: (every, loss),
            names.INIT_LOSS: (every, np.where(finite, base, np.nan)),
            names.STATUS: (names.CHAIN, np.where(broken, names.STATUS_LOSS, 0).astype("i1")),
            names.STATUS_STEP: (names.CHAIN, np.where(broken, done, -1).astype("i4")),
        },
        {
            names.CHAIN: np.arange(chains),
            names.STEP: np.arange(steps),
            names.DRAW: np.arange(int(config["num_draws"])),
            names.STEP_SIZE: each(config["lr"]),
            names.NBETA: each(config["n_beta"]),
            names.GAMMA: each(config.get("localization", 0.0)),
        },
        {
            names.A_BURNIN: int(config["num_burnin_steps"]),
            names.A_THIN: int(config["num_steps_bw_draws"]),
            names.A_DRAWS: int(config["num_draws"]),
            "baseline": "init_loss of other batches: unpaired",
            "kernel": str(config.get("sampling_method")),
        },
    )


def _observable(data: xr.Dataset, name: str, tokenizer: Any) -> xr.Dataset:
    loss = data[f"loss_{name}"].rename({f"batch_{name}": names.EXAMPLE, "token_pos": names.TOKEN})
    loss = loss.transpose(names.CHAIN, names.DRAW, names.EXAMPLE, names.TOKEN)
    ids = data[f"input_ids_{name}"].transpose(f"batch_{name}", "token")
    ids = np.asarray(trees.read(ids))
    if ids.shape != (loss.sizes[names.EXAMPLE], loss.sizes[names.TOKEN] + 1):
        raise InputError(
            say(
                f"observable {name!r} with losses of {loss.sizes[names.TOKEN]} tokens and "
                f"{ids.shape[1]} input ids",
                "one loss for each id but the first",
                "import stores of next-token losses only",
            )
        )
    known, place = np.unique(ids, return_inverse=True)
    texts = [str(i) if tokenizer is None else tokenizer.decode([int(i)]) for i in known]
    text = np.array(texts, dtype=object)[place.reshape(ids.shape)].astype(str)
    both = (names.EXAMPLE, names.TOKEN)
    return xr.Dataset(
        {
            names.LOSS: loss.drop_attrs(),
            names.INIT_LOSS: (both, np.full(ids[:, 1:].shape, np.nan, "f4")),
            names.TOKEN_ID: (both, ids[:, 1:].astype("i4")),
            names.TOKEN_TEXT: (both, text[:, 1:]),
            names.FIRST_ID: (names.EXAMPLE, ids[:, 0].astype("i4")),
            names.FIRST_TEXT: (names.EXAMPLE, text[:, 0]),
        },
        {
            names.CHAIN: np.arange(loss.sizes[names.CHAIN]),
            names.DRAW: np.arange(loss.sizes[names.DRAW]),
            names.EXAMPLE: [f"{name}/{i}" for i in range(len(ids))],
            names.TOKEN: np.arange(1, ids.shape[1]),
        },
        {"probe": name, "kind": "text"},
    )
