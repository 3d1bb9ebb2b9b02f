"""Kernels of the ImageNet experiment beside WordNet; needs no torch.

slt-notebook experiment imagenet-report tutorials/imagenet_kernel.nc
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from slt_notebook import names
from slt_notebook.estimators.kernel.alignment import mantel
from slt_notebook.estimators.kernel.loss_kernel import loss_kernel
from slt_notebook.estimators.kernel.taxonomy import by_depth, neighbour_purity

KERNEL, PRIOR = "loss kernel", "nbeta = 0"
OTHERS = {"activation cosine": "activation", "gradient cosine": "gradient"}
LEVEL = 9
"""The depth whose ancestors are the groups of `purity` (mammal, bird, insect, guitar, aircraft);
chosen before the kernel was seen."""


def open_result(path: str | Path) -> xr.Dataset:
    """Return the shipped result, its strings as strings."""
    found = xr.load_dataset(path, engine="scipy")
    text = {k: v.astype(str) for k, v in found.variables.items() if v.dtype.kind in "OS"}
    return found.assign(text)


def probe_of(result: xr.Dataset, variable: str = "loss") -> xr.Dataset:
    """One of the two runs as a probe, which `slt.loss_kernel` and the views take."""
    return xr.Dataset(
        {names.LOSS: result[variable], names.INIT_LOSS: result["init_loss"]},
        coords={names.LABEL: result[names.LABEL]},
    )


def kernels(result: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the four kernels `[example, example]`, all normalized to 1 on the diagonal."""
    own = {
        name: loss_kernel(probe_of(result, variable), stderr=False).values
        for name, variable in ((KERNEL, "loss"), (PRIOR, "prior_loss"))
    }
    return own | {name: result[key].values.astype(float) for name, key in OTHERS.items()}


def table(result: xr.Dataset, *, permutations: int = 999, k: int = 3) -> pd.DataFrame:
    """Per kernel: Spearman with path similarity, and purity of neighbors, each with its p value.

    `rho` is over all pairs; `rho_one_a_class` over one photograph of each class, so that pairs of
    one class (path similarity 1) play no part.
    """
    alike = result["path_similarity"].values
    first = np.sort(np.unique(result["target"].values, return_index=True)[1])
    groups = result["ancestor"].values[:, LEVEL]
    rows = {}
    for name, kernel in kernels(result).items():
        whole = mantel(kernel, alike, permutations=permutations)
        one = mantel(
            kernel[np.ix_(first, first)], alike[np.ix_(first, first)], permutations=permutations
        )
        near = neighbour_purity(kernel, groups, k=k, permutations=permutations)
        rows[name] = {
            "rho": whole["rho"], "null_sd": whole["null_sd"], "p": whole["p"],
            "rho_one_a_class": one["rho"], "p_one_a_class": one["p"],
            "purity": near["purity"], "chance": near["chance"], "p_purity": near["p"],
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def depths(result: xr.Dataset) -> pd.DataFrame:
    """Mean entry by depth of the lowest common ancestor, long form, for every kernel."""
    depth = result["ancestor_depth"].values
    parts = [
        by_depth(kernel, depth).reset_index().assign(kernel=name)
        for name, kernel in kernels(result).items()
    ]
    return pd.concat(parts, ignore_index=True)


def report(result: xr.Dataset) -> None:
    """Print accuracy, mean losses, `table` and `depths` of a result."""
    print(f"network right on {result['right'].values.mean():.3f} of {result.sizes['example']}")
    for name in ("loss", "prior_loss"):
        mean = float(result[name].mean()), float(result["init_loss"].mean())
        print(f"{name}: mean over draws {mean[0]:.3f}, at w* {mean[1]:.3f}")
    print(table(result).round(4).to_string())
    wide = depths(result).pivot(index="depth", columns="kernel", values=["mean", "stderr", "pairs"])
    print(wide.round(3).to_string())
