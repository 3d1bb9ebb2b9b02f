"""Two-dimensional coordinates of a table by PCA, UMAP or t-SNE."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say

METHODS = ("pca", "umap", "tsne")


def embed(
    data: Any,
    method: str = "pca",
    *,
    dim: str | None = None,
    seed: int = 0,
    **options: Any,
) -> xr.DataArray:
    """Return two coordinates for every row of a table.

    Args:
        data: What `slt.kernel_map` returns, or a DataArray with two dims, such as
            susceptibilities `(token, component)`.
        method: "pca" (the first two principal components: distances are meaningful), "umap" or
            "tsne" (neighbourhoods are meaningful; sizes of gaps and clusters are not).
        dim: The dim of `data` that is reduced; the last one if None.
        seed: Of UMAP and t-SNE.
        **options: For the method (`n_neighbors=`, `min_dist=`, `metric=`, `perplexity=`, ...).

    Returns:
        DataArray (the other dims stacked in order as `point`, or the one other dim; `axis`) with
        the coords of `data`, named after the method.  Rows with NaN stay NaN.  Positions have no
        standard error: run another `seed` to see what changes.

    Raises:
        InputError: An unknown method, or a package that is not installed.

    References: UMAP: McInnes et al. 2018 (arXiv:1802.03426).
    """
    if method not in METHODS:
        raise InputError(
            say(f"method={method!r}{nearest(method, METHODS)}", f"one of {METHODS}", "name one")
        )
    array = data["coordinate"] if isinstance(data, xr.Dataset) else data
    if not isinstance(array, xr.DataArray) or array.ndim < 2:
        got = f"dims {array.dims}" if isinstance(array, xr.DataArray) else type(data).__name__
        raise InputError(say(got, "a table of two dims or more", "pass slt.kernel_map(run)"))
    dim = str(array.dims[-1]) if dim is None else dim
    rest = [str(d) for d in array.dims if d != dim]
    if dim not in array.dims:
        raise InputError(say(f"dim={dim!r}", f"one of {array.dims}", "name one"))
    table = array.transpose(*rest, dim)
    x = np.asarray(table.values, np.float64).reshape(-1, array.sizes[dim])
    good = np.isfinite(x).all(1)
    if good.sum() < 3:
        raise InputError(say(f"{int(good.sum())} finite rows", "at least 3", "pass more examples"))
    flat = np.full((len(x), 2), np.nan)
    flat[good] = _lay(x[good], method, seed, options)
    shape = tuple(array.sizes[d] for d in rest)
    coords = {k: v for k, v in array.coords.items() if dim not in v.dims}
    return xr.DataArray(
        flat.reshape(*shape, 2).astype("f4"),
        coords={**coords, "axis": ["x", "y"]},
        dims=[*rest, "axis"],
        name=method,
        attrs={
            names.A_KIND: "embedding",
            "method": method,
            "seed": seed,
            "stderr": "none stated",
            **options,
        },
    )


def _lay(x: np.ndarray, method: str, seed: int, options: dict) -> np.ndarray:
    if method == "pca":
        centred = x - x.mean(0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        y = u[:, :2] * s[:2]
        if y.shape[1] < 2:
            y = np.pad(y, ((0, 0), (0, 1)))
        # The sign of a component is arbitrary: make its skewness positive, so that runs agree.
        return y * np.where((y**3).sum(0) < 0, -1, 1)
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError as cause:
            raise InputError(
                say("no package umap-learn", "it installed", "pip install 'slt-notebook[maps]'")
            ) from cause
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that a seed makes it run on one core
            near = min(options.pop("n_neighbors", 15), len(x) - 1)
            return UMAP(n_neighbors=near, random_state=seed, **options).fit_transform(x)
    from sklearn.manifold import TSNE

    wide = min(options.pop("perplexity", 30.0), (len(x) - 1) / 3)
    return TSNE(perplexity=wide, random_state=seed, **options).fit_transform(x)
