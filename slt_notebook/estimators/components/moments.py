"""First and second moments of a sweep, for refined LLCs and susceptibilities.

    phi = L(w) - L(w*)       the observable of a component: L the mean loss of a training probe
    E[l_k],  Cov(phi, l_k),  E[phi],  Cov(phi, L)       for every token k of a shown probe

They are kept per *piece*: a chain where there are three or more, else a batch of successive draws.
Standard errors and split halves are made from the pieces.  A table of moments is about a hundred
times smaller than the losses, and can be distributed in their place.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError, StoreError, nearest, say
from slt_notebook.estimators.health import rho_loc
from slt_notebook.results.result import LABELS, Result, resolve
from slt_notebook.results.settings import one_setting
from slt_notebook.results.stacked import LEADING
from slt_notebook.results.store import group_of, plain_text, probe_groups, read
from slt_notebook.results.sweep import as_sweep, map_runs

PIECE = "piece"
HALF = "half"
_BATCHES = 8


def moments(sweep: Any, *, probe: str | None = None, train: str | None = None) -> xr.Dataset:
    """Return first and second moments of the losses of a sweep, per piece.

    Args:
        sweep: A sweep or a run, or moments, which are returned as they are.
        probe: The probe of the tokens; may be left out when there is only one.
        train: The probe whose mean loss is L; `probe` itself if None.  It should be a fixed sample
            of the training data.

    Returns:
        Dataset with dims ([dataset,] checkpoint, component, piece, example[, token]):
        `mean_loss`, `cov`; per piece `mean_phi`, `mean_train` (of L), `cov_train`, `draws`, `half`;
        `init_loss`, `init_train` per checkpoint; `rho_loc`.  NaN at padding and in runs not drawn.

    Raises:
        InputError: No such probe.  Diverged: No run with draws.
    """
    if isinstance(sweep, xr.Dataset) and "mean_phi" in sweep:
        return sweep
    tree = as_sweep(sweep)
    name, train = _names(tree, probe, train)
    shown = group_of(tree, f"{names.PROBE}/{name}")
    dims = [d for d in LEADING if d in shown[names.LOSS].dims]
    sizes = [shown.sizes[d] for d in dims]
    inner = [d for d in (names.EXAMPLE, names.TOKEN) if d in shown[names.LOSS].dims]
    shape = tuple(shown.sizes[d] for d in inner)
    found = map_runs(tree, lambda run, _: _of_run(resolve(run), name, train, shape), over=dims)
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
    out[names.INIT_LOSS] = (init.dims, read(init))
    base = group_of(tree, f"{names.PROBE}/{train}")[names.INIT_LOSS]
    axes = [d for d in base.dims if d != names.CHECKPOINT_DIM]
    out["init_train"] = base.astype("f8").mean(axes)
    coords = {d: shown[d] for d in (*dims, *inner)}
    coords |= {k: shown[k] for k in (*LABELS, names.TRAINING_STEP) if k in shown}
    sampling = group_of(tree, names.SAMPLING)
    coords |= {k: v for k, v in sampling.coords.items() if k == names.A_SPACE_DIM}
    about = {"probe": name, "train": train, "kind": shown.attrs.get("kind", "")}
    attrs = about | one_setting(sampling)
    return xr.Dataset(out, coords, attrs)


def _names(tree: xr.DataTree, probe: str | None, train: str | None) -> tuple[str, str]:
    known = probe_groups(tree)
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


def _of_run(run: Result, probe: str, train: str, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """Return the moments of one run, with the pieces in front; None if it has no draws."""
    skip = run.diverged
    data, base = run.probe(probe), run.probe(train)
    start = np.nanmean(np.asarray(base[names.INIT_LOSS], np.float64))
    chains = [i for i, c in enumerate(data[names.CHAIN].values) if c not in skip]
    series = []
    for chain in chains:
        losses = read(data[names.LOSS].isel({names.CHAIN: chain})).reshape(
            data.sizes[names.DRAW], -1
        )
        if probe == train:
            values = losses
        else:
            values = read(base[names.LOSS].isel({names.CHAIN: chain}))
            values = values.reshape(len(values), -1)
        rows = np.isfinite(values).any(1) & np.isfinite(losses).any(1)
        if rows.sum() >= 2:
            series.append((losses[rows], np.nanmean(values[rows], axis=1, dtype=np.float64)))
    if not series:
        return None
    count = 1 if len(series) >= 3 else -(-_BATCHES // len(series))
    out: dict[str, list] = {
        k: [] for k in ("mean_loss", "cov", "mean_phi", "mean_train", "cov_train", "draws", "half")
    }
    for number, (losses, mean_loss) in enumerate(series):
        batches = min(count, len(mean_loss) // 2)
        edges = np.linspace(0, len(mean_loss), batches + 1).round().astype(int)
        for batch, (a, b) in enumerate(itertools.pairwise(edges)):
            x, train_loss = losses[a:b].astype(np.float64), mean_loss[a:b]
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
    return {k: np.array(v) for k, v in out.items()} | {"rho": rho_loc(run).value}


def save(data: xr.Dataset, path: Any) -> None:
    """Write moments, or any other result, to a new Zarr store, which `load` reads."""
    # Text as variable-length strings: fixed-width ones have no place in the Zarr v3 standard.
    text = {k: v.astype(object) for k, v in data.variables.items() if v.dtype.kind == "U"}
    whole = {k: {"chunks": v.shape} for k, v in data.variables.items() if v.shape}
    plain = data.assign_coords({k: text[k] for k in text if k in data.coords})
    plain = plain.assign({k: text[k] for k in text if k not in data.coords})
    plain.drop_encoding().to_zarr(path, mode="w-", consolidated=False, encoding=whole)


def load(path: Any) -> xr.Dataset:
    """Return what `save` wrote, in memory.

    Raises:
        StoreError: Nothing there that can be read.
    """
    try:
        found = xr.open_dataset(path, engine="zarr", consolidated=False, chunks=None).load()
    except Exception as cause:
        raise StoreError(
            say(
                f"{str(path)!r}, which cannot be read",
                "moments written by save()",
                "compute them again",
            )
        ) from cause
    return plain_text(found)


def spread(values: xr.DataArray) -> xr.DataArray:
    """Return the standard error of the mean over pieces, sd / sqrt(pieces)."""
    count = values.notnull().sum(PIECE)
    return values.std(PIECE, ddof=1) / np.sqrt(count.where(count > 1))


def by_half(values: xr.DataArray, half: xr.DataArray) -> xr.DataArray:
    """Return means over the pieces of each half of the draws, with the dim `half` in front."""
    return xr.concat([values.where(half == h).mean(PIECE) for h in (0, 1)], HALF)


def reliability(estimate: xr.Dataset, name: str | None = None) -> xr.DataArray:
    """Return the split-half reliability: the correlation over tokens of the two halves' estimates.

    One number per component.  Below 0.5 most of the difference between tokens is noise, and views
    mute it.  Centre and standardize first: what all tokens or components share is reproduced
    easily.

    Args:
        estimate: A result of `susceptibility` or `refined_llc(probe=...)`, centred or not.
        name: Which of its variables; the one that has halves if None.

    Returns:
        DataArray over the other dims: components, checkpoints.

    Raises:
        InputError: An estimate without halves.
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
