"""The grid of a calibration: step sizes from the curvature at w*, sampled as chains of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from slt_notebook import names
from slt_notebook.core import streams
from slt_notebook.core.potential import Potential
from slt_notebook.models.probes import Probe
from slt_notebook.runs.calibration.verdicts import judge, look
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.settings import Settings, Speed
from slt_notebook.runs.prepare import device_of, start_run

POWER = 12  # pairs of gradients spent on the curvature


def curvature(
    loss: Any, data: Probe, component: str, examples: int, seed: int, speed: Speed
) -> float:
    """The largest eigenvalue, by size, of the Hessian of the mean loss of some examples at w*."""
    where = device_of(loss, speed)
    here = Shared(loss, data, (), where).loss
    space = partition.resolve(component, here)
    center = space.flatten(here.params)
    one = torch.ones(1, device=where, dtype=torch.float32)
    potential = Potential(here, space, here.params, center, one, one * 0)
    rows = streams.batch(seed, 0, 0, examples, len(data), streams.CONTROL)
    index = torch.from_numpy(np.asarray(rows)).to(where)
    batch = {key: value[index] for key, value in data.tensors(where, center.dtype).items()}
    vector = streams.noise(seed, (0,), 0, space.dim, where, streams.CONTROL)[0]
    reach = 1e-3 * max(float(center.norm()), 1.0)
    value = 0.0
    for _ in range(POWER):
        vector = vector / vector.norm()
        ends = torch.stack([center + reach * vector, center - reach * vector])
        grads = potential.loss_and_grad(ends, [batch, batch])[1]
        vector = (grads[0] - grads[1]) / (2 * reach)
        value = float(vector.norm())
        if not np.isfinite(value) or value == 0:
            break
    return value if np.isfinite(value) else 0.0


def run_grid(
    loss: Any,
    data: Probe,
    component: str,
    settings: Settings,
    speed: Speed,
    step_sizes: Mapping[tuple[float, float, float], float],
    chain_count: int,
    error: float,
) -> xr.Dataset:
    """One run of all settings of the grid, and what each looks like.

    Args:
        loss: as in `slt.sample`.
        data: as in `slt.sample`.
        component: as in `slt.sample`.
        settings: of all runs: kernel, burn-in, draws, batches, seed.
        speed: of all runs.
        step_sizes: of each (gamma, nbeta, share).
        chain_count: chains of each.
        error: the largest `halved_error` of a setting that is trusted.

    Returns:
        Dataset over (gamma, nbeta, share): see `Calibration.evidence`.
    """
    repeat = lambda values: tuple(v for v in values for _ in range(chain_count))
    kernel: Any = settings.kernel
    several = replace(
        settings, kernel=replace(kernel, step_size=repeat(step_sizes.values())),
        nbeta=repeat(b for _, b, _ in step_sizes), gamma=repeat(g for g, _, _ in step_sizes),
        chains=chain_count * len(step_sizes),
    )  # fmt: skip
    run = start_run(loss, data, (), component, several, speed)
    steps = several.burnin + several.draws
    sampling = run.wait()[names.SAMPLING].to_dataset()
    rows = {}
    for place, (key, step) in enumerate(step_sizes.items()):
        part = sampling.isel({names.CHAIN: slice(place * chain_count, (place + 1) * chain_count)})
        rows[key] = look(part, steps) | {"step_size": step}
    judge(rows, error)
    axes = {"gamma": 0, "nbeta": 1, "share": 2}
    coords = {name: sorted({key[i] for key in rows}) for name, i in axes.items()}
    shape = tuple(len(values) for values in coords.values())
    order = [(g, b, s) for g in coords["gamma"] for b in coords["nbeta"] for s in coords["share"]]
    out = xr.Dataset(coords=coords, attrs={names.A_KIND: "calibration"})
    for name in rows[order[0]]:
        values = np.array([rows[key][name] for key in order])
        dims = (*axes, "chain", "block")[: 3 + values.ndim - 1]
        out[name] = (dims, values.reshape(*shape, *values.shape[1:]))
    return out
