"""Principal components of a matrix of tokens by components (structural inference)."""

from __future__ import annotations

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.components.moments import HALF
from slt_notebook.estimators.components.susceptibility import estimate_of

PC = "pc"


def response_pca(chi: xr.Dataset, components: int | None = None) -> xr.Dataset:
    """Return the principal components of a tokens x components matrix: `X = U S V'`.

    Columns are centred and not scaled: apply `zscore` first.  With raw or only standardized
    two-chain values the first component is a profile that all heads share; `center_token` removes
    it and shows what distinguishes them.  The columns of V show which components respond together,
    those of U S to which tokens.  Signs are arbitrary; the largest loading is made positive.

    Args:
        chi: Of `susceptibility` or `refined_llc(probe=...)`, at one checkpoint.
        components: Number of principal components to keep; all if None.

    Returns:
        Dataset `score(pc, example, token)`, `loading(pc, component)`, `explained(pc)` (shares of
        the variance), and where chi has halves `loading_halves(half, pc, component)` (each half
        with its own PCA, matched in sign and order) with `agreement(pc)`, their correlation.

    Raises:
        InputError: Several checkpoints, fewer than two components.

    References: Baker et al. 2025 (arXiv:2504.18274), "structural inference".
    """
    main = estimate_of(chi)
    name = str(main.name)
    matrix, places = finite_table(main)
    if matrix.shape[1] < 2 or len(matrix) < 3:
        raise InputError(
            say(f"a table of {matrix.shape}", "two components and three tokens", "sample more")
        )
    keep = min(components or matrix.shape[1], *matrix.shape)
    u, s, v = _svd(matrix)
    labels = main[names.COMPONENT]
    tokens = [d for d in (names.EXAMPLE, names.TOKEN) if d in main.dims]
    shape = [main.sizes[d] for d in tokens]
    score = np.full((keep, int(np.prod(shape))), np.nan)
    score[:, places] = (u[:, :keep] * s[:keep]).T
    out = xr.Dataset(
        {
            "score": ((PC, *tokens), score.reshape(keep, *shape)),
            "loading": ((PC, names.COMPONENT), v[:keep]),
            "explained": (PC, (s**2 / (s**2).sum())[:keep]),
        },
        {PC: np.arange(1, keep + 1), names.COMPONENT: labels.values},
        chi.attrs,
    )
    halves = f"{name}_halves"
    if halves in chi:
        each = []
        for h in (0, 1):
            part, _ = finite_table(chi[halves].isel({HALF: h}))
            _, _, w = _svd(part)
            each.append(_matched(v[:keep], w))
        out["loading_halves"] = ((HALF, PC, names.COMPONENT), np.stack(each))
        out["agreement"] = (PC, [_cosine(a, b) for a, b in zip(*each, strict=True)])
    keep_coords = {k: main[k] for k in main.coords if set(main[k].dims) <= set(tokens)}
    return out.assign_coords(keep_coords)


def finite_table(array: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return `[token, component]` of the finite tokens, and their positions.

    Raises:
        InputError: Several checkpoints or datasets.
    """
    extra = [d for d in array.dims if d not in (names.COMPONENT, names.EXAMPLE, names.TOKEN)]
    for dim in extra:
        if array.sizes[dim] > 1:
            raise InputError(
                say(f"{array.sizes[dim]} values of {dim}", "one", f"select one: .isel({dim}=-1)")
            )
    array = array.squeeze(extra, drop=True)
    tokens = [d for d in (names.EXAMPLE, names.TOKEN) if d in array.dims]
    table = array.transpose(*tokens, names.COMPONENT).values.astype(float)
    table = table.reshape(-1, array.sizes[names.COMPONENT])
    good = np.isfinite(table).all(1)
    return table[good], np.flatnonzero(good)


def _svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the SVD of the column-centred matrix, the largest loading of a row of V positive."""
    u, s, v = np.linalg.svd(matrix - matrix.mean(0), full_matrices=False)
    sign = np.sign(v[np.arange(len(v)), abs(v).argmax(1)])
    return u * sign, s, v * sign[:, None]


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _matched(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return rows of `found` in the order and with the signs of `wanted`, each used once."""
    out, free = [], list(range(len(found)))
    for row in wanted:
        best = max(free, key=lambda i: abs(found[i] @ row))
        free.remove(best)
        out.append(found[best] * np.sign(found[best] @ row or 1.0))
    return np.stack(out)
