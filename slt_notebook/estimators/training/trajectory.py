"""Joint PCA of the outputs of models over training, and a random walk as its control.

The outputs on a fixed batch at each checkpoint are a row; the rows of all runs are one matrix with
centred columns, whose principal components are the axes (arXiv:2501.17745, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.results.store import read

ROWS = 512
"""Checkpoints read at once."""
DENSE = 1500
"""Columns up to which all eigenvectors are computed, rather than the first by Lanczos."""

RUN, PREDICTOR = "run", "predictor"


def trajectory_pca(
    runs: Mapping[Any, Any], *, predictors: Mapping[Any, Any] | None = None, components: int = 4
) -> xr.Dataset:
    """Return joint principal components of the outputs of several runs over training.

        F [run * step, column] - mean over rows = U S V',   score = (F - mean) V

    Ideal predictors are projected with the same mean and V; they are *not* part of the PCA.

    The rows are read in blocks, three times (mean, covariance, scores).  Memory holds one run, one
    block and the covariance of the columns for any number of runs; with fewer rows than columns,
    the rows.

    PCA of any smooth series shows arcs: compare with `random_walk(runs)` before interpreting
    curvature.  Distances in the plane are not distances between functions.

    Args:
        runs: Name -> outputs `(step, ...)`, or a function without arguments that returns them.
            The dims besides `step` are the columns, the same for all.
        predictors: Name -> outputs of an ideal predictor on the same batch, without `step`.
        components: Number of components to keep.

    Returns:
        Dataset `score (run, step, component)` (NaN where a run has no such step), `explained
        (component)` (share of the variance), `loading (component, ...)`, `mean (...)` and, with
        predictors, `predictor_score (predictor, component)`.  The sign of a component makes its
        largest loading positive.  It describes these runs and has no standard error.

    Raises:
        InputError: No runs, different columns, values that are not finite, too many components.

    References: Carroll et al. 2025 (arXiv:2501.17745).
    """
    if not isinstance(runs, Mapping) or not runs:
        raise InputError(say(f"{type(runs).__name__} of runs", "{name: outputs}", "pass a mapping"))
    first = _outputs(runs, next(iter(runs)))
    columns = [d for d in first.dims if d != names.STEP]
    like = first.isel({names.STEP: 0}, drop=True).transpose(*columns)
    width = int(np.prod(like.shape))
    steps, total, count = {}, np.zeros(width), 0
    for name in runs:
        run = _outputs(runs, name, like)
        steps[name] = run[names.STEP].values
        for block in _blocks(run, columns):
            total += block.sum(0, dtype=np.float64)
            count += len(block)
    if not 1 <= components <= min(count - 1, width):
        bound = min(count - 1, width)
        raise InputError(say(f"components={components}", f"1 to {bound}", "pass fewer"))
    mean = (total / count).astype(np.float32)
    centred = lambda name: (b - mean for b in _blocks(_outputs(runs, name, like), columns))
    if count <= width:
        rows = np.concatenate([b for name in runs for b in centred(name)])
        axes, variance, whole = _by_rows(rows, components)
    else:
        axes, variance, whole = _by_columns(
            (b for n in runs for b in centred(n)), width, components
        )
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(components)])
    return _dataset(runs, steps, centred, axes, variance / whole, mean, like, predictors or {})


def _by_rows(rows: np.ndarray, components: int):
    """Return eigenvectors through the Gram matrix of the rows, for fewer rows than columns."""
    gram = (rows @ rows.T).astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
    axes = rows.T @ vectors
    return axes / np.linalg.norm(axes, axis=0), values, np.trace(gram)


def _by_columns(blocks: Iterator[np.ndarray], width: int, components: int):
    """Return eigenvectors of the covariance of the columns, accumulated in float64."""
    square = np.zeros((width, width))
    for block in blocks:
        square += block.T @ block
    if width <= DENSE:
        values, vectors = np.linalg.eigh(square)
    else:
        from scipy.sparse.linalg import eigsh

        start = np.ones(width) / np.sqrt(width)  # a fixed start, for reproducible results
        values, vectors = eigsh(square, k=components, v0=start)
    order = np.argsort(values)[::-1][:components]
    return vectors[:, order], values[order], np.trace(square)


def _dataset(runs, steps, centred, axes, explained, mean, like, predictors) -> xr.Dataset:
    every = np.unique(np.concatenate(list(steps.values())))
    score = np.full((len(runs), len(every), axes.shape[1]), np.nan)
    for k, name in enumerate(runs):
        score[k, np.searchsorted(every, steps[name])] = np.concatenate(
            [b @ axes for b in centred(name)]
        )
    shape = tuple(like.shape)
    values = {
        "score": ((RUN, names.STEP, names.COMPONENT), score),
        "explained": ((names.COMPONENT,), explained),
        "loading": ((names.COMPONENT, *like.dims), axes.T.reshape(-1, *shape)),
        "mean": (tuple(like.dims), mean.reshape(shape)),
    }
    coords = {
        RUN: [str(n) for n in runs],
        names.STEP: every,
        names.COMPONENT: [f"PC{i + 1}" for i in range(axes.shape[1])],
    }
    if predictors:
        flat = np.stack([_flat(value, like, name) for name, value in predictors.items()])
        values["predictor_score"] = ((PREDICTOR, names.COMPONENT), (flat - mean) @ axes)
        coords[PREDICTOR] = [str(n) for n in predictors]
    attrs = {
        names.A_FORMULA: "score = (F - mean over rows) V, F = U S V'",
        names.A_SOURCE: "Carroll et al. 2025 (arXiv:2501.17745)",
        "uncertainty": "none: it describes these runs on this batch",
    }
    own = {k: v for k, v in like.coords.items() if k in like.dims}
    return xr.Dataset(values, coords | own, attrs)


def _outputs(runs: Mapping, name: Any, like: xr.DataArray | None = None) -> xr.DataArray:
    value = runs[name]
    value = (
        value() if isinstance(value, Callable) and not isinstance(value, xr.DataArray) else value
    )
    if not isinstance(value, xr.DataArray) or names.STEP not in value.dims:
        raise InputError(
            say(f"run {name!r}: {type(value).__name__}", "a DataArray with dim 'step'", "name it")
        )
    if names.STEP not in value.coords:
        value = value.assign_coords({names.STEP: np.arange(value.sizes[names.STEP])})
    if like is not None:
        own = {d: n for d, n in value.sizes.items() if d != names.STEP}
        if own != dict(like.sizes):
            raise InputError(
                say(f"run {name!r} with columns {own}", f"{dict(like.sizes)}", "use one batch")
            )
    return value


def _blocks(run: xr.DataArray, columns: list) -> Iterator[np.ndarray]:
    ordered = run.transpose(names.STEP, *columns)
    for start in range(0, run.sizes[names.STEP], ROWS):
        block = read(ordered.isel({names.STEP: slice(start, start + ROWS)}))
        block = np.asarray(block, np.float32).reshape(block.shape[0], -1)
        if not np.isfinite(block).all():
            raise InputError(say("outputs with NaN or infinity", "finite ones", "drop those steps"))
        yield block


def _flat(value: Any, like: xr.DataArray, name: Any) -> np.ndarray:
    if not isinstance(value, xr.DataArray) or dict(value.sizes) != dict(like.sizes):
        raise InputError(
            say(f"predictor {name!r}", f"a DataArray with {dict(like.sizes)}", "use one batch")
        )
    return np.asarray(read(value.transpose(*like.dims)), np.float64).ravel()


def random_walk(
    runs: Mapping[Any, Any], *, columns: int = 512, seed: int = 0
) -> dict[str, xr.DataArray]:
    """Return runs with the step lengths of `runs` in random directions: a control.

    All start at one point.  The principal components of a long random walk in many dimensions are
    cosines that explain 6 / (pi k)^2 of its variance (61 %, 15 %, 7 %, ...) and have no meaning.

    Args:
        runs: As in `trajectory_pca`.
        columns: Dimensions of the walks.
        seed: Of the directions.

    Returns:
        Name -> DataArray `(step, column)`, for `trajectory_pca`.

    References: Antognini and Sohl-Dickstein 2018; Shinn 2023.
    """
    rng = np.random.default_rng(seed)
    out = {}
    for name in runs:
        run = _outputs(runs, name)
        rest = [d for d in run.dims if d != names.STEP]
        rows = np.concatenate(list(_blocks(run, rest)))
        length = np.linalg.norm(np.diff(rows, axis=0), axis=1)
        turn = rng.standard_normal((len(length), columns))
        turn *= (length / np.linalg.norm(turn, axis=1))[:, None]
        walk = np.concatenate([np.zeros((1, columns)), np.cumsum(turn, 0)])
        coords = {names.STEP: run[names.STEP].values}
        out[str(name)] = xr.DataArray(walk, coords, (names.STEP, "column"))
    return out


def walk_explained(components: int) -> np.ndarray:
    """Return the share of variance of each component of a long random walk, `6 / (pi k)^2`.

    >>> walk_explained(2).round(3)
    array([0.608, 0.152])
    """
    return 6 / (np.pi * np.arange(1, components + 1)) ** 2
