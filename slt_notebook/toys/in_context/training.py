"""Training of in-context regression, with the ideal predictors beside every checkpoint.

    slt-notebook experiment in-context-training --out RUNS --tasks 4 16 inf --seeds 0 1 2
    slt-notebook experiment in-context-training --out RUNS --paper --tasks 1 64 inf  # on a GPU

Fresh data every step, Adam with a warm-up and then a constant rate, gradients clipped at norm 1.
Each run becomes `RUNS/M<tasks>_seed<seed>.zarr`.  The small setting takes about 100 s of one core.
References: Carroll et al. 2025 (arXiv:2501.17745).
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from slt_notebook.errors import InputError, say
from slt_notebook.toys.in_context import data, predictors
from slt_notebook.toys.in_context.data import Setting
from slt_notebook.toys.in_context.model import Transformer, predictions


@dataclass(frozen=True)
class Recipe:
    """How a run is trained; the defaults are those of the small setting."""

    setting: Setting = data.SMALL
    width: int = 48
    layers: int = 2
    heads: int = 4
    steps: int = 6000
    batch: int = 128
    rate: float = 3e-3
    warmup: int = 500
    every: int = 100  # linear checkpoints
    spaced: int = 50  # log-spaced checkpoints
    root: int = 512  # sequences of the root task, for the trajectories
    shown: int = 2048  # sequences of each distribution, for the losses

    @property
    def sizes(self) -> tuple:
        """Everything that the architecture follows from."""
        s = self.setting
        return (s.dim, s.length, s.noise, self.width, self.layers, self.heads)


PAPER = Recipe(data.PAPER, 512, 2, 4, 150_000, 1024, 3e-3, 1000, 100, 1000)
"""The paper's sizes; its warm-up is not stated and is ours."""


def checkpoint_steps(steps: int, every: int = 100, spaced: int = 1000) -> list[int]:
    """`{0, every, 2 every, ..}` and `{floor(steps^(j / (spaced - 1)))}`: linear and log-spaced.

    >>> len(checkpoint_steps(150_000))
    2203
    """
    line = set(range(0, steps + 1, every))
    if spaced > 1:
        # An exact power must not be rounded down by the floating point.
        line |= {int(steps ** (j / (spaced - 1)) + 1e-9) for j in range(spaced)}
    return sorted(line | {0, steps})


def train(
    tasks: int | None,
    recipe: Recipe = Recipe(),
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> xr.Dataset:
    """Train one transformer on `tasks` tasks (None: infinitely many).

    The seed names the tasks, the fixed sets, the initial weights and the training data; runs of one
    seed share the tasks (nested) and the fixed sets.

    Returns:
        Dataset over `step` (checkpoints): `output (step, example, position)` on sequences of the
        root task; `loss (step, position)` on the training distribution and `ood (step, position)`
        with tasks from N(0, I), squared errors with their standard errors over sequences;
        `to_dmmse`, `to_ridge (step)`, mean squared distances on the training distribution;
        `weights (step, dim)`; of the ideal predictors `dmmse`, `ridge` on the root task and
        `dmmse_loss`, `ridge_loss`, `dmmse_ood`, `ridge_ood`.

    Raises:
        InputError: fewer than 1 task.
    """
    if tasks is not None and tasks < 1:
        raise InputError(say(f"tasks={tasks}", "1 or more, or None", "pass None for infinity"))
    setting = recipe.setting
    with torch.random.fork_rng():
        torch.manual_seed(1_000 + seed)
        model = Transformer(setting, recipe.width, recipe.layers, recipe.heads).to(device)
    chosen = None if tasks is None else data.tasks(tasks, setting, seed).to(device)
    fixed = _fixed(chosen, recipe, seed, device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    warm = lambda step: min(1.0, (step + 1) / recipe.warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm)
    generator = torch.Generator(device).manual_seed(2_000 + seed)
    wanted = set(checkpoint_steps(recipe.steps, recipe.every, recipe.spaced))
    rows: dict[str, list] = {}
    begun = time.process_time()
    name = "inf" if tasks is None else tasks
    for step in tqdm(range(recipe.steps + 1), desc=f"M={name}", disable=None if progress else True):
        if step in wanted:
            for key, value in _measure(model, fixed).items():
                rows.setdefault(key, []).append(value)
            rows.setdefault("step", []).append(step)
        if step == recipe.steps:
            break
        x, y = data.sequences(recipe.batch, setting, chosen, generator)
        loss = (model(x, y) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    found = _dataset(rows, fixed)
    return found.assign_attrs(
        tasks=str(name), seed=seed, parameters=sum(p.numel() for p in model.parameters()),
        cpu_seconds=round(time.process_time() - begun, 1), recipe=repr(recipe),
        sizes=repr(recipe.sizes),
    )  # fmt: skip


def _fixed(tasks, recipe: Recipe, seed: int, device: str) -> dict:
    """The sets that every checkpoint is measured on, and what the ideal predictors say there."""
    setting = recipe.setting
    root = data.tasks(1, setting, seed)
    make = lambda offset: torch.Generator(device).manual_seed(3_000 + 10 * seed + offset)
    sets = {
        "root": data.sequences(recipe.root, setting, root, make(0)),
        "own": data.sequences(recipe.shown, setting, tasks, make(1)),
        "ood": data.sequences(recipe.shown, setting, None, make(2)),
    }
    out = {}
    for key, (x, y) in sets.items():
        ridge = predictors.ridge(x, y, setting.noise)
        # With infinitely many tasks dMMSE is ridge.
        known = predictors.dmmse(x, y, tasks, setting.noise) if tasks is not None else ridge
        out[key] = {"x": x, "y": y, "ridge": ridge, "dmmse": known}
    return out


def _measure(model: Transformer, fixed: dict) -> dict:
    root, own, ood = fixed["root"], fixed["own"], fixed["ood"]
    inside = predictions(model, own["x"], own["y"])
    errors = {
        "loss": (inside - own["y"]).square(),
        "ood": (predictions(model, ood["x"], ood["y"]) - ood["y"]).square(),
    }
    out: dict[str, Any] = {"output": predictions(model, root["x"], root["y"]).cpu().numpy()}
    for key, error in errors.items():
        out[key] = error.mean(0).cpu().numpy()
        out[f"{key}_se"] = float(error.mean(1).std() / len(error) ** 0.5)
    for key in ("dmmse", "ridge"):
        out[f"to_{key}"] = float((inside.double() - own[key]).square().mean())
    vector = torch.nn.utils.parameters_to_vector(model.parameters())
    out["weights"] = vector.detach().cpu().numpy().copy()
    return out


def _dataset(rows: dict[str, list], fixed: dict) -> xr.Dataset:
    dims = {
        "output": ("step", "example", "position"),
        "loss": ("step", "position"),
        "ood": ("step", "position"),
        "weights": ("step", "dim"),
    }
    step = rows.pop("step")
    values = {k: (dims.get(k, ("step",)), np.asarray(v, np.float32)) for k, v in rows.items()}
    for key in ("dmmse", "ridge"):
        values[key] = (("example", "position"), fixed["root"][key].cpu().numpy().astype("f4"))
        for of, where in (("own", "loss"), ("ood", "ood")):
            error = (fixed[of][key] - fixed[of]["y"]).square().mean(0)
            values[f"{key}_{where}"] = (("position",), error.cpu().numpy().astype("f4"))
    return xr.Dataset(values, {"step": step})
