"""Train transformers on in-context linear regression at several task diversities (2501.17745).

slt-notebook experiment in-context-training --out RUNS --tasks 4 16 inf --seeds 0 1 2
slt-notebook experiment in-context-training --out RUNS --paper --tasks 1 64 inf  # on a GPU
"""

from collections.abc import Sequence
from pathlib import Path

from slt_notebook.experiments import argument_parser
from slt_notebook.toys.in_context.training import PAPER, Recipe, train


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("in-context-training", __doc__)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--tasks", nargs="+", default=["4", "16", "inf"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--paper", action="store_true", help="the paper's sizes (wants a GPU)")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    recipe = PAPER if given.paper else Recipe()
    for seed in given.seeds:
        for name in given.tasks:
            path = given.out / f"M{name}_seed{seed}.zarr"
            if path.exists():
                continue
            found = train(None if name == "inf" else int(name), recipe, seed, given.device)
            found.to_zarr(path, mode="w")
            last = found.isel(step=-1)
            low = found.ood.mean("position")
            print(
                f"M={name} seed={seed}: {found.cpu_seconds} CPU-s, "
                f"ood min {float(low.min()):.3f} at {int(low.idxmin())}, end {float(low[-1]):.3f}, "
                f"to dMMSE {float(last.to_dmmse):.3f}, to ridge {float(last.to_ridge):.3f}",
                flush=True,
            )
