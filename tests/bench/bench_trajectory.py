"""Memory of the joint PCA of 20 runs x 2,200 checkpoints x 512 sequences.

python -m tests.bench.bench_trajectory [--runs 20] [--sequences 512]

Outputs have 16 predictions a sequence, 8,192 columns; they lie on disk, one file a run, as a user's
would, and the peak is that of the whole process, imports and one run in memory included.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

from slt_notebook.estimators.training.trajectory import trajectory_pca

STEPS, POSITIONS = 2200, 16


def write(folder: Path, run: int, sequences: int) -> Path:
    rng = np.random.default_rng(run)
    width = sequences * POSITIONS
    basis = np.random.default_rng(99).standard_normal((6, width), np.float32)
    time_ = np.linspace(0, 3, STEPS)[:, None]
    path = np.cumsum(rng.standard_normal((STEPS, 6)), 0) / 20 + np.exp(-time_) * [6, 5, 4, 3, 2, 1]
    file = folder / f"{run}.npy"
    out = np.lib.format.open_memmap(file, "w+", np.float32, (STEPS, width))
    for start in range(0, STEPS, 200):
        part = slice(start, start + 200)
        out[part] = path[part].astype("f4") @ basis + 0.1 * rng.standard_normal(
            (len(path[part]), width), np.float32
        )
    return file


def read(file: Path) -> xr.DataArray:
    return xr.DataArray(np.load(file), dims=("step", "column"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--sequences", type=int, default=512)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = [write(Path(name), run, given.sequences) for run in range(given.runs)]
        size = sum(f.stat().st_size for f in files) / 1e9
        begun = time.process_time()
        found = trajectory_pca({f.stem: (lambda f=f: read(f)) for f in files})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(
        f"{given.runs} runs x {STEPS} checkpoints x {given.sequences} sequences ({size:.2f} GB on "
        f"disk): peak {peak:.2f} GB, {time.process_time() - begun:.0f} CPU-s, "
        f"explained {np.round(found.explained.values, 3)}"
    )


if __name__ == "__main__":
    main()
