"""Randomness as pure functions of (seed, chain, step).

No generator is ever saved: a run that stops and resumes, or that is split over workers, draws the
same numbers again.  Noise is bit-equal on one kind of device; batches are bit-equal anywhere.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NOISE, BATCH, CONTROL, ACCEPT = 1, 2, 3, 4
"""Names of the independent streams that one seed gives."""

_MASK = (1 << 64) - 1

Places = npt.NDArray[np.int64]
"""Places of examples in the data."""


def mix(*words: int) -> int:
    """One well-mixed 63-bit number from several (splitmix64, Steele et al. 2014).

    >>> mix(0, 1, 2) == mix(0, 1, 2), mix(0, 1, 2) == mix(0, 2, 1)
    (True, False)
    """
    state = 0x9E3779B97F4A7C15
    for word in words:
        state = (state ^ (word & _MASK)) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def noise(
    seed: int,
    chains: tuple[int, ...],
    step: int,
    dim: int,
    device: torch.device | str,
    stream: int = NOISE,
) -> Tensor:
    """Return standard normals `[chain, dim]`; row c depends on (seed, chains[c], step) alone."""
    rows = torch.empty(len(chains), dim, device=device, dtype=torch.float32)
    for row, chain in zip(rows, chains, strict=True):
        row.normal_(generator=generator(seed, chain, step, device, stream))
    return rows


def generator(
    seed: int, chain: int, step: int, device: torch.device | str, stream: int = NOISE
) -> torch.Generator:
    """Return a fresh generator of one chain's numbers at one step."""
    return torch.Generator(device=device).manual_seed(mix(seed, stream, chain, step))


def uniform(seed: int, chains: tuple[int, ...], step: int, device: torch.device | str) -> Tensor:
    """Uniform numbers in [0, 1) `[chain]` float64: functions of (seed, chain, step) alone."""
    # The top 53 of 63 mixed bits: the same on every device.
    values = [(mix(seed, ACCEPT, chain, step) >> 10) / 2**53 for chain in chains]
    return torch.tensor(values, dtype=torch.float64, device=device)


@lru_cache(maxsize=64)
def _order(key: int, size: int) -> Places:
    return np.random.Generator(np.random.Philox(key)).permutation(size)


def batch(
    seed: int, chain: int, step: int, size: int, data_size: int, stream: int = BATCH
) -> Places:
    """Return the indices `[size]` of the examples that a chain reads at a step.

    Each chain reads the data in epochs, every epoch in a new order; a batch may lie in two of
    them.  A batch of all the data is the data in its own order.
    """
    if size == data_size:
        return np.arange(data_size)
    places = np.arange(step * size, (step + 1) * size, dtype=np.int64)
    out = np.empty(size, np.int64)
    for epoch in np.unique(places // data_size):
        here = places // data_size == epoch
        order = _order(mix(seed, stream, chain, int(epoch)), data_size)
        out[here] = order[places[here] % data_size]
    return out
