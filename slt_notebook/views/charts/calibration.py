"""`CalibrationView`: the settings that a calibration tried, and their traces."""

from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback, static_svg
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import View, check_trait, pack, refuse

NUMBERS = (
    "step_size", "llc", "mcse", "ess", "rhat", "drift", "virial", "acceptance", "rho_loc",
    "rho_loc_error", "halved", "halved_error",
)  # fmt: skip
AXES = ("gamma", "nbeta", "share")


class CalibrationView(View):
    """What `slt.calibrate` tried: one cell a setting, its verdict, and the chosen one framed.

    A click on a cell (or the arrow keys) shows its traces, its numbers, and the LLC over nbeta at
    its gamma.  `view.selected` is the number of the cell, `view.setting` its gamma, nbeta and step.

    Args:
        found: what `slt.calibrate` returned, or its `evidence` (also opened from a file).
        focus: a Focus to share with other views.

    Raises:
        InputError: Something that is no evidence of a calibration.
    """

    _bundle = "calibration"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)

    def __init__(self, found: Any, *, focus: Focus | None = None, **unknown: Any) -> None:
        refuse(unknown, CalibrationView)
        check_trait(focus, Focus, "focus", "pass slt.Focus(), or leave it out")
        data = evidence_of(found)
        self._data = data = data.transpose(*AXES, names.CHAIN, "block").sortby(list(AXES))
        self._cells = cells(data)
        key = tuple(data.attrs.get(f"chosen_{name}", np.nan) for name in AXES)
        chosen = [k for k, c in enumerate(self._cells) if np.allclose([c[a] for a in AXES], key)]
        payload, meta = pack(
            {"trace": data.trace.values.astype("f4")},
            cells=self._cells,
            gammas=data.gamma.values.tolist(),
            nbetas=data.nbeta.values.tolist(),
            shares=data.share.values.tolist(),
            chosen=chosen[0] if chosen else -1,
            ok=bool(chosen),
            reason=str(data.attrs.get("reason", "")),
            steps=int(data.attrs["steps"]),
            chains=data.sizes[names.CHAIN],
            blocks=data.sizes["block"],
        )
        super().__init__(
            payload=payload, meta=meta, focus=focus, selected=chosen[0] if chosen else -1
        )

    @property
    def setting(self) -> dict[str, Any] | None:
        """The cell that is selected, as numbers; None where none is."""
        return self._cells[self.selected] if 0 <= self.selected < len(self._cells) else None

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        trusted = sum(c["trusted"] for c in self._cells)
        rows = [
            f"  gamma {c['gamma']:g}, nbeta {c['nbeta']:.4g}, step {c['step_size']:.3g}: "
            f"LLC {_text(c['llc'])}, {c['verdict']}"
            for c in self._cells
        ]
        head = f"Calibration, {trusted} of {len(self._cells)} settings trusted"
        return "\n".join([head, self.meta["reason"], *rows])

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        rows = [
            [f"{c['gamma']:g}", f"{c['nbeta']:.4g}", f"{c['step_size']:.3g}"]
            + [_text(c[k]) for k in ("llc", "mcse", "rhat", "ess", "rho_loc")]
            + [("chosen, " if k == self.meta["chosen"] else "") + str(c["verdict"])]
            for k, c in enumerate(self._cells)
        ]
        heads = ("gamma", "nbeta", "step", "LLC", "error", "R-hat", "ESS", "rho_loc", "verdict")
        parts = [f"<p>{fallback.esc(self.meta['reason'])}</p>"]
        if self.setting:
            trace = self._data.trace.values.reshape(-1, *self._data.trace.shape[3:])[self.selected]
            x = (np.arange(trace.shape[1]) + 0.5) * self.meta["steps"] / trace.shape[1]
            series = [(f"chain {k}", x, y) for k, y in enumerate(trace)]
            parts.append(static_svg.trace_svg(series, label="traces of the chosen setting"))
        parts.append(fallback.table("Settings tried", heads, rows))
        return fallback.page("Calibration", parts, 150_000)


def evidence_of(found: Any) -> xr.Dataset:
    """Return the evidence in a Calibration, or in a Dataset that was kept from one.

    Raises:
        InputError: neither.
    """
    data = getattr(found, "evidence", found)
    needed = {*NUMBERS, "trace", "verdict", "trusted"}
    if not isinstance(data, xr.Dataset) or not needed <= set(data.data_vars):
        raise InputError(
            say(
                f"a {type(found).__name__}", "what slt.calibrate returns, or its evidence",
                "pass slt.calibrate(loss, data)",
            )
        )  # fmt: skip
    return data


def is_evidence(data: xr.Dataset) -> bool:
    """Return whether `data` is the evidence of a calibration."""
    return {"verdict", "trusted", "trace"} <= set(data.data_vars) and set(AXES) <= set(data.dims)


def cells(data: xr.Dataset) -> list[dict[str, Any]]:
    """One dict a setting, in the order of (gamma, nbeta, share); None for what is not finite."""
    out = []
    for g in data.gamma.values:
        for b in data.nbeta.values:
            for share in data.share.values:
                one = data.sel(gamma=g, nbeta=b, share=share)
                cell: dict[str, Any] = {"gamma": float(g), "nbeta": float(b), "share": float(share)}
                cell |= {name: _finite(one[name]) for name in NUMBERS}
                cell |= {"verdict": str(one.verdict.item()), "trusted": bool(one.trusted.item())}
                out.append(cell)
    return out


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


def _text(value: float | None) -> str:
    return "none" if value is None else fallback.number(value)
