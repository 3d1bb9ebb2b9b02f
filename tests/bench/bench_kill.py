"""A run killed by SIGKILL at random moments and resumed, twenty times: nothing lost or changed.

python -m tests.bench.bench_kill [--times 20]
"""

import argparse
import tempfile
from pathlib import Path

from tests.runs.problems import language, run_text, same
from tests.runs.store.test_run_store import killed_and_resumed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    text = language()
    settings = {"draws": 60, "burnin": 3, "thin": 1, "chains": 3}
    whole = run_text(text, **settings).tree
    hits = rounds = 0
    while hits < times:
        with tempfile.TemporaryDirectory() as folder:
            hits += killed_and_resumed(Path(folder), 3, seed=rounds)
            same(whole, run_text(text, store=Path(folder) / "run.zarr", **settings).tree)
            rounds += 1
    print(f"killed at work {hits} times in {rounds} runs; every resumed run bit-equal to the whole")


if __name__ == "__main__":
    main()
