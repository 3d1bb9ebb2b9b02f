"""The choice among trusted settings, and the length of a run of it.

An LLC that no longer changes with nbeta / gamma is a property of the model; any other belongs to
the temperature and localization at which it was found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

PLATEAU = 0.05  # relative change of the LLC over a neighbouring nbeta that counts as none
GOOD = (0.3, 0.7)  # of rho_loc


def plateaus(cells: Any) -> None:
    """Mark the trusted cells whose LLC is that of the next smaller nbeta / gamma.

    Args:
        cells: DataFrame of the grid; gets the columns `ratio` (nbeta / gamma), `plateau` and
            `gained` (change of the LLC; NaN where no smaller ratio is trusted).
    """
    cells["ratio"] = cells.nbeta / cells.gamma
    cells["plateau"], cells["gained"] = False, np.nan
    lines = cells[cells.trusted].sort_values(["ratio", "share"])
    values = lines.groupby("ratio").llc.mean()
    for row, cell in lines.iterrows():
        below = values[values.index < cell.ratio * 0.999]
        if len(below):
            change = cell.llc - below.iloc[-1]
            cells.loc[row, "gained"] = change  # pyright: ignore
            cells.loc[row, "plateau"] = abs(change) <= PLATEAU * abs(cell.llc)  # pyright: ignore


def best(good: Any) -> tuple[Any, str]:
    """Return the cell to choose from the trusted ones (a DataFrame), and what its value means."""
    low, high = GOOD
    if good.plateau.any():
        pick = good[good.plateau].sort_values(["ratio", "share"], ascending=False)
        return pick.iloc[0], (
            f"over nbeta / gamma the LLC has levelled off (less than {PLATEAU:.0%} to the next "
            "lower)"
        )
    none = "no plateau of the LLC over nbeta was found, so the value belongs to this nbeta"
    if (good.rho_loc < low).all():
        cell = good.sort_values(["ratio", "share"], ascending=False).iloc[0]
        return cell, (
            f"{none}; rho_loc is {cell.rho_loc:.2f}: the data dominate at every setting, so the "
            "one with the weakest localization is taken"
        )
    off = abs(np.log(good.rho_loc.clip(lower=1e-6) / np.sqrt(low * high)))
    order = good.assign(inside=good.rho_loc.between(low, high), off=off)
    cell = order.sort_values(["inside", "off", "share"], ascending=[False, True, False]).iloc[0]
    far = "" if cell.inside else f", outside {low} to {high}: compare values with care"
    return cell, f"{none}; rho_loc is {cell.rho_loc:.2f}{far}"


def length(cell: xr.Dataset, chain_count: int, steps: int, precision: float) -> tuple[int, int]:
    """Burn-in and draws per chain, for 4 chains, at the relative standard error `precision`.

    Args:
        cell: of the grid: `trace`, `ess`, `mcse`, `llc`.
        chain_count: chains of the cell.
        steps: of each of them.
        precision: relative standard error to be reached.
    """
    trace = cell.trace.mean("chain").values
    width = steps // len(trace)
    level, spread = trace[len(trace) // 2 :].mean(), trace[len(trace) // 2 :].std()
    there = np.flatnonzero(trace > level - 2 * spread)
    arrived = (int(there[0]) + 1 if len(there) else len(trace) // 2) * width
    kept = chain_count * (steps - steps // 2)
    memory = kept / max(float(cell.ess), 1.0)  # steps per effective draw
    sd = float(cell.mcse) * np.sqrt(max(float(cell.ess), 1.0))
    burnin = int(min(max(2 * arrived, 5 * memory), 10 * steps))
    return burnin, draws_for(sd, float(cell.llc), memory, precision)


def draws_for(sd: float, value: float, memory: float, precision: float) -> int:
    """Return the steps per chain, for 4 chains, at the relative standard error `precision`.

    Args:
        sd: standard deviation of one effective draw.
        value: of the LLC.
        memory: steps per effective draw.
        precision: relative standard error to be reached.
    """
    needed = (sd / (precision * max(abs(value), 1e-12))) ** 2 * memory / 4
    return int(np.clip(np.ceil(needed), max(100, 10 * memory), 100_000))
