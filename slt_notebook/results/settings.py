"""The sampler's settings of a run: per chain, shared by all chains, and per observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.results.result import Result
from slt_notebook.results.store import read

SETTINGS = (names.NBETA, names.GAMMA, names.STEP_SIZE)
"""What must agree between chains that sample one distribution."""


def per_chain(sampling: xr.Dataset, name: str) -> np.ndarray:
    """Return a setting as `[chain]` float64.

    Raises:
        InputError: The run does not hold it.
    """
    if name not in sampling.coords and name not in sampling:
        raise InputError(
            say(f"a run without {name!r}", "one value per chain", f"assign_coords({name}=...)")
        )
    shape = (sampling.sizes[names.CHAIN],)
    return np.broadcast_to(np.asarray(read(sampling[name]), np.float64), shape)


def difference(sampling: xr.Dataset, chains: Any = slice(None)) -> str:
    """Return why `chains` do not sample one distribution ("chains differ in ..."), or "".

    Args:
        sampling: A group `sampling`.
        chains: Positions of the chains that are compared.
    """
    for key in SETTINGS:
        if key in sampling.coords or key in sampling:
            values = np.unique(per_chain(sampling, key)[chains])
            if len(values) > 1:
                return f"chains differ in {key}: {', '.join(f'{v:g}' for v in values)}"
    return ""


def one_value(sampling: xr.Dataset, name: str) -> float:
    """Return a setting that all chains share.

    Raises:
        InputError: The chains differ in it, or the run does not hold it.
    """
    values = np.unique(per_chain(sampling, name))
    if len(values) != 1:
        got = f"chains that differ in {name}: {', '.join(f'{v:g}' for v in values)}"
        raise InputError(say(got, "one value", "select the chains of one setting"))
    return float(values[0])


def one_setting(sampling: xr.Dataset) -> dict[str, float]:
    """Return nbeta, gamma and step_size, which all chains must share.

    Raises:
        InputError: The chains differ in one of them.
    """
    return {key: one_value(sampling, key) for key in SETTINGS}


def data_size(sampling: xr.Dataset, n: int | None = None) -> int:
    """Return the number of training examples: `n`, or the run's own if None.

    Raises:
        InputError: Unknown, or below 1.
    """
    n = sampling.attrs.get(names.A_DATA_SIZE) if n is None else n
    if n is None or int(n) < 1:
        raise InputError(say(f"n={n}", "the number of training examples", "pass n="))
    return int(n)


def observation_beta(result: Result, probe: xr.Dataset, n: int | None = None) -> float:
    """Return the inverse temperature of one observation, `nbeta / (n * tokens per example)`.

    An observation is an example; of a text it is the sequence, whose loss is the sum over its
    tokens, while `nbeta` weighs the mean loss of a token.

    Args:
        result: The run, for nbeta and the number of training examples.
        probe: The probe, for the mean number of tokens of an example.
        n: Number of training examples; the run's own if None.

    Raises:
        InputError: nbeta or n unknown, or different between chains.
    """
    if result.is_probe:
        raise InputError(say("a probe without its run", "nbeta and n", "pass the run, or beta="))
    nbeta = one_value(result.sampling, names.NBETA)
    tokens = 1.0
    if names.TOKEN in probe[names.LOSS].dims:
        first = read(probe[names.LOSS].isel({names.CHAIN: 0, names.DRAW: 0}))
        counts = np.isfinite(first).sum(-1)
        tokens = float(counts[counts > 0].mean()) if counts.any() else 1.0
    return nbeta / (data_size(result.sampling, n) * tokens)
