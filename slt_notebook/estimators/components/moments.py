"""What of a sweep do refined LLCs and susceptibilities need?  First and second moments, small.

    phi = L(w) - L(w*)       the observable of a component: L the mean loss of a training probe
    E[l_k],  Cov(phi, l_k),  E[phi],  Cov(phi, L)       for every token k of a shown probe

They are kept per *piece*: a chain where there are three or more, else a batch of successive draws.
Pieces are what standard errors and split halves are made of.  A table of moments is some hundred
times smaller than the losses, and can be shipped in their place.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError, StoreError, nearest, say
from slt_notebook.estimators import health as checks
from slt_notebook.results import tree as trees
from slt_notebook.results.sweep import LEADING, as_sweep, run_of

PIECE = "piece"
HALF = "half"
_BATCHES = 8
_KEPT = (names.TOKEN_ID, names.TOKEN_TEXT, names.FIRST_ID, names.FIRST_TEXT, names.LABEL)


def moments(sweep: Any, *, probe: str | None = None, train: str | None = None) -> xr.Dataset:
    """First and second moments of a sweep's losses, per piece.

    Args:
        sweep: a sweep or a run, or moments, which are returned as they are.
        probe: the probe whose tokens are looked at; may be left out when there is only one.
        train: the probe whose mean loss is L; `probe` itself if None.  It should be a fixed sample
            of what the model was trained on.

    Returns:
        Dataset with dims ([dataset,] checkpoint, component, piece, example[, token]):
        `mean_loss`, `cov`; per piece `mean_phi`, `mean_train` (of L), `cov_train`, `draws`, `half`;
        `init_loss`, `init_train` per checkpoint; `rho_loc`.  NaN at padding and in runs not drawn.

    Raises:
        InputError: no such probe.  Diverged: no run with draws.
    """
    if isinstance(sweep, xr.Dataset) and "mean_phi" in sweep:
        return sweep
    tree = as_sweep(sweep)
    name, train = _names(tree, probe, train)
    shown = tree[f"{names.PROBE}/{name}"].to_dataset(inherit=False)
    dims = [d for d in LEADING if d in shown[names.LOSS].dims]
    sizes = [shown.sizes[d] for d in dims]
    labels = {d: [str(v) for v in shown[d].values] for d in dims}
    inner = [d for d in (names.EXAMPLE, names.TOKEN) if d in shown[names.LOSS].dims]
    shape = tuple(shown.sizes[d] for d in inner)
    found = {}
    for place in itertools.product(*map(range, sizes)):
        run = run_of(tree, **{d: labels[d][i] for d, i in zip(dims, place, strict=True)})
        found[place] = _of_run(run, name, train, shape)
    pieces = max((len(f["draws"]) for f in found.values() if f), default=0)
    if not pieces:
        raise Diverged(say("a sweep without draws", "at least 2 draws of a run", "sample longer"))
    out: dict[str, Any] = {}
    for key in ("mean_loss", "cov", "mean_phi", "mean_train", "cov_train", "draws", "half"):
        tail = shape if key in ("mean_loss", "cov") else ()
        values = np.full((*sizes, pieces, *tail), np.nan, np.float32 if tail else np.float64)
        for place, one in found.items():
            if one:
                values[place][: len(one[key])] = one[key]
        out[key] = ((*dims, PIECE, *(inner if tail else ())), values)
    rho = np.array([f["rho"] if f else np.nan for f in found.values()]).reshape(sizes)
    out["rho_loc"] = (dims, rho)
    init = shown[names.INIT_LOSS]
    out[names.INIT_LOSS] = (init.dims, trees.read(init))
    base = tree[f"{names.PROBE}/{train}"].to_dataset(inherit=False)[names.INIT_LOSS]
    axes = [d for d in base.dims if d != names.CHECKPOINT_DIM]
    out["init_train"] = base.astype("f8").mean(axes)
    coords = {d: shown[d] for d in (*dims, *inner)}
    coords |= {k: shown[k] for k in (*_KEPT, names.TRAINING_STEP) if k in shown}
    sampling = tree[names.SAMPLING]
    coords |= {k: v for k, v in sampling.coords.items() if k == names.A_SPACE_DIM}
    hyper = {k: float(sampling[k][0]) for k in (names.NBETA, names.GAMMA, names.STEP_SIZE)}
    _one_setting(sampling)
    attrs = {"probe": name, "train": train, "kind": shown.attrs.get("kind", ""), **hyper}
    return xr.Dataset(out, coords, attrs)


def _names(tree: xr.DataTree, probe: str | None, train: str | None) -> tuple[str, str]:
    known = trees.probe_names(tree)
    if probe is None and len(known) == 1:
        probe = known[0]
    for name in (probe, train or probe):
        if name not in known:
            raise InputError(
                say(
                    f"probe {name!r}{nearest(str(name), known)}",
                    f"one of {', '.join(known) or 'none: sample with probes=[...]'}",
                    "name one",
                )
            )
    return str(probe), str(train or probe)


def _one_setting(sampling) -> None:
    for key in (names.NBETA, names.GAMMA, names.STEP_SIZE):
        values = np.unique(np.asarray(sampling[key]))
        if len(values) > 1:
            raise InputError(
                say(
                    f"chains that differ in {key}: {', '.join(f'{v:g}' for v in values)}",
                    "one setting",
                    "select the chains of one setting",
                )
            )


def _of_run(run: xr.DataTree, probe: str, train: str, shape: tuple[int, ...]) -> dict | None:
    skip = trees.statuses(run)
    data, base = trees.probe(run, probe), trees.probe(run, train)
    start = np.nanmean(np.asarray(base[names.INIT_LOSS], np.float64))
    chains = [i for i, c in enumerate(data[names.CHAIN].values) if c not in skip]
    series = []
    for chain in chains:
        losses = trees.read(data[names.LOSS].isel({names.CHAIN: chain})).reshape(
            data.sizes[names.DRAW], -1
        )
        if probe == train:
            values = losses
        else:
            values = trees.read(base[names.LOSS].isel({names.CHAIN: chain}))
            values = values.reshape(len(values), -1)
        rows = np.isfinite(values).any(1) & np.isfinite(losses).any(1)
        if rows.sum() >= 2:
            level = np.nanmean(values[rows], axis=1, dtype=np.float64)
            series.append((losses[rows], level))
    if not series:
        return None
    count = 1 if len(series) >= 3 else -(-_BATCHES // len(series))
    out: dict[str, list] = {
        k: [] for k in ("mean_loss", "cov", "mean_phi", "mean_train", "cov_train", "draws", "half")
    }
    for number, (losses, level) in enumerate(series):
        batches = min(count, len(level) // 2)
        edges = np.linspace(0, len(level), batches + 1).round().astype(int)
        for batch, (a, b) in enumerate(itertools.pairwise(edges)):
            x, train_loss = losses[a:b].astype(np.float64), level[a:b]
            away = train_loss - train_loss.mean()
            mean = x.mean(0)
            out["mean_loss"].append(mean.reshape(shape))
            out["cov"].append((away @ (x - mean) / (len(x) - 1)).reshape(shape))
            out["mean_phi"].append(train_loss.mean() - start)
            out["mean_train"].append(train_loss.mean())
            out["cov_train"].append(away @ away / (len(x) - 1))
            out["draws"].append(len(x))
            of = len(series) if len(series) > 1 else batches
            where = number if len(series) > 1 else batch
            out["half"].append(0 if where < of // 2 else 1)
    return {k: np.array(v) for k, v in out.items()} | {"rho": checks.rho_loc(run).value}


def save(data: xr.Dataset, path: Any) -> None:
    """Writes moments, or any result, to a new Zarr store; `load` reads it.

    Half precision would do for the tokens; they are kept in float32.
    """
    # Text as variable-length strings: fixed-width ones have no place in the Zarr v3 standard.
    text = {k: v.astype(object) for k, v in data.variables.items() if v.dtype.kind == "U"}
    whole = {k: {"chunks": v.shape} for k, v in data.variables.items() if v.shape}
    plain = data.assign_coords({k: text[k] for k in text if k in data.coords})
    plain = plain.assign({k: text[k] for k in text if k not in data.coords})
    plain.drop_encoding().to_zarr(path, mode="w-", consolidated=False, encoding=whole)


def load(path: Any) -> xr.Dataset:
    """What `save` wrote, in memory.

    Raises:
        StoreError: nothing there that can be read.
    """
    try:
        found = xr.open_dataset(path, engine="zarr", consolidated=False, chunks=None).load()
    except Exception as cause:
        raise StoreError(
            say(f"{str(path)!r}, which cannot be read", "moments written by save()", "make it anew")
        ) from cause
    return trees.plain_text(found)


def spread(values: xr.DataArray) -> xr.DataArray:
    """Standard error of the mean over pieces: sd / sqrt(pieces)."""
    count = values.notnull().sum(PIECE)
    return values.std(PIECE, ddof=1) / np.sqrt(count.where(count > 1))


def by_half(values: xr.DataArray, half: xr.DataArray) -> xr.DataArray:
    """Means over the pieces of either half of the draws, with the dim `half` in front."""
    return xr.concat([values.where(half == h).mean(PIECE) for h in (0, 1)], HALF)


def reliability(estimate: xr.Dataset, name: str | None = None) -> xr.DataArray:
    """Split-half reliability: correlation over tokens of the estimates from either half.

    One number a component.  Below .5 most of what differs between tokens is noise, and a view
    mutes it.  Centre and standardise first: what all tokens or components share is easy to repeat.

    Args:
        estimate: a result of `susceptibility` or `refined_llc(probe=...)`, or of a function that
            centres one.
        name: which of its variables; found where there is one with a `half`.

    Returns:
        DataArray over what is not a token: components, checkpoints.
    """
    name = name or next((str(v)[:-7] for v in estimate.data_vars if str(v).endswith("_halves")), "")
    if f"{name}_halves" not in estimate:
        raise InputError(
            say("an estimate without halves", "one made from several chains", "see susceptibility")
        )
    both = estimate[f"{name}_halves"]
    a, b = both.isel({HALF: 0}), both.isel({HALF: 1})
    dims = [d for d in (names.EXAMPLE, names.TOKEN) if d in both.dims]
    out = xr.corr(a, b, dims)
    return out.rename("reliability").assign_attrs(
        {names.A_FORMULA: "corr over tokens of the two halves of the draws", "muted below": 0.5}
    )
