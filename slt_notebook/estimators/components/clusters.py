"""Clusters of tokens of low conductance in the graph of nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.components.response_pca import finite_table
from slt_notebook.estimators.components.susceptibility import estimate_of

LARGEST = 8000
"""Largest number of tokens, whose linear system is factorized."""


def clusters(
    chi: xr.Dataset,
    *,
    k: int = 45,
    alpha: float = 0.001,
    smallest: int = 20,
    conductance: float = 0.3,
    seeds: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Return local clusters of the response vectors of tokens.

    Around a seed token the personalized PageRank p of the k-nearest-neighbour graph is swept in the
    order of p / degree; the set of least conductance

        Phi(S) = cut(S, rest) / min(vol S, vol rest)

    is a cluster if it has at least `smallest` tokens and at most `conductance`.  Its tokens are
    removed from the seeds, and the next seed is tried.  Standardize first: `zscore`, then
    `center_token`.

    **Controls.**  Equal tokens have similar vectors in any model, and noise also gives clusters
    that seem interpretable: compare number, conductance and purity with `same_token_shuffle` and
    with a run at nbeta = 0.

    Args:
        chi: Of `susceptibility` or `refined_llc(probe=...)`, at one checkpoint.
        k: Number of neighbours.
        alpha: Probability of a jump back to the seed.
        smallest: Smallest number of tokens of a cluster.
        conductance: Largest conductance of a cluster.
        seeds: Largest number of tokens tried as seeds.
        seed: Of their random order.

    Returns:
        Dataset `cluster(example, token)` (-1: none), and over `cluster_id`: `size`, `conductance`,
        `entropy` (of token ids, nats), `top` (its most frequent tokens).

    Raises:
        InputError: Too few tokens for `k`, or more than 8,000.

    References: Gordon et al. 2026 (arXiv:2601.12703); Andersen, Chung & Lang 2006 for the sweep.
    """
    main = estimate_of(chi)
    table, places = finite_table(main)
    if len(table) <= 2 * k or len(table) > LARGEST:
        raise InputError(
            say(
                f"{len(table)} tokens for {k} neighbours",
                f"more than {2 * k} and at most {LARGEST}",
                "choose fewer neighbours, or a part of the tokens",
            )
        )
    graph = _graph(table, k)
    found = _local(graph, alpha, smallest, conductance, seeds, np.random.default_rng(seed))
    tokens = [d for d in (names.EXAMPLE, names.TOKEN) if d in main.dims]
    label = np.full(int(np.prod([main.sizes[d] for d in tokens])), -1)
    for number, (members, _) in enumerate(found):
        label[places[members]] = number
    shape = [main.sizes[d] for d in tokens]
    out: dict[str, Any] = {
        "cluster": (tokens, label.reshape(shape)),
        "size": ("cluster_id", [len(m) for m, _ in found]),
        "conductance": ("cluster_id", [float(c) for _, c in found]),
    }
    if names.TOKEN_TEXT in main.coords:
        text = main[names.TOKEN_TEXT].transpose(*tokens).values.reshape(-1)[places]
        kinds = [np.unique(text[m], return_counts=True) for m, _ in found]
        out["top"] = (
            "cluster_id",
            [", ".join(repr(str(w)) for w in v[np.argsort(-c)][:5]) for v, c in kinds],
        )
        shares = [c / c.sum() for _, c in kinds]
        out["entropy"] = ("cluster_id", [float(-(p * np.log(p)).sum()) for p in shares])
    kept = (*tokens, names.TOKEN_TEXT, names.TOKEN_ID, names.FIRST_TEXT, names.LABEL)
    coords = {d: main[d] for d in kept if d in main.coords and set(main[d].dims) <= set(tokens)}
    return xr.Dataset(
        out,
        coords | {"cluster_id": np.arange(len(found))},
        {
            names.A_KIND: "clusters",
            "k": k, "alpha": alpha, "tokens": len(table), "seeds tried": seeds,
            "share in clusters": float((label >= 0).sum() / len(table)),
            names.A_SOURCE: "arXiv:2601.12703",
        },
    )  # fmt: skip


def conductance(found: xr.Dataset, chi: xr.Dataset) -> xr.DataArray:
    """Return the conductance of given sets of tokens in the graph of other vectors.

    Of a control, it tells whether the tokens of a cluster are close there too.  Tokens without a
    vector in `chi` are left out.

    Args:
        found: Of `clusters`.
        chi: Other vectors of the same tokens: of a control, or of another seed.

    Returns:
        DataArray over `cluster_id`.  With the vectors that gave `found` it is about the
        `conductance` in it (a token of two overlapping sets belongs to the first).

    Raises:
        InputError: Other tokens.
    """
    main = estimate_of(chi)
    tokens = [d for d in (names.EXAMPLE, names.TOKEN) if d in main.dims]
    label = found["cluster"].transpose(*tokens)
    if any(not np.array_equal(label[d], main[d]) for d in tokens):
        raise InputError(say("estimates of other tokens", "the same tokens", "use one probe"))
    table, places = finite_table(main)
    graph = _graph(table, int(found.attrs["k"]))
    degree = np.asarray(graph.sum(1)).ravel()
    here = label.values.reshape(-1)[places]
    out = []
    for number in found["cluster_id"].values:
        member = here == number
        volume = degree[member].sum()
        inside = graph[member][:, member].sum()
        rest = min(volume, degree.sum() - volume)
        out.append((volume - inside) / rest if rest > 0 else np.nan)
    return xr.DataArray(np.array(out, float), {"cluster_id": found["cluster_id"]}, ("cluster_id",))


