"""Which steps of which chains enter an average over a run?  Those after burn-in that are finite.

Shared by `llc`, `health`, `selection` and `interchange`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError, say
from slt_notebook.results import tree as trees

_HYPER = (names.NBETA, names.GAMMA, names.STEP_SIZE)


@dataclass(frozen=True)
class Steps:
    """The steps used: one window for every chain that is used.

    used: positions of these chains.  start, stop: the window, in steps.  excluded: what happened
    to the others.  data: the group `sampling`.
    """

    data: xr.Dataset
    used: np.ndarray
    start: int
    stop: int
    excluded: dict[Any, str]

    def series(self, name: str) -> np.ndarray:
        """A per-step variable over the window, `[chain, step]` float64."""
        return self.whole(name)[:, self.start : self.stop]

    def whole(self, name: str) -> np.ndarray:
        """A per-step variable of the chains used, burn-in included."""
        array = self.data[name].transpose(names.CHAIN, names.STEP)
        return np.asarray(trees.read(array.isel({names.CHAIN: self.used})), np.float64)

    def nbeta(self) -> np.ndarray:
        """`[chain]`, of the chains used."""
        return per_chain(self.data, names.NBETA)[self.used]

    def comparable(self) -> str:
        """Why the chains do not sample one distribution, or nothing."""
        for key in _HYPER:
            if key in self.data.coords or key in self.data:
                values = np.unique(per_chain(self.data, key)[self.used])
                if len(values) > 1:
                    return f"chains differ in {key}: {', '.join(f'{v:g}' for v in values)}"
        return ""


def per_chain(data: xr.Dataset, name: str) -> np.ndarray:
    """A hyperparameter as one float a chain."""
    if name not in data.coords and name not in data:
        raise InputError(
            say(f"a run without {name!r}", "one value a chain", f"assign_coords({name}=...)")
        )
    shape = (data.sizes[names.CHAIN],)
    return np.broadcast_to(np.asarray(trees.read(data[name]), np.float64), shape)


def steps_after_burnin(run: Any, burnin: int | None = None) -> Steps:
    """The steps after burn-in of the chains that did not diverge and have kept up.

    A chain is left out when its status says that it diverged, or when it has less than half of
    the steps of the longest one (it has hardly begun; cutting the others to its length would throw
    most of the run away).  The rest is cut to the shortest.

    Raises:
        InputError: A burn-in that leaves fewer than 2 steps.
        Diverged: No chain left.
    """
    data = trees.sampling(run)
    if burnin is None:
        burnin = int(data.attrs.get(names.A_BURNIN, 0))
    if burnin < 0:
        raise InputError(say(f"burnin={burnin}", "0 or more", "leave it out to use the run's own"))
    dims = (names.CHAIN, names.STEP)
    finite = np.isfinite(trees.read(data[names.LOSS].transpose(*dims)))
    finite &= np.isfinite(trees.read(data[names.INIT_LOSS].transpose(*dims)))
    # A finite step after a gap belongs to no chain any more: count up to the first gap.
    done = np.where(finite.all(1), finite.shape[1], np.argmin(finite, axis=1))
    labels = data[names.CHAIN].values if names.CHAIN in data.coords else np.arange(len(done))
    known = trees.statuses(run)
    excluded = {k: v for k, v in known.items() if k in labels}
    alive = np.array([label not in excluded for label in labels], bool)
    if not alive.any():
        raise Diverged(
            say(
                f"{len(done)} chains, none of them ok "
                f"({'; '.join(f'chain {k} {v}' for k, v in excluded.items())})",
                "at least one",
                "sample with a smaller step_size, or a smaller nbeta and gamma",
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
