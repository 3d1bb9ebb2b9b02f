"""What do the runs of a sweep look like together?  One tree whose arrays stay on disk.

    sampling/      loss (checkpoint, component, chain, step), ...
    probe/<name>/  loss (checkpoint, component, chain, draw, example, token),
                   init_loss (checkpoint, example, token), token_text (example, token), ...

A dim `dataset` stands before these where a sweep has several datasets.  Values are read when they
are used, from the stores that hold them; runs that have not begun are NaN.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from slt_notebook import names
from slt_notebook.errors import InputError, StoreError, StoreMismatch, nearest, say
from slt_notebook.results.tree import as_tree, open_run

LEADING = (names.DATASET, names.CHECKPOINT_DIM, names.COMPONENT)
_FREE = ("component", "model", "data", "draws")  # fields of a task in which runs may differ


def open_sweep(folder: str | os.PathLike) -> xr.DataTree:
    """Open all runs of a sweep as one tree, also while they are being written.

    Args:
        folder: what `slt.sweep(store=...)` wrote.

    Returns:
        A tree with the groups `sampling` and `probe/<name>`; dims (checkpoint, component, chain,
        draw, example, token), with `dataset` before them where there are several.

    Raises:
        StoreError: no sweep there, or none of its runs has begun.
        StoreMismatch: runs that differ in a setting, which must not be compared; it is listed.
    """
    root = Path(folder).expanduser()
    rows = read_index(root)["runs"]
    runs = [r for r in rows if (root / r["path"] / "zarr.json").exists()]
    if not runs:
        raise StoreError(
            say(f"'{root}', none of whose runs has begun", "at least one", "sample it first")
        )
    attrs = {r["path"]: _attrs(root / r["path"]) for r in runs}
    _one_setting(attrs)
    labels = {d: list(dict.fromkeys(r[_KEY[d]] for r in rows)) for d in LEADING}
    paths = {tuple(r[_KEY[d]] for d in LEADING): root / r["path"] for r in runs}
    model = open_run(root / runs[0]["path"])
    most = {k: max(_lengths(a)[k] for a in attrs.values()) for k in (names.STEP, names.DRAW)}
    first = attrs[runs[0]["path"]]
    groups = {"/": xr.Dataset(attrs=first | {"slt_sweep": str(root.name)})}
    for path in [names.SAMPLING, *(f"{names.PROBE}/{p}" for p in _probes(model))]:
        group = model[path].to_dataset(inherit=False)
        groups[f"/{path}"] = _stack(group, path, labels, paths, most)
    tree = xr.DataTree.from_dict(groups, name=root.name)
    tree.encoding["source"] = str(root)
    return tree


_KEY = {names.DATASET: "dataset", names.CHECKPOINT_DIM: "checkpoint", names.COMPONENT: "component"}


def read_index(folder: Path) -> dict[str, Any]:
    """The table of a sweep's runs.

    Raises:
        StoreError: no sweep in `folder`, a damaged table, or one of a newer version.
    """
    path = Path(folder) / names.SWEEP_INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        schema = index[names.A_SCHEMA]
        index["runs"][0]["path"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as cause:
        hint = "open a single run with slt.open_run(path)"
        raise StoreError(
            say(f"'{folder}' without a readable {names.SWEEP_INDEX}", "a sweep's folder", hint)
        ) from cause
    if schema > names.SCHEMA:
        raise StoreError(
            say(f"a sweep of layout {schema}", f"at most {names.SCHEMA}", "update slt-notebook")
        )
    return index


def is_sweep(tree: Any) -> bool:
    try:
        return names.COMPONENT in as_tree(tree)[names.SAMPLING].dims
    except (InputError, KeyError):
        return False


def as_sweep(sweep: Any) -> xr.DataTree:
    """The tree of whatever stands for a sweep: a tree, a folder, a `Sweep`, or a single run."""
    if isinstance(sweep, str | os.PathLike) and (Path(sweep) / names.SWEEP_INDEX).exists():
        return open_sweep(sweep)
    tree = as_tree(sweep)
    if is_sweep(tree):
        return tree
    groups = {"/": tree.to_dataset()}
    name = tree[names.SAMPLING].attrs.get(names.A_COMPONENT, "full")
    axes = {names.CHECKPOINT_DIM: [""], names.COMPONENT: [name]}
    for node in tree.subtree:
        if node.path != "/" and node.data_vars:
            data = node.to_dataset(inherit=False)
            moving = [v for v in data.data_vars if names.CHAIN in data[v].dims]
            groups[node.path] = data.drop_vars(moving).merge(
                data[moving].expand_dims(axes), combine_attrs="override"
            )
    return xr.DataTree.from_dict(groups)


def run_of(sweep: Any, **labels: Any) -> xr.DataTree:
    """One run of a sweep as an ordinary run's tree, e.g. `run_of(tree, component="l0.h1")`.

    A leading dim that holds one label need not be named.

    Raises:
        InputError: a label that is not there (the nearest are given), or one that is missing.
    """
    tree = as_sweep(sweep)
    group = tree[names.SAMPLING]
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


# How runs are stacked -----------------------------------------------------------------------------


class Stacked(BackendArray):
    """One variable of many stores with leading axes, read where and when it is indexed."""

    def __init__(self, places: Mapping, leading: tuple[int, ...], inner: tuple, dtype, name: str):
        self.places, self.leading, self.inner = places, leading, inner
        self.shape, self.dtype, self.name = (*leading, *inner), np.dtype(dtype), name

    def __getitem__(self, key: indexing.ExplicitIndexer):
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple) -> np.ndarray:
        count = len(self.leading)
        outer = [
            [k] if isinstance(k, int | np.integer) else list(range(size))[k]
            for k, size in zip(key[:count], self.leading, strict=True)
        ]
        parts = [self._one(place, key[count:]) for place in itertools.product(*outer)]
        shape = [
            len(o)
            for o, k in zip(outer, key[:count], strict=True)
            if not isinstance(k, int | np.integer)
        ]
        one = np.shape(parts[0]) if parts else ()
        return np.asarray(parts, self.dtype).reshape(*shape, *one)

    def _one(self, place: tuple, key: tuple) -> np.ndarray:
        path = self.places.get(place)
        fill = np.nan if self.dtype.kind == "f" else 0
        array = None
        if path is not None:
            try:
                array = zarr.open_array(str(path / self.name), mode="r")
            except FileNotFoundError:
                pass
        if array is not None and array.shape == self.inner:
            return np.asarray(array[key])
        whole = np.full(self.inner, fill, self.dtype)
        if array is not None:  # a run that has more or fewer draws than the longest
            window = tuple(
                slice(0, min(a, b)) for a, b in zip(array.shape, self.inner, strict=True)
            )
            whole[window] = array[window]
        return whole[key]


def _stack(group: xr.Dataset, path: str, labels, paths, most) -> xr.Dataset:
    """The Dataset of one group with the leading dims of a sweep."""
    leading = [d for d in LEADING if d != names.DATASET or labels[d] != [""]]
    sizes = {d: len(labels[d]) for d in leading}
    index = {d: {label: i for i, label in enumerate(labels[d])} for d in LEADING}
    places, by_checkpoint = {}, {}
    for key, store in paths.items():
        where = tuple(index[d][key[i]] for i, d in enumerate(LEADING) if d in sizes)
        places[where] = store / path
        by_checkpoint.setdefault((index[names.CHECKPOINT_DIM][key[1]],), store / path)
    variables: dict[str, Any] = {}
    fixed = {}
    for name, variable in group.variables.items():
        dims = tuple(map(str, variable.dims))
        moving = names.CHAIN in dims and name not in group.coords
        per_point = name == names.INIT_LOSS and names.CHAIN not in dims
        if not moving and not per_point:
            fixed[name] = (dims, variable.values)
            continue
        inner = tuple(most.get(d, variable.sizes[d]) for d in dims)
        lead = leading if moving else [names.CHECKPOINT_DIM]
        stacked = Stacked(
            places if moving else by_checkpoint,
            tuple(sizes[d] for d in lead),
            inner,
            variable.dtype,
            str(name),
        )
        data = indexing.LazilyIndexedArray(stacked)
        variables[str(name)] = xr.Variable((*lead, *dims), data, variable.attrs)
    coords = {k: v for k, v in fixed.items() if k in group.coords}
    for dim in (names.STEP, names.DRAW):
        if dim in coords:
            coords[dim] = ((dim,), np.arange(most[dim]))
    coords |= {d: ((d,), np.asarray(labels[d], dtype=object).astype(str)) for d in leading}
    steps = [re.fullmatch(r"\D*(\d+)", str(c)) for c in labels[names.CHECKPOINT_DIM]]
    if all(steps):
        numbers = [int(s[1]) for s in steps if s]
        coords[names.TRAINING_STEP] = ((names.CHECKPOINT_DIM,), numbers)
    if path == names.SAMPLING:
        dims = {key[2]: _space_dim(store) for key, store in paths.items()}
        sized = [dims.get(c, 0) for c in labels[names.COMPONENT]]
        coords[names.A_SPACE_DIM] = ((names.COMPONENT,), sized)
    rest = {k: v for k, v in fixed.items() if k not in group.coords}
    attrs = {
        k: v for k, v in group.attrs.items() if k not in (names.A_COMPONENT, names.A_SPACE_DIM)
    }
    return xr.Dataset({**rest, **variables}, coords, attrs)


def _probes(tree: xr.DataTree) -> list[str]:
    return list(tree[names.PROBE].children) if names.PROBE in tree.children else []


def _attrs(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"])
    except (OSError, ValueError, KeyError) as cause:
        raise StoreError(
            say(f"the run {path.name!r}, which is damaged", "a run", "sample it again")
        ) from cause


def _space_dim(store: Path) -> int:
    return int(_attrs(store / names.SAMPLING).get(names.A_SPACE_DIM, 0))


def _lengths(attrs: Mapping[str, Any]) -> dict[str, int]:
    task = json.loads(attrs[names.A_TASK])
    return {
        names.STEP: task["burnin"] + task["draws"] * task["thin"],
        names.DRAW: task["draws"],
    }


def _one_setting(attrs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses runs that differ in anything but component, weights, data and number of draws."""
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
