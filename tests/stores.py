"""A tree written as a run's store without the sampler, for tests of the result side."""

import shutil
from pathlib import Path

import numpy as np
import xarray as xr


def write_store(tree: xr.DataTree, path, chunk_draws: int = 16, consolidated: bool = False) -> Path:
    """Write `tree` in the layout of a run: one chunk = one chain x a few draws."""
    path = Path(path)
    if path.exists():
        shutil.rmtree(path)
    for node in tree.subtree:
        data = node.to_dataset(inherit=False)
        # Zarr v3 knows variable-length strings; fixed-width ones warn.
        text = {k: v.astype(object) for k, v in data.variables.items() if v.dtype.kind == "U"}
        data = data.assign_coords({k: v for k, v in text.items() if k in data.coords})
        data = data.assign({k: v for k, v in text.items() if k not in data.coords})
        encoding = {
            k: {"chunks": _chunks(v, chunk_draws)}
            for k, v in data.data_vars.items()
            if {"chain", "draw"} <= set(v.dims) and v.size
        }
        group = None if node.path == "/" else node.path.lstrip("/")
        data.to_zarr(path, group=group, mode="a", encoding=encoding, consolidated=consolidated)
    return path


def _chunks(array: xr.DataArray, draws: int) -> tuple[int, ...]:
    size = {"chain": 1, "draw": draws}
    return tuple(int(np.clip(size.get(d, n), 1, max(n, 1))) for d, n in array.sizes.items())
