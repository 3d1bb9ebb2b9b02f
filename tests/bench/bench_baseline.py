"""Steps that the paired baseline of the LLC saves, on the chains of tutorial 00.

    python -m tests.bench.bench_baseline

The steps needed for a standard error go with its square, so the ratio of the squares of the two
errors, from the same chains, is the share of steps that the paired estimate needs.
"""

from pathlib import Path

import slt_notebook as slt


def main() -> None:
    tree = slt.open_run(Path(__file__).parents[2] / "tutorials" / "tour.zarr")
    errors = {
        name: float(slt.llc(tree, unpaired=unpaired)["mcse"])
        for name, unpaired in (("paired", False), ("unpaired", True))
    }
    for name, error in errors.items():
        print(f"{name:9s} LLC {float(slt.llc(tree)['mean']):.1f} ± {error:.2f}")
    share = (errors["paired"] / errors["unpaired"]) ** 2
    print(f"steps for the same error, paired / unpaired: {share:.2f}")


if __name__ == "__main__":
    main()
