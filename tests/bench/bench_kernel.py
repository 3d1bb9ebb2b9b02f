"""Time and memory of neighbours and a map of a large loss kernel.

`python -m tests.bench.bench_kernel [examples] [draws]` writes a store of made-up losses (10,000
examples x 2,000 draws), and in a fresh process opens it, finds the 10 neighbours of every example
with their standard errors, and 50 coordinates for UMAP.  Seconds and peak resident memory include
reading.  With `--umap` also the time of UMAP itself on those coordinates.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def write(path: Path, examples: int, draws: int) -> None:
    from tests.cases import synthetic_tree
    from tests.exact import probe_of
    from tests.stores import write_store

    rng = np.random.default_rng(0)
    factors = rng.standard_normal((20, examples)).astype("f4")
    x = rng.standard_normal((4, draws // 4, 20)).astype("f4") @ factors
    x += rng.standard_normal(x.shape, dtype=np.float32)
    tree = synthetic_tree()
    tree["probe/train"] = tree["probe/train"].from_dict({"/": probe_of(x)})
    write_store(tree, path, chunk_draws=250)


def measure(path: str, umap: bool) -> dict:
    import slt_notebook as slt
    from slt_notebook.estimators.kernel.embed import embed

    start = time.perf_counter()
    tree = slt.open_run(path)
    near = slt.neighbours(tree, k=10)
    middle = time.perf_counter()
    found = slt.kernel_map(tree, modes=50)
    end = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    out = {
        "neighbours_s": middle - start, "map_s": end - middle, "total_s": end - start,
        "peak_GB": memory, "near": float(near.value.mean()), "share": float(found.share.sum()),
    }  # fmt: skip
    if umap:
        start = time.perf_counter()
        embed(found, method="umap")
        out["umap_s"] = time.perf_counter() - start
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", type=int, nargs="?", default=10_000)
    parser.add_argument("draws", type=int, nargs="?", default=2000)
    parser.add_argument("--umap", action="store_true")
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.umap)))
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.zarr"
        write(path, options.examples, options.draws)
        command = [sys.executable, "-m", "tests.bench.bench_kernel", "--child", str(path)]
        command += ["--umap"] if options.umap else []
        found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    print(f"{options.examples} examples x {options.draws} draws")
    for key, value in found.items():
        print(f"  {key:14} {value:.3g}")
