"""Apply an estimator to every checkpoint of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.results.store import group_of
from slt_notebook.results.sweep import as_sweep, map_runs


def over_checkpoints(
    sweep: Any,
    estimate: Callable[..., Any],
    *args: Any,
    component: str | None = None,
    dataset: str | None = None,
    **options: Any,
) -> Any:
    """Return `estimate(run, *args, **options)` of every checkpoint, joined along `step`.

        slt.over_checkpoints(sweep, slt.influence, unit="sequence", normalize=True)
        slt.over_checkpoints(sweep, slt.group_influence, classes, exclude="same_token")
        slt.over_checkpoints(sweep, slt.loss_kernel)

    Different checkpoints have different posteriors: compare shapes of curves over training, and
    signs within a checkpoint, rather than sizes.

    Args:
        sweep: What `slt.sweep(..., checkpoints=...)` returns, its tree, or its folder.
        estimate: A function of a run that returns a Dataset or DataArray, such as `slt.influence`.
        *args: For `estimate`, after the run.
        component: Which, where the sweep has several.
        dataset: Which, where the sweep has several.
        **options: For `estimate`.

    Returns:
        What `estimate` returns, with the dim `step` first and the coordinate `checkpoint`.  Steps
        are the numbers in the labels ("step1000"), or their positions where one has none.

    Raises:
        InputError: A sweep without checkpoints, unknown labels; and what `estimate` raises.

    References: Lee et al. 2025 (arXiv:2510.12071).
    """
    tree = as_sweep(sweep)
    sampling = group_of(tree, names.SAMPLING)
    if names.CHECKPOINT_DIM not in sampling.dims:
        raise InputError(say("no checkpoints", "a sweep over them", "slt.sweep(checkpoints=...)"))
    labels = [str(v) for v in sampling[names.CHECKPOINT_DIM].values]
    chosen = {"component": component, "dataset": dataset}
    chosen = {k: v for k, v in chosen.items() if v is not None}
    each = map_runs(
        tree,
        lambda run, _: estimate(run, *args, **options),
        over=(names.CHECKPOINT_DIM,),
        **chosen,
    )
    found = list(each.values())
    numbers = ["".join(c for c in label if c.isdigit()) for label in labels]
    steps = [int(n) for n in numbers] if all(numbers) else list(range(len(labels)))
    order = np.argsort(steps, kind="stable")
    joined = xr.concat(
        [found[k] for k in order],
        xr.DataArray([steps[k] for k in order], dims="step", name="step"),
        combine_attrs="drop_conflicts",
    )
    return joined.assign_coords(checkpoint=("step", [labels[k] for k in order]))
