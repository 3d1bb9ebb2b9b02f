"""Write an influence matrix as a score file of other attribution tools."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook.errors import InputError, say

KEY = "all_modules"


def to_scores(found: xr.Dataset | xr.DataArray, path: str | os.PathLike) -> Path:
    """Write an influence matrix as pairwise scores that kronfluence reads.

    One safetensors file with the tensor `all_modules [query, train]`, **positive = helpful** (the
    sign of kronfluence, bergson and DATE-LM; ours is turned), and beside it `<path>.json` with the
    ids of rows and columns, the formula and the sign.  Read it with
    `kronfluence.analyzer.Analyzer.load_file(path)` or `safetensors.numpy.load_file`.

    Args:
        found: What `slt.influence(..., unit="sequence")` returns; tokens are stacked in order.
        path: Ends in `.safetensors`.

    Returns:
        The path.

    Raises:
        InputError: No influence in it, or another suffix.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(say(f"'{path.name}'", "a name ending in .safetensors", "rename it"))
    array: Any = (
        found["influence"] if isinstance(found, xr.Dataset) and "influence" in found else found
    )
    if not isinstance(array, xr.DataArray) or not any(str(d).endswith("_") for d in array.dims):
        raise InputError(say("no matrix of queries by sources", "one", "pass slt.influence(run)"))
    from safetensors.numpy import save_file

    columns = [str(d) for d in array.dims if str(d).endswith("_")]
    rows = [str(d) for d in array.dims if not str(d).endswith("_")]
    table = array.transpose(*rows, *columns)
    shape = [int(np.prod([array.sizes[d] for d in side])) for side in (rows, columns)]
    values = -np.ascontiguousarray(table.values, dtype=np.float32).reshape(shape)
    about = {
        "rows": _ids(array, rows), "columns": _ids(array, columns),
        "sign": "positive = helpful (minus the Bayesian influence)",
        "formula": str(array.attrs.get("formula", "")), "tool": "slt-notebook",
    }  # fmt: skip
    save_file({KEY: values}, str(path), metadata={"sign": about["sign"]})
    path.with_name(path.name + ".json").write_text(json.dumps(about), encoding="utf-8")
    return path


def _ids(array: xr.DataArray, dims: list[str]) -> list[str]:
    labels = [
        [str(v) for v in (array[d].values if d in array.coords else range(array.sizes[d]))]
        for d in dims
    ]
    if len(labels) == 1:
        return labels[0]
    return [" · ".join(pair) for pair in ((a, b) for a in labels[0] for b in labels[1])]
