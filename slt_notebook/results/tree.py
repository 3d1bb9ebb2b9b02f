"""What does a finished or running run look like?  A labelled tree, read lazily from its store.

A run is a Zarr store of self-contained groups: `sampling` (one series a chain) and `probe/<name>`
(losses of fixed examples at every draw).  The group `checkpoint` belongs to the sampler and stays
hidden.  The layout's names are in `slt_notebook.names`; `runs/store/run_store.py` writes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, StoreError, nearest, say

_META = "zarr.json"
_FOREIGN = "sampling_loss_micro"  # a variable that only devinterp's stores have


def open_run(path: str | os.PathLike) -> xr.DataTree:
    """Open a run for reading, also while it is still being written.

    Nothing but coordinates, texts and metadata is read before it is used.  What the sampler has
    not written yet is NaN.  Values once read stay in memory: open the run again to see new draws.

    Args:
        path: The folder of the run, usually named `*.zarr`.

    Returns:
        A tree with the groups `sampling` and `probe/<name>`; the root carries the run's task,
        versions and model fingerprint in its attrs.

    Raises:
        StoreError: No run there, a corrupt run, or one written by a newer version of the kit.
    """
    root = Path(path).expanduser()
    _check_root(root)
    groups = {"/": xr.Dataset(attrs=_root_attrs(root))}
    _check_schema(root, groups["/"].attrs)
    groups[f"/{names.SAMPLING}"] = _open(root, names.SAMPLING)
    for name in _probe_folders(root):
        groups[f"/{names.PROBE}/{name}"] = _open(root, f"{names.PROBE}/{name}")
    tree = xr.DataTree.from_dict(groups, name=root.stem)
    _check_variables(root, tree)
    tree.encoding["source"] = str(root)
    return tree


def as_tree(run: Any) -> xr.DataTree:
    """The tree of whatever stands for a run: a tree, a path, or a handle with `.tree`."""
    if isinstance(run, xr.DataTree):
        return run
    if isinstance(run, str | os.PathLike):
        return open_run(run)
    tree = getattr(run, "tree", None)
    if isinstance(tree, xr.DataTree):
        return tree
    raise InputError(
        say(type(run).__name__, "a run: a DataTree, a path, or a Run", "pass slt.open_run(path)")
    )


def sampling(run: Any) -> xr.Dataset:
    """The group `sampling` of a run.  A Dataset with a `step` dim is taken to be one already."""
    if isinstance(run, xr.Dataset) and names.STEP in run.dims:
        return run
    tree = as_tree(run)
    if names.SAMPLING not in tree.children:
        found = ", ".join(tree.children) or "no groups"
        raise InputError(say(f"a tree with {found}", "a group 'sampling'", "pass a run's tree"))
    return tree.children[names.SAMPLING].to_dataset(inherit=False)


def probe_names(run: Any) -> list[str]:
    """Names of the probes of a run, in the order in which they are stored."""
    tree = as_tree(run)
    return list(tree[names.PROBE].children) if names.PROBE in tree.children else []


def probe(run: Any, name: str | None = None) -> xr.Dataset:
    """One probe of a run, as a Dataset `loss(chain, draw, example[, token])` and its labels.

    Args:
        run: A run, or a probe Dataset, which is returned as it is.
        name: Which probe; may be left out when there is only one.

    Raises:
        InputError: No such probe (the nearest names are given), or several and none named.
    """
    if isinstance(run, xr.Dataset):
        return _check_probe(run)
    tree = as_tree(run)
    known = probe_names(tree)
    if not known:
        raise InputError(say("a run without probes", "at least one", "sample with probes=[...]"))
    if name is None:
        if len(known) > 1:
            raise InputError(
                say(f"{len(known)} probes ({', '.join(known)})", "the name of one", "name a probe")
            )
        name = known[0]
    if name not in known:
        raise InputError(
            say(f"probe {name!r}{nearest(name, known)}", f"one of {', '.join(known)}", "name one")
        )
    return _check_probe(tree.children[names.PROBE].children[name].to_dataset(inherit=False))


def statuses(run: Any) -> dict[Hashable, str]:
    """What happened to each chain that is not ok: `{chain: "diverged: ... at step 41"}`."""
    try:
        data = sampling(run)
    except InputError:
        return {}  # a probe Dataset alone does not know
    if names.STATUS not in data:
        return {}
    at = data.get(names.STATUS_STEP)
    found = {}
    for i, code in enumerate(np.asarray(read(data[names.STATUS]))):
        if int(code) != names.STATUS_OK:
            text = names.STATUS_TEXT.get(int(code), f"stopped with the unknown status {code}")
            where = f" at step {int(read(at)[i])}" if at is not None else ""
            chain: Any = data[names.CHAIN].values[i] if names.CHAIN in data.coords else i
            found[chain.item() if hasattr(chain, "item") else chain] = text + where
    return found


def read(array: xr.DataArray) -> np.ndarray:
    """The values of a lazily opened array.

    Raises:
        StoreError: A chunk cannot be read: a copy that was cut short, or a damaged disk.
    """
    try:
        return array.values
    except (MemoryError, InputError):
        raise
    except Exception as cause:
        raise StoreError(
            say(
                f"{array.name!r} that cannot be read ({type(cause).__name__}: {cause})",
                "readable chunks",
                "copy the run again, or sample it again",
            )
        ) from cause


# How a store is opened ---------------------------------------------------------------------------


def _check_root(root: Path) -> None:
    if not root.exists():
        here = [p.name for p in root.parent.glob("*.zarr")] if root.parent.is_dir() else []
        raise StoreError(
            say(f"no folder at '{root}'{nearest(root.name, here)}", "a run", "check the path")
        )
    if not (root / _META).is_file():
        runs = sorted(p.name for p in root.glob("*.zarr"))[:5] if root.is_dir() else []
        inside = f"open one of the runs inside it: {', '.join(runs)}" if runs else "check the path"
        raise StoreError(say(f"'{root}', which is not a run", f"a folder with {_META}", inside))


def _check_schema(root: Path, attrs: dict) -> None:
    schema = attrs.get(names.A_SCHEMA)
    if schema is None:
        foreign = (root / _FOREIGN).is_dir()
        raise StoreError(
            say(
                f"'{root}', a Zarr store without {names.A_SCHEMA!r}",
                "a run of this kit",
                f"use slt.import_devinterp('{root}')" if foreign else "check the path",
            )
        )
    if not isinstance(schema, int) or schema > names.SCHEMA:
        raise StoreError(
            say(
                f"'{root}' of layout {schema!r}",
                f"at most {names.SCHEMA}, which this version reads",
                "upgrade: pip install --upgrade slt-notebook",
            )
        )


def _probe_folders(root: Path) -> list[str]:
    folder = root / names.PROBE
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _root_attrs(root: Path) -> dict:
    """Read directly: opening the root as a group would also read every group below it."""
    try:
        return dict(json.loads((root / _META).read_text(encoding="utf-8")).get("attributes", {}))
    except (OSError, ValueError, AttributeError) as cause:
        raise _unreadable(str(root), cause) from cause


def _open(root: Path, group: str) -> xr.Dataset:
    try:
        opened = xr.open_dataset(
            root, engine="zarr", group=group, consolidated=False, chunks=None, decode_times=False
        )
        return plain_text(opened)
    except (MemoryError, StoreError):
        raise
    except Exception as cause:  # truncated JSON, a missing group, an unknown codec, ...
        raise _unreadable(f"{root}/{group}", cause) from cause


def _unreadable(where: str, cause: Exception) -> StoreError:
    return StoreError(
        say(
            f"'{where}', which cannot be opened ({type(cause).__name__}: {cause})",
            "a complete run",
            "copy the run again, or sample it again with the same store",
        )
    )


def plain_text(data: xr.Dataset) -> xr.Dataset:
    """Texts as fixed-width strings, which every consumer understands; they are small."""
    texts = {
        k: (v.dims, np.asarray(read(data[k]), dtype=object).astype(str), v.attrs)
        for k, v in data.variables.items()
        if v.dtype.kind in "OT"
    }
    if not texts:
        return data
    coords = {k: v for k, v in texts.items() if k in data.coords}
    plain = {k: v for k, v in texts.items() if k not in data.coords}
    return data.drop_vars(list(coords)).assign_coords(coords).assign(plain)


def _check_variables(root: Path, tree: xr.DataTree) -> None:
    wanted = {names.SAMPLING: (names.LOSS, names.INIT_LOSS)}
    wanted |= {f"{names.PROBE}/{p}": (names.LOSS,) for p in probe_names(tree)}
    for group, variables in wanted.items():
        lost = [v for v in variables if v not in tree[group].data_vars]
        if lost:
            raise StoreError(
                say(
                    f"'{root}/{group}' without {' and '.join(map(repr, lost))}",
                    "a complete run",
                    "copy the run again, or sample it again",
                )
            )
    for key in (names.A_TASK, names.A_VERSIONS):
        try:
            json.loads(tree.attrs.get(key, "{}"))
        except (TypeError, ValueError) as cause:
            raise StoreError(
                say(f"'{root}' whose {key!r} is no JSON", "a complete run", "copy the run again")
            ) from cause


def _check_probe(data: xr.Dataset) -> xr.Dataset:
    if names.LOSS not in data:
        raise InputError(
            say(f"a Dataset with {', '.join(map(str, data.data_vars))}", "'loss'", "pass a probe")
        )
    dims = data[names.LOSS].dims
    allowed = {names.CHAIN, names.DRAW, names.EXAMPLE, names.TOKEN}
    needed = {names.CHAIN, names.DRAW, names.EXAMPLE}
    if not needed <= set(dims) <= allowed:
        raise InputError(
            say(
                f"a loss with dims {tuple(dims)}",
                "(chain, draw, example) or (chain, draw, example, token)",
                "rename the dims; a single chain needs expand_dims('chain')",
            )
        )
    return data
