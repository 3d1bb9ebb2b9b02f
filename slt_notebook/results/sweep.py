"""Open the runs of a sweep as one tree, whose arrays stay on disk until they are used.

    sampling/      loss (checkpoint, component, chain, step), ...
    probe/<name>/  loss (checkpoint, component, chain, draw, example, token),
                   init_loss (checkpoint, example, token), token_text (example, token), ...

A sweep over several datasets has the dim `dataset` before these.  Runs that have not begun are NaN.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, StoreError, StoreMismatch, nearest, say
from slt_notebook.parsing import store_path
from slt_notebook.results.integrity.files import read
from slt_notebook.results.integrity.sealed import document_digest
from slt_notebook.results.integrity.words import TRANSIENT, cannot_read
from slt_notebook.results.stacked import LEADING, run_attrs, stack
from slt_notebook.results.store import as_tree, group_of, open_run, probe_groups, store_of

T = TypeVar("T")
_FREE = ("component", "model", "data", "draws")  # fields of a task that may differ in a sweep


def open_sweep(folder: str | os.PathLike) -> xr.DataTree:
    """Open all runs of a sweep as one tree, also while they are being written.

    Args:
        folder: The folder that `slt.sweep(store=...)` wrote.

    Returns:
        A tree with the groups `sampling` and `probe/<name>`; dims (checkpoint, component, chain,
        draw, example, token), with `dataset` before them where there are several.

    Raises:
        StoreError: No sweep there, or none of its runs has begun.
        StoreMismatch: Runs that differ in a setting, which is listed: they cannot be compared.
    """
    root = store_path(folder, "folder")
    rows = read_index(root)["runs"]
    # A folder with anything in it has begun: where its metadata is lost, `verify` says so.
    runs = [r for r in rows if _begun(root / r["path"])]
    if not runs:
        raise StoreError(
            say(f"'{root}', none of whose runs has begun", "at least one", "sample it first")
        )
    stores = {r["path"]: store_of(root / r["path"]) for r in runs}
    attrs = {r["path"]: run_attrs(root / r["path"]) for r in runs}
    _check_same_settings(attrs)
    labels = {d: list(dict.fromkeys(r[_KEY[d]] for r in rows)) for d in LEADING}
    by_labels = {tuple(r[_KEY[d]] for d in LEADING): stores[r["path"]] for r in runs}
    model = open_run(root / runs[0]["path"])
    most = {k: max(_lengths(a)[k] for a in attrs.values()) for k in (names.STEP, names.DRAW)}
    first = {k: v for k, v in attrs[runs[0]["path"]].items() if k not in names.STORE_ATTRS}
    groups = {"/": xr.Dataset(attrs=first | {"slt_sweep": str(root.name)})}
    for path in [names.SAMPLING, *(f"{names.PROBE}/{p}" for p in probe_groups(model))]:
        groups[f"/{path}"] = stack(group_of(model, path), path, labels, by_labels, most)
    tree = xr.DataTree.from_dict(groups, name=root.name)
    tree.encoding["source"] = str(root)
    return tree


def _begun(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


_KEY = {names.DATASET: "dataset", names.CHECKPOINT_DIM: "checkpoint", names.COMPONENT: "component"}


_REMAKE = (
    "where it is damaged, move sweep.json away and call slt.sweep again with this folder and the "
    "same settings: the table is made again, and what is sampled is kept"
)


def read_index(folder: Path) -> dict[str, Any]:
    """Return the table of the runs of a sweep.

    Raises:
        StoreError: No sweep in `folder`, a damaged table, or one of a newer version.
    """
    path = Path(folder) / names.SWEEP_INDEX
    try:
        index = json.loads(read(path))
        schema = index[names.A_SCHEMA]
        index["runs"][0]["path"]
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError) as cause:
        if isinstance(cause, OSError) and cause.errno in TRANSIENT:
            raise cannot_read(Path(folder), cause) from cause
        hint = f"open a single run with slt.open_run(path); {_REMAKE}"
        raise StoreError(
            say(f"'{folder}' without a readable {names.SWEEP_INDEX}", "a sweep's folder", hint)
        ) from cause
    if index.get(names.A_DIGEST) not in (None, document_digest(index)):  # none in older sweeps
        got = f"'{folder}', whose {names.SWEEP_INDEX} does not match its digest"
        raise StoreError(say(got, "the table as it was written", _REMAKE))
    if schema > names.SCHEMA:
        raise StoreError(
            say(f"a sweep of layout {schema}", f"at most {names.SCHEMA}", "update slt-notebook")
        )
    return index


def as_sweep(sweep: Any) -> xr.DataTree:
    """Return the tree of a sweep given as a tree, a folder, a `Sweep`, or a single run.

    A folder is opened, and so is `.tree` of a handle: call this once.
    """
    if isinstance(sweep, str | os.PathLike) and (Path(sweep) / names.SWEEP_INDEX).exists():
        return open_sweep(sweep)
    tree = as_tree(sweep)
    sampling = group_of(tree, names.SAMPLING)
    if names.COMPONENT in sampling.dims:
        return tree
    groups = {"/": tree.to_dataset()}
    name = sampling.attrs.get(names.A_COMPONENT, "full")
    axes = {names.CHECKPOINT_DIM: [""], names.COMPONENT: [name]}
    for node in tree.subtree:
        if node.path != "/" and node.data_vars:
            data = node.to_dataset(inherit=False)
            moving = [v for v in data.data_vars if names.CHAIN in data[v].dims]
            groups[node.path] = data.drop_vars(moving).merge(
                data[moving].expand_dims(axes), compat="override", combine_attrs="override"
            )
    return xr.DataTree.from_dict(groups)


def run_of(sweep: Any, **labels: Any) -> xr.DataTree:
    """Return one run of a sweep as the tree of a run, e.g. `run_of(tree, component="l0.h1")`.

    Args:
        sweep: As for `as_sweep`.
        labels: One label for each leading dim; a dim of one label may be left out.

    Raises:
        InputError: An unknown label (the nearest are given), or one that is missing.
    """
    tree = as_sweep(sweep)
    group = group_of(tree, names.SAMPLING)
    chosen = {}
    for dim in LEADING:
        if dim not in group.dims:
            continue
        known = [str(v) for v in group[dim].values]
        label = labels.pop(dim, known[0] if len(known) == 1 else None)
        if label is None:
            raise InputError(say(f"no {dim}", f"one of {', '.join(known)}", f"pass {dim}=..."))
        if str(label) not in known:
            raise InputError(
                say(
                    f"{dim} {label!r}{nearest(str(label), known)}",
                    f"one of {', '.join(known)}",
                    "name one",
                )
            )
        chosen[dim] = known.index(str(label))
    if labels:
        raise InputError(say(f"{sorted(labels)}", f"labels of {LEADING}", "drop the others"))
    groups = {"/": tree.to_dataset()}
    for node in tree.subtree:
        if node.path != "/" and (node.data_vars or node.coords):
            data = node.to_dataset(inherit=False)
            groups[node.path] = data.isel(chosen, missing_dims="ignore").drop_vars(
                [d for d in (*LEADING, names.TRAINING_STEP) if d in data.coords]
            )
    one = groups[f"/{names.SAMPLING}"]
    one.attrs[names.A_COMPONENT] = str(group[names.COMPONENT].values[chosen[names.COMPONENT]])
    if names.A_SPACE_DIM in one.coords:
        one.attrs[names.A_SPACE_DIM] = int(one[names.A_SPACE_DIM])
        groups[f"/{names.SAMPLING}"] = one.drop_vars(names.A_SPACE_DIM)
    return xr.DataTree.from_dict(groups)


def map_runs(
    sweep: xr.DataTree,
    function: Callable[[xr.DataTree, dict[str, str]], T],
    *,
    over: Sequence[str] = LEADING,
    **labels: str,
) -> dict[tuple[int, ...], T]:
    """Return `function(run, its labels)` of every run of a sweep, by position along `over`.

    Args:
        sweep: The tree of a sweep.
        function: Gets the tree of one run, and its labels along `over`.
        over: The leading dims to go along; those that the sweep does not have are skipped.
        labels: Of the other leading dims, as for `run_of`.
    """
    group = group_of(sweep, names.SAMPLING)
    dims = [d for d in over if d in group.dims]
    known = [[str(v) for v in group[d].values] for d in dims]
    found = {}
    for place in itertools.product(*(range(len(k)) for k in known)):
        own = {d: k[i] for d, k, i in zip(dims, known, place, strict=True)}
        found[place] = function(run_of(sweep, **own, **labels), own)
    return found


def _lengths(attrs: Mapping[str, Any]) -> dict[str, int]:
    task = json.loads(attrs[names.A_TASK])
    return {
        names.STEP: task["burnin"] + task["draws"] * task["thin"],
        names.DRAW: task["draws"],
    }


def _check_same_settings(attrs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise if runs differ in anything but component, weights, data and number of draws."""
    first_path, first = None, None
    for path, found in attrs.items():
        task = {k: v for k, v in json.loads(found[names.A_TASK]).items() if k not in _FREE}
        if first is None:
            first_path, first = path, task
            continue
        differences = [
            f"{k}: {first.get(k)!r} in {first_path}, {task.get(k)!r} in {path}"
            for k in sorted(set(first) | set(task))
            if first.get(k) != task.get(k)
        ]
        if differences:
            raise StoreMismatch(
                "runs with different settings cannot be compared:\n  " + "\n  ".join(differences)
            )
