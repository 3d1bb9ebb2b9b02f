"""A run of a million steps: memory, open descriptors and the size of its store over time.

python -m tests.bench.bench_soak [--steps 1000000] [--folder FOLDER] [--every 5]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import slt_notebook as slt
from tests.runs.problems import regression

CHAINS, THIN, EXAMPLES = 2, 10, 40
SETTINGS = {
    "chains": CHAINS, "thin": THIN, "batch_size": 8, "nbeta": 20.0, "gamma": 50.0,
    "kernel": slt.SGLD(1e-3), "progress": False, "device": "cpu",
}  # fmt: skip


class Sample(NamedTuple):
    """What the process holds at one moment."""

    seconds: float
    step: int
    rss: float  # resident memory, MB
    descriptors: int
    store: float  # MB on disk


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors() -> int:
    """Open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def size_of(folder: Path) -> float:
    """MB of the files in a folder, while others write there."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:  # a chunk that was just replaced
            continue
    return total / 1e6


def soak(steps: int, folder: Path, every: float) -> Iterator[Sample]:
    """Sample a regression for `steps` steps, and yield what the process holds on the way."""
    loss, data, _, _ = regression(EXAMPLES)
    store = folder / "soak.zarr"
    began = time.monotonic()
    run = slt.sample(
        loss, data, probes=[data], draws=steps // THIN, store=store, blocking=False, **SETTINGS
    )
    while True:
        ended = run.ended(every)
        if ended:
            run.raise_error()
        yield Sample(
            time.monotonic() - began, run.progress()["step"], resident(), descriptors(),
            size_of(store),
        )  # fmt: skip
        if ended:
            return


def planned(steps: int) -> float:
    """MB of the store before compression, as `slt.memory_plan` tells them."""
    loss, data, _, _ = regression(EXAMPLES)
    plan = slt.memory_plan(loss, data, probes=[data], draws=steps // THIN, **SETTINGS)
    return plan.disk / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--every", type=float, default=5.0)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"planned store: {planned(given.steps):.1f} MB")
    print("seconds     step   RSS MB  descriptors  store MB")
    for s in soak(given.steps, folder, given.every):
        print(
            f"{s.seconds:7.0f} {s.step:8d} {s.rss:8.1f} {s.descriptors:12d} {s.store:9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
