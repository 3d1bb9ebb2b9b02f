"""Synthetic inputs that several tests share: trees as a run leaves them, without torch."""

import json

import numpy as np
import xarray as xr

from slt_notebook import names

WORDS = [" the", " cat", "\n", " sat", "ing", " on", "\t", "<b>", " mat", ".", "  ", "é", " of"]


def synthetic_tree(
    chains=4, draws=50, examples=3, length=12, burnin=20, thin=2, seed=0, ragged=True, probe="train"
) -> xr.DataTree:
    """A run as `open_run` returns it: a loss that has equilibrated, correlated token losses.

    Token losses are `x_k . w(draw)` for random `x_k`, so that `Cov = X X^T` is known, plus noise.
    """
    rng = np.random.default_rng(seed)
    steps = burnin + draws * thin
    nbeta = 30.0
    init = 2.0 + 0.2 * rng.standard_normal((chains, steps))
    rise = 0.1 * (1 - np.exp(-np.arange(steps) / 5)) + 0.01 * rng.standard_normal((chains, steps))
    sampling = xr.Dataset(
        {
            names.LOSS: ((names.CHAIN, names.STEP), (init + rise).astype("f4")),
            names.INIT_LOSS: ((names.CHAIN, names.STEP), init.astype("f4")),
            names.VIRIAL: (
                (names.CHAIN, names.STEP),
                (1 + 0.05 * rng.standard_normal((chains, steps))).astype("f4"),
            ),
            names.GRAD_NORM: ((names.CHAIN, names.DRAW), np.ones((chains, draws), "f4")),
            names.DISTANCE: ((names.CHAIN, names.DRAW), np.ones((chains, draws), "f4")),
            names.ACCEPT: ((names.CHAIN, names.DRAW), np.full((chains, draws), 0.9, "f4")),
            names.STATUS: ((names.CHAIN,), np.zeros(chains, "i1")),
            names.STATUS_STEP: ((names.CHAIN,), np.full(chains, -1, "i4")),
            names.CONTROL_LOSS: ((names.CHAIN, names.CONTROL), np.full((chains, 8), 2.2, "f4")),
            names.CONTROL_INIT_LOSS: (
                (names.CHAIN, names.CONTROL),
                np.full((chains, 8), 2.0, "f4"),
            ),
        },
        coords={
            names.CHAIN: np.arange(chains),
            names.STEP: np.arange(steps),
            names.DRAW: np.arange(draws),
            names.STEP_SIZE: (names.CHAIN, np.full(chains, 1e-3)),
            names.NBETA: (names.CHAIN, np.full(chains, nbeta)),
            names.GAMMA: (names.CHAIN, np.full(chains, 300.0)),
        },
        attrs={
            names.A_BURNIN: burnin,
            names.A_THIN: thin,
            names.A_DRAWS: draws,
            names.A_DATA_SIZE: 1000,
            names.A_SPACE_DIM: 77,
            names.A_COMPONENT: "full",
        },
    )
    factors = rng.standard_normal((examples, length - 1, 4)) / 4
    positions = rng.standard_normal((chains, draws, 4))
    base = 2 + rng.random((examples, length - 1))
    loss = base + np.einsum("cdk,etk->cdet", positions, factors)
    loss = loss + 0.05 * rng.standard_normal(loss.shape)
    ids = rng.integers(0, len(WORDS), (examples, length))
    if ragged:
        loss[..., -1, length - 4 :] = np.nan
        base[-1, length - 4 :] = np.nan
    text = np.array(WORDS, dtype=object)[ids]
    group = xr.Dataset(
        {
            names.LOSS: (
                (names.CHAIN, names.DRAW, names.EXAMPLE, names.TOKEN),
                loss.astype("f4"),
            ),
            names.INIT_LOSS: ((names.EXAMPLE, names.TOKEN), base.astype("f4")),
            names.TOKEN_ID: ((names.EXAMPLE, names.TOKEN), ids[:, 1:].astype("i4")),
            names.TOKEN_TEXT: ((names.EXAMPLE, names.TOKEN), text[:, 1:].astype(str)),
            names.FIRST_ID: ((names.EXAMPLE,), ids[:, 0].astype("i4")),
            names.FIRST_TEXT: ((names.EXAMPLE,), text[:, 0].astype(str)),
        },
        coords={
            names.CHAIN: np.arange(chains),
            names.DRAW: np.arange(draws),
            names.EXAMPLE: np.array([f"{probe}/{i}" for i in range(examples)]),
            names.TOKEN: np.arange(1, length),
        },
        attrs={"probe": probe, "kind": "text"},
    )
    root = xr.Dataset(
        attrs={
            names.A_SCHEMA: names.SCHEMA,
            names.A_TASK: json.dumps(
                {"draws": draws, "burnin": burnin, "thin": thin, "seed": seed}
            ),
            names.A_VERSIONS: json.dumps({"slt_notebook": "0.1.0"}),
            names.A_MODEL: "0123456789abcdef",
            names.A_CREATED: "2026-01-01T00:00:00+00:00",
        }
    )
    return xr.DataTree.from_dict(
        {"/": root, f"/{names.SAMPLING}": sampling, f"/{names.PROBE}/{probe}": group}
    )
