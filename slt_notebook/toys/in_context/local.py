"""Loss and data of a trained in-context transformer, from a stored run, for sampling.

loss = in_context.loss(run, -1)              # of the last checkpoint
data = in_context.probe(run, 4096, seed=1)   # fresh sequences of its training distribution
"""

import ast
import math

import numpy as np
import torch
import xarray as xr
from torch import nn

from slt_notebook.models.losses.supervised import SupervisedLoss, supervised
from slt_notebook.models.probes import Probe, array_probe
from slt_notebook.toys.in_context import data
from slt_notebook.toys.in_context.data import Setting
from slt_notebook.toys.in_context.model import Transformer


class OnPairs(nn.Module):
    """The transformer as a function of one array: `[x_k, y_k]` `[example, k, dim + 1]`."""

    def __init__(self, inner: Transformer):
        super().__init__()
        self.inner = inner

    def forward(self, pairs):
        """Return the predictions of y_k, `[example, k]`."""
        return self.inner(pairs[..., :-1], pairs[..., -1])


def sizes(run: xr.Dataset) -> tuple[Setting, int, int, int]:
    """Return `(setting, width, layers, heads)` of a run."""
    found = ast.literal_eval(run.attrs["sizes"])
    return Setting(*found[:3]), *found[3:]


def loss(run: xr.Dataset, checkpoint: int = -1) -> SupervisedLoss:
    """Squared error of the run's model at a checkpoint (its number), per sequence."""
    setting, width, layers, heads = sizes(run)
    model = Transformer(setting, width, layers, heads)
    vector = torch.from_numpy(np.array(run["weights"].isel(step=checkpoint), np.float32))
    nn.utils.vector_to_parameters(vector, model.parameters())
    return supervised(OnPairs(model), lambda out, y: (out - y).square().mean(1))


def probe(run: xr.Dataset, count: int, seed: int, name: str = "train") -> Probe:
    """Fresh sequences of the run's training distribution, under a seed of their own."""
    setting = sizes(run)[0]
    tasks, own = str(run.attrs["tasks"]), int(run.attrs["seed"])
    chosen = None if math.isinf(float(tasks)) else data.tasks(int(tasks), setting, own)
    generator = torch.Generator().manual_seed(4_000_000 + seed)
    x, y = data.sequences(count, setting, chosen, generator)
    return array_probe(name, torch.cat([x, y[..., None]], -1), y)
