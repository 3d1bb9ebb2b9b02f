"""Open stores of devinterp 2.x as runs of this kit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, StoreError, say
from slt_notebook.results.store import read

_MISSING = (
    "virial ratio, acceptance, distance and gradient norm; the nbeta = 0 control; the loss at w* "
    "of the probes and of each batch (one number from other batches replaces it, so that the "
    "LLC is unpaired); the model, its fingerprint and the data's size"
)


def import_devinterp(path: str | os.PathLike, tokenizer: Any = None) -> xr.DataTree:
    """Open a store written by devinterp 2.x as a run; values are read when they are used.

    The conventions of devinterp are kept: the loss gain of a step is the loss of its batch minus
    *one* number, the mean of `init_loss` over other batches.  devinterp's `compute_llc` is
    `slt.llc(tree, burnin=0)`, which averages over burn-in too; leave `burnin` out for a better
    value.  Its `compute_bif(compute_covariance=True)` is minus
    `slt.influence(tree, centering="pool")`.  Its draw d is the position after step
    burn-in + d * steps between draws + 1.

    Args:
        path: The folder that `sample(..., output_path=...)` wrote.
        tokenizer: Anything with `decode([id])`, for the texts of tokens; their ids are shown if
            None.

    Returns:
        A tree with `sampling` and one probe for each observable.  attrs["missing"] lists what
        such a store does not contain.

    Raises:
        StoreError: Not such a store.  InputError: Losses that are not next-token losses.
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
        [np.asarray(read(micro.isel({names.CHAIN: c})), "f8").mean((1, 2)) for c in range(chains)]
    )
    base = float(np.mean(read(data["init_loss"]), dtype="f8"))
    finite = np.isfinite(loss)
    done = np.where(finite.all(1), steps, finite.argmin(1))
    # "completed" is written even when a chain stopped at a loss that was not finite.
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
            names.A_KIND: "sampling",
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
    ids = np.asarray(read(ids))
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
        {names.A_KIND: "probe", "probe": name, "kind": "text"},
    )
