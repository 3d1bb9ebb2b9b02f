"""Two bracket networks of one training loss and opposite rules: training, and their LLCs.

slt-notebook experiment brackets train --out FILE.npz --seeds 0 1 2
slt-notebook experiment brackets measure --networks FILE.npz --out FILE.nc
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import nn

from slt_notebook.core.kernels.sgld import SGLD
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.experiments import argument_parser
from slt_notebook.runs.sample import sample
from slt_notebook.toys import brackets

TEMPERATURES = ((10.0, 3e-5), (100.0, 2e-5), (300.0, 1e-5))
"""(nbeta, step size): the step keeps the virial ratio near 1 at gamma 1e4."""
GAMMA = 1e4


def measure(networks: dict[str, np.ndarray], chains: int = 3, draws: int = 60) -> xr.Dataset:
    """LLC of every network on the training distribution at each temperature, at one gamma.

    Returns:
        Dataset `llc`, `mcse`, `virial (rule, seed, nbeta)`, `loss (rule, seed)`, and the shares of
        right answers `training` and `crossed (rule, seed)`.
    """
    seeds = sorted({int(name.split("_")[1]) for name in networks})
    data, rows = brackets.probe(), []
    x, y = (torch.from_numpy(v) for v in data.fields.values())
    for rule in brackets.RULES:
        for seed in seeds:
            net = brackets.restore(networks[f"{rule}_{seed}"])
            values: dict = {k: [] for k in ("llc", "mcse", "virial")}
            for nbeta, step in TEMPERATURES:
                run = sample(
                    brackets.loss(net), data, kernel=SGLD(step), nbeta=nbeta, gamma=GAMMA,
                    chains=chains, draws=draws, burnin=40, batch_size=128, progress=False,
                )  # fmt: skip
                found = llc(run)
                for key, name in (("llc", "mean"), ("mcse", "mcse"), ("virial", "virial")):
                    values[key].append(float(found[name]))
            one = xr.Dataset({k: ("nbeta", v) for k, v in values.items()})
            with torch.no_grad():
                one["loss"] = float(brackets.squared_error(net(x), y).mean())
            rows.append(one.assign(brackets.accuracy(net)))
            print(rule, seed, {k: np.round(v, 3) for k, v in values.items()}, flush=True)
    found = xr.concat(rows, "network").assign_coords(nbeta=[t[0] for t in TEMPERATURES])
    index = pd.MultiIndex.from_product([brackets.RULES, seeds], names=["rule", "seed"])
    found = found.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "network"))
    return found.unstack("network").assign_attrs(gamma=GAMMA, chains=chains, draws=draws)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("brackets", __doc__)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument("--networks", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args(arguments)
    if given.what == "measure":
        measure(dict(np.load(given.networks))).to_netcdf(given.out, engine="scipy")
        return
    found = {}
    for seed in given.seeds:
        for rule in brackets.RULES:
            net = brackets.train(rule, seed)
            vector = nn.utils.parameters_to_vector(net.parameters())
            found[f"{rule}_{seed}"] = vector.detach().numpy()
            print(f"{rule} seed {seed}: right {brackets.accuracy(net)}", flush=True)
    np.savez_compressed(given.out, **found)
