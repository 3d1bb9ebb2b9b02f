"""`CompressionView`: critical compression of checkpoints against their LLC."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.llc.compression import compression_fit, crossings
from slt_notebook.views.base import fallback
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import View, check_trait, pack, refuse

_NEEDED = ("gap", "gap_stderr", "knob", "llc", "llc_mcse", "loss", "log", "grid", "unit")
_ALWAYS = ("LLC", "log step", "loss")
_NO_PREDICTOR = (*_NEEDED, "critical", "interval")


class CompressionView(View):
    """Loss gap against level, critical compression against the LLC, and both over training.

    Drag the tolerance (or focus it and use the arrow keys): crossings, scatter, line, R^2 and the
    table of predictors are computed again in the page.  Click a checkpoint to see it everywhere.

    Args:
        data: what `slt.compression_series` returns, or several of them by name.  Data variables
            over `step` only are further predictors (a name that ends in `_stderr` is not).
        tolerance: at first, nats.
        focus: a Focus to share with other views.

    Attributes:
        tolerance: float, nats. subject, scheme, predictor: numbers of what is chosen.
        checkpoint: number of the checkpoint that is picked out, or -1.

    Raises:
        InputError: Another Dataset, or an unknown keyword.
    """

    _bundle = "compression"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    tolerance = traitlets.Float(0.1).tag(sync=True)
    subject = traitlets.Int(0).tag(sync=True)
    scheme = traitlets.Int(0).tag(sync=True)
    predictor = traitlets.Int(0).tag(sync=True)
    checkpoint = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self, data: Any, *, tolerance: float = 0.1, focus: Focus | None = None, **unknown: Any
    ) -> None:
        refuse(unknown, CompressionView)
        check_trait(focus, Focus, "focus", "pass slt.Focus(), or leave it out")
        if not tolerance > 0:
            raise InputError(say(f"tolerance={tolerance}", "nats above 0", "pass 0.1"))
        given = data if isinstance(data, Mapping) and not isinstance(data, xr.Dataset) else None
        self._data: dict[str, Any] = {str(k): v for k, v in (given or {_title(data): data}).items()}
        subjects, arrays = [], {}
        for number, (name, one) in enumerate(self._data.items()):
            subject, own = _subject(name, one)
            subjects.append(subject)
            arrays |= {f"{number}/{key}": value for key, value in own.items()}
        every = np.concatenate([v.gap.values.ravel() for v in self._data.values()])
        every = every[np.isfinite(every) & (every > 0)]
        low, high = (1e-3, 1.0) if not len(every) else (max(1e-3, np.quantile(every, 0.2)), 1.0)
        payload, meta = pack(
            arrays,
            subjects=subjects,
            tolerances=[float(min(low, tolerance)), float(max(high, tolerance))],
        )
        super().__init__(payload=payload, meta=meta, tolerance=float(tolerance), focus=focus)

    def fit(self) -> Any:
        """R^2 and Spearman of every predictor at what is chosen now; see `compression_fit`."""
        one = list(self._data.values())[self.subject]
        return compression_fit(self._critical(one), _predictors(one))

    def _critical(self, one: xr.Dataset) -> np.ndarray:
        row = one.isel(scheme=self.scheme)
        use = np.isfinite(row.knob.values)
        levels = row.knob.values[use]
        at = [
            crossings(levels, g[use], 0 * g[use], [self.tolerance], log=bool(row.log))[0][0]
            for g in row.gap.values
        ]
        finite = np.isfinite(at)
        bits = np.where(finite, np.log2(np.where(finite, at, 1.0)), at)
        return bits if int(row.grid) else np.array(at)

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        names_ = ", ".join(
            f"{k} ({v.sizes[names.STEP]} checkpoints)" for k, v in self._data.items()
        )
        lines = [f"Complexity against compression: {names_}; tolerance {self.tolerance:g} nats"]
        try:
            for name, row in self.fit().iterrows():
                lines.append(
                    f"  {name}: R^2 {row.r2:.3f} ({row.r2_low:.3f} to {row.r2_high:.3f}), "
                    f"Spearman {row.spearman:.3f}"
                )
        except InputError as error:
            lines.append(f"  {error}")
        return "\n".join(lines)

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        one = list(self._data.values())[self.subject]
        at, predictors = self._critical(one), _predictors(one)
        what = "bits" if int(one.grid[self.scheme]) else str(one.unit.values[self.scheme])
        rows = [
            (
                int(step),
                fallback.number(at[i]),
                *(fallback.number(v[i]) for v in predictors.values()),
            )
            for i, step in enumerate(one[names.STEP].values)
        ]
        parts = [
            f"<pre>{fallback.esc(self.describe())}</pre>",
            fallback.table("Checkpoints", ("step", f"critical {what}", *predictors), rows),
        ]
        return fallback.page("Complexity against compression", parts, 150_000)


def _title(data: Any) -> str:
    return str(data.attrs.get("subject", "model")) if isinstance(data, xr.Dataset) else "model"


def _predictors(one: xr.Dataset) -> dict[str, np.ndarray]:
    """LLC, log step, loss and whatever else there is one number a checkpoint of."""
    step = one[names.STEP].values.astype(float)
    out = {"LLC": one.llc.values, "log step": np.log(np.maximum(step, 1)), "loss": one.loss.values}
    for name, value in one.data_vars.items():
        named = str(name)
        over_steps = value.dims == (names.STEP,) and named not in _NO_PREDICTOR
        if over_steps and not named.endswith("_stderr"):
            out[named.replace("_", " ")] = value.values
    trace = one.get("hessian_trace")
    if trace is not None and (trace > 0).all():
        out["log hessian trace"] = np.log(trace.values)
    return out


def _subject(name: str, one: Any) -> tuple[dict, dict[str, np.ndarray]]:
    lost = [v for v in _NEEDED if not isinstance(one, xr.Dataset) or v not in one]
    if lost:
        raise InputError(
            say(f"{type(one).__name__} without {lost}", "slt.compression_series(...)", "pass that")
        )
    predictors = _predictors(one)
    schemes = [
        {"label": str(one.scheme.values[k]), "unit": str(one.unit.values[k]),
         "log": bool(one.log[k]), "grid": bool(one.grid[k])}
        for k in range(one.sizes["scheme"])
    ]  # fmt: skip
    subject = {
        "name": name, "steps": [int(v) for v in one[names.STEP].values],
        "schemes": schemes, "predictors": list(predictors),
    }  # fmt: skip
    order = (names.STEP, "scheme", "level")
    arrays = {
        "gap": one.gap.transpose(*order).values.astype("f4"),
        "gap_stderr": one.gap_stderr.transpose(*order).values.astype("f4"),
        "knob": one.knob.transpose("scheme", "level").values.astype("f4"),
        "llc_mcse": one.llc_mcse.values.astype("f4"),
        "predictors": np.stack(list(predictors.values())).astype("f4"),
    }
    return subject, arrays
