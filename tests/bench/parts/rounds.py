"""Comparison of two sides: in turn, in one process, several times; the first time is not kept.

A call of a certain length holds what a run does once, however long it is (opening a store, hashing
weights, the kit's first Metropolis test and controls without a loss).  The difference between two
lengths is what a further draw costs, and so a run of hundreds.  Both are reported.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.bench.parts.inside import watched
from tests.bench.parts.machine import sync
from tests.bench.parts.memory import Peak

SHORTEST = 5
"""Draws of the shorter of two lengths, at least."""

Side = Callable[[int, Path], object]


@dataclass(frozen=True)
class Spent:
    """One call: seconds of wall and of CPU, peak bytes, seconds inside losses and gradients."""

    wall: float
    cpu: float
    peak: int | None
    inside: float
    workers: int


def lengths_of(draws: int) -> tuple[int, ...]:
    """The lengths timed: two where a further draw can be told, else one."""
    return (draws // 2, draws) if draws // 2 >= SHORTEST else (draws,)


def once(side: Side, draws: int, device: torch.device) -> Spent:
    """Runs a side in an empty folder."""
    with tempfile.TemporaryDirectory() as folder, watched() as inside, Peak(device) as peak:
        sync(device)
        began, used = time.perf_counter(), time.process_time()
        side(draws, Path(folder))
        sync(device)
        wall, cpu = time.perf_counter() - began, time.process_time() - used
    return Spent(wall, cpu, peak.bytes, inside.seconds, max(1, inside.workers))


def alternate(
    sides: Mapping[str, Side], draws: int, rounds: int, device: torch.device, say=print
) -> dict[str, dict]:
    """Times all sides in turn; a side that fails is left out, and why is kept.

    Returns:
        For each side its `error`, or medians: `call` (wall, cpu, peak bytes), `draw` (wall, cpu of
        a further draw; absent where the lengths do not tell it), `idle` (share of the workers'
        time that is not spent computing) and every number that the medians come from.
    """
    lengths = lengths_of(draws)
    spent: dict[str, dict[int, list[Spent]]] = {n: {k: [] for k in lengths} for n in sides}
    errors: dict[str, str] = {}
    for number in range(rounds + 1):
        for length in (1,) if number == 0 else lengths:  # the first round only warms up
            for name, side in sides.items():
                if name in errors:
                    continue
                try:
                    found = once(side, length, device)
                except Exception as cause:  # a peer that cannot do this work does not end the rest
                    errors[name] = f"{type(cause).__name__}: {cause}".splitlines()[0][:300]
                    say(f"    {name} left out: {errors[name]}")
                    continue
                if number:
                    spent[name][length].append(found)
                    say(f"    {name}, {length} draws: {found.wall:.1f} s, {found.cpu:.1f} of CPU")
    return {
        name: {"error": errors[name]} if name in errors else summary(spent[name]) for name in sides
    }


def summary(spent: Mapping[int, list[Spent]]) -> dict:
    """Medians over rounds; a further draw is the difference within a round."""
    longest, shortest = max(spent), min(spent)
    full = spent[longest]
    median = lambda values: statistics.median(list(values))
    peaks = [s.peak for s in full if s.peak is not None]
    out = {
        "draws": longest,
        "call": {
            "wall": median(s.wall for s in full), "cpu": median(s.cpu for s in full),
            "peak": max(peaks) if peaks else None,
        },
        "workers": full[0].workers, "each": {k: [vars(s) for s in v] for k, v in spent.items()},
        "idle": median(1 - s.inside / (s.workers * s.wall) for s in full),
    }  # fmt: skip
    if longest > shortest:
        pairs = list(zip(spent[shortest], full, strict=True))
        more = longest - shortest
        wall = [(b.wall - a.wall) / more for a, b in pairs]
        out["draw"] = {
            "wall": median(wall), "cpu": median((b.cpu - a.cpu) / more for a, b in pairs),
        }  # fmt: skip
        # Medians of the parts: a noisy round must not divide by its own small difference.
        inside = median((b.inside - a.inside) / more / b.workers for a, b in pairs)
        out["idle"] = 1 - inside / out["draw"]["wall"]
    return out
