"""Collect the runs of `in-context-training`: trajectories, losses and final LLCs in one file.

slt-notebook experiment in-context-collection --runs FOLDER --out transience.nc
"""

from collections.abc import Sequence
from pathlib import Path

from slt_notebook.experiments import argument_parser
from slt_notebook.toys.in_context.collection import collect, final_llcs, last_weights, outputs


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("in-context-collection", __doc__)
    parser.add_argument("--runs", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    given = parser.parse_args(arguments)
    found = collect(given.runs)
    order = found["run"].values
    found = found.merge(final_llcs(given.runs)).sel(run=order)  # merge sorts names as words
    few = outputs(given.runs)
    for name in few.data_vars:
        found[f"{name}_few"] = few[name].rename(example="sequence")
    found.to_netcdf(given.out, engine="scipy")
    last_weights(given.runs).to_netcdf(given.out.with_name("m16.nc"), engine="scipy")
    print(found)
