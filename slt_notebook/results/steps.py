"""The steps of a run that enter an average: those after burn-in, of the chains that kept up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError, say
from slt_notebook.results.result import Result
from slt_notebook.results.settings import difference, per_chain
from slt_notebook.results.store import read


@dataclass(frozen=True)
class Steps:
    """The steps used: one window for every chain that is used.

    Attributes:
        data: The group `sampling`.
        used: Positions of the chains that are used.
        start: First step of the window.
        stop: The step after its last.
        excluded: Label of each chain that is left out, and why.
    """

    data: xr.Dataset
    used: np.ndarray
    start: int
    stop: int
    excluded: dict[Any, str]

    def series(self, name: str) -> np.ndarray:
        """Return a per-step variable over the window, `[chain, step]` float64."""
        return self.whole(name)[:, self.start : self.stop]

    def whole(self, name: str) -> np.ndarray:
        """Return a per-step variable of the chains used, `[chain, step]`, with the burn-in."""
        array = self.data[name].transpose(names.CHAIN, names.STEP)
        return np.asarray(read(array.isel({names.CHAIN: self.used})), np.float64)

    @property
    def nbeta(self) -> np.ndarray:
        """`[chain]`, of the chains used."""
        return per_chain(self.data, names.NBETA)[self.used]

    @property
    def thin(self) -> int:
        """Steps per draw."""
        return int(self.data.attrs.get(names.A_THIN, 1))

    @property
    def labels(self) -> np.ndarray:
        """Labels of the chains used."""
        if names.CHAIN in self.data.coords:
            return self.data[names.CHAIN].values[self.used]
        return self.used

    @property
    def difference(self) -> str:
        """Why the chains do not sample one distribution; "" if they do."""
        return difference(self.data, self.used)


def steps_after_burnin(result: Result, burnin: int | None = None) -> Steps:
    """Return the steps after burn-in of the chains that did not diverge and have kept up.

    A chain is left out when its status says that it diverged, or when it has less than half of
    the steps of the longest one (cutting the others to its length would discard most of the run).
    The rest is cut to the shortest.

    Args:
        result: The run.
        burnin: Steps to leave out at the start; the run's own burn-in if None.

    Raises:
        InputError: A burn-in that leaves fewer than 2 steps.
        Diverged: No chain left.
    """
    data = result.sampling
    if burnin is None:
        burnin = int(data.attrs.get(names.A_BURNIN, 0))
    if burnin < 0:
        raise InputError(say(f"burnin={burnin}", "0 or more", "leave it out to use the run's own"))
    dims = (names.CHAIN, names.STEP)
    finite = np.isfinite(read(data[names.LOSS].transpose(*dims)))
    finite &= np.isfinite(read(data[names.INIT_LOSS].transpose(*dims)))
    # A chain ends at its first gap; a finite step after it does not count.
    done = np.where(finite.all(1), finite.shape[1], np.argmin(finite, axis=1))
    labels = data[names.CHAIN].values if names.CHAIN in data.coords else np.arange(len(done))
    known = result.diverged
    excluded = {k: v for k, v in known.items() if k in labels}
    alive = np.array([label not in excluded for label in labels], bool)
    if not alive.any():
        raise Diverged(
            say(
                f"{len(done)} chains, none of them ok "
                f"({'; '.join(f'chain {k} {v}' for k, v in excluded.items())})",
                "at least one",
                "sample with a smaller step_size, or a smaller nbeta or gamma",
            )
        )
    longest = int(done[alive].max())
    if longest - burnin < 2:
        raise InputError(
            say(
                f"{longest} steps of which {burnin} are burn-in",
                "at least 2 steps after it",
                "wait for more draws, or pass burnin=0 and say so",
            )
        )
    for i in np.flatnonzero(alive):
        if 2 * (done[i] - burnin) < longest - burnin:
            excluded[labels[i].item()] = f"has {done[i]} of {longest} steps only"
            alive[i] = False
    return Steps(data, np.flatnonzero(alive), burnin, int(done[alive].min()), excluded)
