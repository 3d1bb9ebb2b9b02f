"""`TransienceView`: runs of different task diversity between their ideal predictors."""

from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import View, check_trait, pack, refuse

_DIMS = {
    "ood": ("seed", "run", "step"),
    "ood_se": ("seed", "run", "step"),
    "to_dmmse": ("seed", "run", "step"),
    "to_ridge": ("seed", "run", "step"),
    "loss": ("seed", "run", "step", "position"),
    "score": ("seed", "run", "step", "component"),
    "dmmse_loss": ("seed", "run", "position"),
    "ridge_loss": ("seed", "run", "position"),
    "dmmse_ood": ("seed", "run"),
    "ridge_ood": ("seed", "run"),
    "dmmse_score": ("seed", "run", "component"),
    "ridge_score": ("seed", "run", "component"),
    "explained": ("seed", "component"),
}


class TransienceView(View):
    """Loss out of distribution, the plane of the joint PCA and the distances to both predictors.

    One step slider moves a dot on every trajectory; buttons choose task diversities; a click on a
    run picks it, and the fourth panel shows its loss at each pair against both ideal predictors.

    Args:
        data: what `toys.in_context.collect` returns, or a Dataset of that form: variables over
            `seed, run, step, position, component` (NaN where a seed has no such run).
        checkpoint: number of the checkpoint shown at first; the last by default.
        focus: a Focus to share with other views.

    Attributes:
        checkpoint, seed, picked: numbers. hidden: numbers of runs switched off. plane: components.

    Raises:
        InputError: Another Dataset, or an unknown keyword.
    References: Carroll et al. 2025 (arXiv:2501.17745).
    """

    _bundle = "transience"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    checkpoint = traitlets.Int(0).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    picked = traitlets.Int(0).tag(sync=True)
    hidden = traitlets.List(traitlets.Int()).tag(sync=True)
    plane = traitlets.List(traitlets.Int(), default_value=[0, 1]).tag(sync=True)

    def __init__(
        self,
        data: xr.Dataset,
        *,
        checkpoint: int | None = None,
        focus: Focus | None = None,
        **unknown: Any,
    ) -> None:
        refuse(unknown, TransienceView)
        check_trait(focus, Focus, "focus", "pass slt.Focus(), or leave it out")
        lost = [v for v in _DIMS if not isinstance(data, xr.Dataset) or v not in data]
        if lost:
            given = f"{type(data).__name__} without {lost}"
            raise InputError(say(given, "in_context.collect(folder)", "pass what it returns"))
        count = data.sizes[names.STEP]
        at = count - 1 if checkpoint is None else int(checkpoint)
        if not 0 <= at < count:
            raise InputError(say(f"checkpoint={at}", f"0 to {count - 1}", "leave it out"))
        self._data = data
        arrays = {k: data[k].transpose(*dims).values.astype("f4") for k, dims in _DIMS.items()}
        arrays["step"] = data[names.STEP].values.astype("i4")
        runs = [str(v) for v in data["run"].values]
        payload, meta = pack(
            arrays,
            seeds=[str(v) for v in data["seed"].values],
            runs=["∞" if v == "inf" else v for v in runs],
            finite=[v != "inf" for v in runs],
            components=[str(v) for v in data["component"].values],
        )
        # The run that shows most: the one that rises most after its least loss.
        first = data.ood.isel(seed=0)
        rise = (first.isel(step=-1) / first.min("step")).fillna(0).values
        super().__init__(
            payload=payload, meta=meta, checkpoint=at, picked=int(rise.argmax()), focus=focus
        )

    def rows(self) -> list[tuple]:
        """`(seed, tasks, least OOD loss, its step, OOD loss at the end)` of every run."""
        out = []
        for seed in self._data["seed"].values:
            for run in self._data["run"].values:
                ood = self._data.ood.sel(seed=seed, run=run)
                if bool(np.isfinite(ood).any()):
                    low = int(ood.argmin("step"))
                    step = int(ood[names.STEP][low])
                    out.append((str(seed), str(run), float(ood[low]), step, float(ood[-1])))
        return out

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        lines = [
            f"Transience: {self._data.sizes['run']} task diversities, "
            f"{self._data.sizes['seed']} seeds, {self._data.sizes[names.STEP]} checkpoints"
        ]
        for seed, run, low, step, end in self.rows():
            lines.append(
                f"  M={run} seed {seed}: OOD loss {low:.3f} at step {step}, {end:.3f} at the end"
            )
        return "\n".join(lines)

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        number = fallback.number
        rows = [(s, m, number(low), step, number(end)) for s, m, low, step, end in self.rows()]
        heads = ("seed", "tasks", "lowest OOD loss", "at step", "at the end")
        parts = [fallback.table("Loss out of distribution", heads, rows)]
        return fallback.page("Transience", parts, 100_000)
