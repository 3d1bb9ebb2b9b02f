"""Token influence against devinterp's `compute_bif` on the same losses.

`python -m tests.bench.bench_influence` (needs `pip install devinterp==2.0.1`) runs both sides, each
in a fresh process and in turn, and prints the ratios of time and of peak memory over what the
process held before the call, and the largest difference up to sign.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def losses(examples: int, tokens: int, chains: int, draws: int) -> np.ndarray:
    """`[chain, draw, example, token]`: a few shared directions and noise, like a model's."""
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((8, examples * tokens))
    shared = rng.standard_normal((chains * draws, 8)) @ factors
    noise = rng.standard_normal((chains * draws, examples * tokens))
    x = 3 + 0.05 * shared + 0.1 * noise
    return x.reshape(chains, draws, examples, tokens).astype("f4")


def memory(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {key} in /proc/self/status")


def measured(call):
    """Result, seconds, and MB of peak resident memory beyond what was there before (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before, start = memory("VmRSS:"), time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    return result, seconds, memory("VmHWM:") - before


def ours(x: np.ndarray, correlation: bool, stderr: bool):
    from slt_notebook.estimators.influence.influence import influence
    from tests.exact import probe_of

    probe = probe_of(x)
    influence(probe.isel(example=slice(2), draw=slice(20)))  # imports and warm caches
    options = {"normalize": correlation, "chains": "pool", "stderr": stderr}
    found, seconds, peak = measured(lambda: influence(probe, **options))
    value = found["influence"].transpose("example", "example_", "token", "token_")
    return value.values, seconds, peak


def theirs(x: np.ndarray, correlation: bool, stderr: bool):
    import xarray as xr
    from devinterp.slt.bif import compute_bif

    def tree(x):
        shape = x.shape
        return xr.DataTree(
            xr.Dataset(
                {
                    "loss_probe": (("chain", "draw", "batch_probe", "token_pos"), x),
                    "input_ids_probe": (
                        ("batch_probe", "token"),
                        np.zeros((shape[2], shape[3] + 1), "i8"),
                    ),
                }
            )
        )

    options = {"compute_covariance": not correlation, "device": "cpu"}
    compute_bif(tree(x[:, :20, :2]), **options)
    whole = tree(x)
    found, seconds, peak = measured(lambda: compute_bif(whole, **options))
    return found["influences"].values, seconds, peak


def child(side: str, folder: str, correlation: bool, stderr: bool) -> None:
    x = np.load(f"{folder}/x.npy")
    value, seconds, peak = {"ours": ours, "theirs": theirs}[side](x, correlation, stderr)
    np.save(f"{folder}/{side}.npy", value)
    print(json.dumps([seconds, peak]))


def spawn(*args: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_influence", "--child", *args],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=127)
    parser.add_argument("--draws", type=int, default=100, help="of each of 4 chains")
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    if a.child:
        side, folder, correlation, stderr = a.child
        return child(side, folder, correlation == "1", stderr == "1")
    x = losses(a.examples, a.tokens, 4, a.draws)
    print(f"{a.examples} sequences x {a.tokens} tokens, 4 chains x {a.draws} draws")
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        for correlation, name in (("0", "covariance"), ("1", "correlation")):
            rows: dict[str, list] = {"theirs": [], "ours": [], "ours with stderr": []}
            for _ in range(a.repeats):
                rows["theirs"].append(spawn("theirs", folder, correlation, "0"))
                rows["ours with stderr"].append(spawn("ours", folder, correlation, "1"))
                rows["ours"].append(spawn("ours", folder, correlation, "0"))
            b, o = (np.load(f"{folder}/{s}.npy", mmap_mode="r") for s in ("theirs", "ours"))
            scale = float(np.abs(b).max())
            gap = max(float(np.abs(p + q).max()) for p, q in zip(b, o, strict=True))
            t, m = np.min(rows["theirs"], axis=0)
            for side, found in rows.items():
                seconds, peak = np.min(found, axis=0)
                print(
                    f"{name:11} {side:16} {seconds:6.2f} s {peak:7.0f} MB"
                    f"   {t / seconds:5.1f} x as fast, {peak / m:.2f} of the memory"
                )
            print(f"{name:11} largest |theirs + ours| = {gap:.2g}, of values up to {scale:.2g}")
    return None


if __name__ == "__main__":
    main()