def same_token_shuffle(chi: xr.Dataset, seed: int = 0) -> xr.Dataset:
    """Return a control of `clusters`: the vectors are permuted among tokens of the same id.

    Clusters that come from the identity of tokens survive this; those that come from their context
    do not.

    Args:
        chi: As in `clusters`.
        seed: Of the permutation.

    Raises:
        InputError: No token ids.
    """
    main = estimate_of(chi)
    if names.TOKEN_ID not in main.coords and names.TOKEN_TEXT not in main.coords:
        raise InputError(say("an estimate without token ids", "one of texts", "see text_probe"))
    key = names.TOKEN_ID if names.TOKEN_ID in main.coords else names.TOKEN_TEXT
    tokens = (names.EXAMPLE, names.TOKEN)
    ids = main[key].transpose(*tokens).values.reshape(-1)
    rest = [d for d in main.dims if d not in tokens]
    values = main.transpose(*tokens, *rest).values
    flat = values.reshape(len(ids), -1).copy()
    good = np.isfinite(flat).all(1)
    rng = np.random.default_rng(seed)
    for token in np.unique(ids[good]):
        here = np.flatnonzero(good & (ids == token))
        flat[here] = flat[rng.permutation(here)]
    moved = xr.DataArray(flat.reshape(values.shape), dims=(*tokens, *rest)).transpose(*main.dims)
    out = chi.drop_vars([v for v in chi.data_vars if str(v).endswith("_halves")])
    out[str(main.name)] = main.copy(data=moved.values)
    return out.assign_attrs(control="shuffled among tokens of one id")


def purity(found: xr.Dataset, tags: xr.DataArray) -> xr.Dataset:
    """Return the largest share of a tag among the tokens of each cluster, and the tag.

    Args:
        found: Of `clusters`.
        tags: Of `token_tags`.

    Returns:
        Dataset over `cluster_id`: `purity` (that share), `tag`, and `lift`, the share divided by
        the share of the tag among all tokens.
    """
    label = found["cluster"]
    dims = (names.EXAMPLE, names.TOKEN)
    shares = [tags.where(label == n).mean(dims) for n in found["cluster_id"].values]
    if not shares:
        return xr.Dataset({"purity": ("cluster_id", []), "lift": ("cluster_id", [])})
    share = xr.concat(shares, found["cluster_id"])
    base = tags.astype(float).mean((names.EXAMPLE, names.TOKEN))
    best = share.argmax("tag")
    return xr.Dataset(
        {
            "purity": share.isel(tag=best).drop_vars("tag"),
            "tag": tags["tag"].isel(tag=best).drop_vars("tag"),
            "lift": (share / base).isel(tag=best).drop_vars("tag"),
        }
    )


def _graph(table: np.ndarray, k: int):
    """Return the symmetric 0/1 adjacency of the k nearest neighbours."""
    from sklearn.neighbors import kneighbors_graph

    one = kneighbors_graph(table, k, mode="connectivity", include_self=False)
    return ((one + one.T) > 0).astype(float).tocsr()


def _local(graph, alpha, smallest, limit, seeds, rng) -> list[tuple[np.ndarray, float]]:
    from scipy.sparse import identity
    from scipy.sparse.linalg import splu

    size = graph.shape[0]
    degree = np.asarray(graph.sum(1)).ravel()
    walk = graph.multiply(1 / degree[:, None]).tocsr()
    solve = splu((identity(size) - (1 - alpha) * walk.T).tocsc())
    taken = np.zeros(size, bool)
    found = []
    for start in rng.permutation(size)[:seeds]:
        if taken[start]:
            continue
        jump = np.zeros(size)
        jump[start] = alpha
        rank = solve.solve(jump) / degree
        order = np.argsort(-rank, kind="stable")
        cut, best = _sweep(graph, degree, order, smallest)
        if cut <= limit:
            members = order[:best]
            members = members[~taken[members]]
            if len(members) >= smallest:
                taken[members] = True
                found.append((members, cut))
    return found


def _sweep(graph, degree, order, smallest) -> tuple[float, int]:
    """Return the least conductance of a prefix of at most half of `order`, and its length."""
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    edges = graph.tocoo()
    # An edge is inside a prefix from the later of its ends on.
    later = np.maximum(place[edges.row], place[edges.col])
    inside = np.cumsum(np.bincount(later, minlength=len(order)))
    volume = np.cumsum(degree[order])
    cut = volume - inside
    phi = cut / np.minimum(volume, degree.sum() - volume + 1e-12)
    window = slice(smallest - 1, len(order) // 2)
    best = smallest - 1 + int(np.argmin(phi[window]))
    return float(phi[best]), best + 1
