"""`StageCurves`: refined LLCs over training, with stage boundaries to drag."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import HTML_LIMIT, View, check_trait, pack, refuse

CURVES = 60
"""Components that one view may hold."""


class StageCurves(View):
    """Refined LLCs over training, their slopes in log time, and lines between stages to drag.

    Between two lines the change of every component stands in a table, with its standard error
    (values between checkpoints are interpolated in log time).  A component chosen here is chosen
    in every view that shares the `focus`, and the other way round.

    Args:
        curve: of `slt.refined_llc` for a sweep over checkpoints: (checkpoint, component) with
            `llc`, `mcse`, `training_step`.
        stages: where the lines stand at first: of `slt.stages`, or steps.
        focus: A `Focus` to share.
        title: Heading.

    Attributes:
        lines: steps at which lines stand now, ascending.

    Raises:
        InputError: no training steps, several datasets, more than 60 components.

    References: Wang et al. 2024 (arXiv:2410.02984): boundaries at d lambda / d log t = 0.
    """

    _bundle = "stages"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    lines = traitlets.List(traitlets.Float()).tag(sync=True)

    def __init__(
        self,
        curve: xr.Dataset,
        *,
        stages: xr.Dataset | Sequence[float] = (),
        focus: Focus | None = None,
        title: str | None = None,
        **unknown: Any,
    ):
        refuse(unknown, StageCurves)
        check_trait(focus, Focus, "focus", "pass slt.Focus()")
        if not isinstance(curve, xr.Dataset) or names.TRAINING_STEP not in curve.coords:
            raise InputError(
                say("a curve without training steps", "slt.refined_llc of checkpoints", "pass it")
            )
        dims = (names.CHECKPOINT_DIM, names.COMPONENT)
        if set(curve["llc"].dims) != set(dims):
            raise InputError(say(f"llc over {curve['llc'].dims}", f"{dims}", "select the rest"))
        step = np.asarray(curve[names.TRAINING_STEP], float)
        order = np.argsort(step)
        order = order[step[order] > 0]  # step 0 has no logarithm
        if len(order) < 2:
            raise InputError(say(f"{len(order)} checkpoints after step 0", "two or more", "add"))
        if curve.sizes[names.COMPONENT] > CURVES:
            raise InputError(
                say(f"{curve.sizes[names.COMPONENT]} components", f"at most {CURVES}", "select")
            )
        self._step = step[order]
        self._names = [str(c) for c in curve[names.COMPONENT].values]
        self._value, self._error = (
            curve[key].transpose(*dims).values[order].astype("f8") for key in ("llc", "mcse")
        )
        given = stages["step"].values if isinstance(stages, xr.Dataset) else list(stages)
        sure = stages["sure"].values if isinstance(stages, xr.Dataset) else [True] * len(given)
        inside = [float(s) for s in given if self._step[0] < s < self._step[-1]]
        doubtful = sum(1 for s in sure if not s)
        notes = [
            "Between checkpoints values are interpolated in log time; bars are 95 % intervals."
        ]
        if doubtful:
            notes.append(f"{doubtful} of the {len(given)} zeros of the slope may be noise.")
        payload, meta = pack(
            {
                "step": self._step,
                "value": self._value.astype("f4"),
                "error": self._error.astype("f4"),
            },
            title=title or "Refined LLC over training", components=self._names,
            given=sorted(inside), z=1.96, notes=notes,
        )  # fmt: skip
        super().__init__(payload=payload, meta=meta, focus=focus or Focus(), lines=sorted(inside))

    def change(self) -> xr.Dataset:
        """What the table shows: change of every component between the lines, as they stand now."""
        bounds = [self._step[0], *sorted(self.lines), self._step[-1]]
        t = np.log(self._step)
        # Interpolation as a matrix, so that its error follows from those of the checkpoints.
        weight = np.stack([np.interp(np.log(bounds), t, row) for row in np.eye(len(t))], 1)
        across = np.diff(weight, axis=0)
        error = np.sqrt(across**2 @ self._error**2)
        return xr.Dataset(
            {
                "change": (("stage", names.COMPONENT), across @ self._value),
                "stderr": (("stage", names.COMPONENT), error),
            },
            {
                names.COMPONENT: self._names,
                "start": ("stage", bounds[:-1]),
                "end": ("stage", bounds[1:]),
            },
        )

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        at = ", ".join(f"{line:.0f}" for line in self.lines) or "none"
        return (
            f"StageCurves: {len(self._names)} components, steps {self._step[0]:.0f} to "
            f"{self._step[-1]:.0f}; lines at {at}"
        )

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        found = self.change()
        rows = []
        for k in range(found.sizes["stage"]):
            one = found.isel(stage=k)
            cells = [
                f"{fallback.number(float(v), True)} ± {fallback.number(float(e))}"
                for v, e in zip(one["change"].values, one["stderr"].values, strict=True)
            ]
            rows.append((f"{float(one['start']):.0f} to {float(one['end']):.0f}", *cells))
        table = fallback.table("Change of the refined LLC", ["steps", *self._names], rows)
        return fallback.page(self.describe(), [table], HTML_LIMIT)
