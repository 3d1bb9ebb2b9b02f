"""Open the store of a run as a labelled tree whose values are read on use.

A run is a Zarr store of self-contained groups: `sampling` (one series per chain) and `probe/<name>`
(losses of fixed examples at every draw).  The group `checkpoint` belongs to the sampler and is not
shown.  The names in the layout are in `slt_notebook.names`; `runs/store/run_store.py` writes it.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, StoreError, nearest, say
from slt_notebook.parsing import store_path
from slt_notebook.results.integrity.damage import damage_of
from slt_notebook.results.integrity.file_store import ReadStore
from slt_notebook.results.integrity.files import read as read_file
from slt_notebook.results.integrity.verify import inspect, refuse, verify
from slt_notebook.results.integrity.words import cannot_read

_META = "zarr.json"
_ORIGIN = "slt_origin"  # in a variable's encoding: its run and its path there
_FOREIGN = "sampling_loss_micro"  # a variable that only stores of devinterp have


def open_run(path: str | os.PathLike) -> xr.DataTree:
    """Open a run for reading, also while it is still being written.

    Only coordinates, texts and metadata are read at once; other values are read when used.  What
    the sampler has not written yet is NaN.  Values that were read stay in memory: open the run
    again to see new draws.

    Args:
        path: The folder of the run, usually named `*.zarr`.

    Returns:
        A tree with the groups `sampling` and `probe/<name>`; the root carries the run's task,
        versions and model fingerprint in its attrs.

    Raises:
        StoreError: No run there, a corrupt run (metadata that does not match its digest, chunk
            files that are missing although their draws are done), or one written by a newer
            version of the kit.
    """
    return _open_store(store_path(path, "path"))


def _open_store(root: Path) -> xr.DataTree:
    """Open the store at `root`.  Every reading of a run passes here: tests count these calls."""
    _check_root(root)
    groups = {"/": xr.Dataset(attrs=_root_attrs(root))}
    _check_schema(root, groups["/"].attrs)
    store = store_of(root)
    for key in names.STORE_ATTRS:
        groups["/"].attrs.pop(key, None)
    groups[f"/{names.SAMPLING}"] = _open_group(store, names.SAMPLING)
    for name in _probe_folders(root):
        groups[f"/{names.PROBE}/{name}"] = _open_group(store, f"{names.PROBE}/{name}")
    tree = xr.DataTree.from_dict(groups, name=root.stem)
    _check_variables(root, tree)
    tree.encoding["source"] = str(root)
    return tree


def store_of(root: Path) -> ReadStore:
    """Return the Zarr store of the run at `root`, after a look at what must be there.

    Raises:
        StoreError: Something of the run is lost, or the disk does not answer.
    """
    state = verify(root)
    return ReadStore(root, state.needed, state.extent)


def probe_groups(tree: xr.DataTree) -> list[str]:
    """Return the names of the probes of a tree, in the order in which they are stored."""
    return list(tree[names.PROBE].children) if names.PROBE in tree.children else []


def group_of(tree: xr.DataTree, path: str) -> xr.Dataset:
    """Return the Dataset of one group of a tree.

    Raises:
        InputError: No such group.
    """
    node = tree[path] if path.split("/")[0] in tree.children else None
    if not isinstance(node, xr.DataTree):
        found = ", ".join(tree.children) or "no groups"
        raise InputError(say(f"a tree with {found}", f"a group {path!r}", "pass a run or a sweep"))
    return node.to_dataset(inherit=False)


def as_tree(run: Any) -> xr.DataTree:
    """Return the tree of a run given as a tree, a path, or an object with a `.tree`.

    A path is opened and `.tree` of a handle opens its store, so call this once: see `resolve`.

    Raises:
        InputError: None of these.  StoreError: No run at that path, or a corrupt one.
    """
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


def read(array: xr.DataArray) -> np.ndarray:
    """Return the values of a lazily opened array.

    Raises:
        StoreError: A chunk cannot be read or does not match its checksum: a copy that was cut
            short, or a damaged disk.  The message names array, chunk, chain and draws.
    """
    try:
        return array.values
    except (MemoryError, InputError, StoreError):
        raise
    except Exception as cause:
        if _ORIGIN in array.encoding:
            root, path = array.encoding[_ORIGIN]
            what = f"{array.name!r} that cannot be read"
            if isinstance(cause, FileNotFoundError) and Path(root).is_dir():
                refuse(Path(root), inspect(Path(root)).found, cause, what)
            if not isinstance(cause, OSError) or cause.errno == errno.EIO:
                refuse(Path(root), damage_of(Path(root), path), cause, what)
            if isinstance(cause, OSError):
                raise cannot_read(Path(root), cause, repr(array.name)) from cause
        raise StoreError(
            say(
                f"{array.name!r} that cannot be read ({type(cause).__name__}: {cause})",
                "readable chunks",
                "copy the run again, or sample it again",
            )
        ) from cause


# Checks of a store ---------------------------------------------------------------------------


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
        return dict(json.loads(read_file(root / _META)).get("attributes", {}))
    except OSError as cause:
        raise cannot_read(root, cause) from cause
    except (ValueError, AttributeError) as cause:
        raise _unreadable(str(root), cause) from cause


def _open_group(store: ReadStore, group: str) -> xr.Dataset:
    root = store.root
    try:
        opened: xr.Dataset = xr.open_dataset(
            cast(Any, store), engine="zarr", group=group, consolidated=False, chunks=None,
            decode_times=False,
        )  # fmt: skip
        for part in (opened, *opened.variables.values()):
            part.attrs.pop(names.A_DIGEST, None)
        for name, variable in opened.variables.items():
            variable.encoding[_ORIGIN] = (str(root), f"{group}/{name}")
        return plain_text(opened)
    except (MemoryError, StoreError):
        raise
    except Exception as cause:  # truncated JSON, a missing group, an unknown codec, ...
        refuse(root, damage_of(root, group), cause)
        if isinstance(cause, OSError) and cause.errno is not None and root.is_dir():
            raise cannot_read(root, cause, group) from cause
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
    """Return `data` with its texts as fixed-width numpy strings."""
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
    wanted |= {f"{names.PROBE}/{p}": (names.LOSS,) for p in probe_groups(tree)}
    for group, variables in wanted.items():
        lost = [v for v in variables if v not in group_of(tree, group).data_vars]
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
