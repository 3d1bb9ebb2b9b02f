"""`TraceView`: traces, running LLC, checks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, SLTError, say
from slt_notebook.results.result import Result, resolve
from slt_notebook.results.store import read
from slt_notebook.views.base import fallback, static_svg
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import View, check_trait, pack, refuse

BLOCKS = 1000
"""Blocks a chain is cut into at most: the least and the greatest value of each are drawn."""


class TraceView(View):
    """Loss of each batch minus the loss of the same batch at w*, per chain over steps, and the LLC.

    Drag the burn-in handle (or focus it and use the arrow keys): the LLC is recomputed in the page,
    and `view.burnin` follows in Python, where the checks are computed again. Drag over the traces
    to measure a window of steps (`view.window`). Chains can be switched off.

    Args:
        run: a run (tree, path or handle), finished or not, or its group `sampling`.
        focus: a Focus to share with other views (kept for linking; steps are not tokens, so the
            window has its own trait).
        burnin: steps to leave out; the run's own burn-in if None.
        truth: the LLC where it is known (a benchmark): drawn as a line under the traces.

    Attributes:
        burnin: int, steps. window: [first, past the last] step, or None. hidden: positions of the
        chains that are switched off. estimate: what `slt.llc` says at this burn-in.

    Raises:
        InputError: A run without losses, or an unknown keyword.
    """

    _bundle = "traces"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    burnin = traitlets.Int(0).tag(sync=True)
    window = traitlets.List(traitlets.Int(), allow_none=True, default_value=None).tag(sync=True)
    hidden = traitlets.List(traitlets.Int()).tag(sync=True)
    estimate = traitlets.Dict().tag(sync=True)
    badges = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(
        self,
        run: Any,
        *,
        focus: Focus | None = None,
        burnin: int | None = None,
        truth: float | None = None,
        **unknown: Any,
    ) -> None:
        refuse(unknown, TraceView)
        check_trait(focus, Focus, "focus", "pass slt.Focus(), or leave it out")
        result = resolve(run)
        data = result.sampling
        steps = data.sizes.get(names.STEP, 0)
        if steps < 1:
            raise InputError(say("a run without steps", "at least one", "wait for the first draw"))
        own = int(data.attrs.get(names.A_BURNIN, 0))
        start = own if burnin is None else int(burnin)
        if not 0 <= start < steps:
            raise InputError(say(f"burnin={start}", f"0 to {steps - 1}", "leave it out"))
        self._result = result
        self._blocks = decimate(gains(data), start)
        chains = chain_rows(result)
        payload, meta = pack(
            self._blocks,
            nbeta=[row["nbeta"] for row in chains],
            chains=chains,
            steps=steps,
            burnin=own,
            component=str(data.attrs.get(names.A_COMPONENT, "full")),
            truth=None if truth is None else _plain(truth),
        )
        super().__init__(
            payload=payload,
            meta=meta,
            burnin=start,
            focus=focus,
            estimate=estimate(self._result, start),
            badges=badges(self._result, start),
        )

    @traitlets.observe("burnin")
    def _recompute(self, change: Any) -> None:
        # The first value is set by __init__, together with what belongs to it.
        if self.meta and change["new"] != self.estimate.get("burnin"):
            self.estimate = estimate(self._result, int(change["new"]))
            self.badges = badges(self._result, int(change["new"]))

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        lines = [f"Traces of {len(self.meta['chains'])} chains, {self.meta['steps']} steps"]
        lines.append(estimate_text(self.estimate))
        lines += [f"  {b['name']}: {b['value']} ({b['verdict']})" for b in self.badges]
        lines += [f"  {c['label']}: {c['excluded']}" for c in self.meta["chains"] if c["excluded"]]
        return "\n".join(lines)

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        blocks, chains = self._blocks, self.meta["chains"]
        middle = (blocks["edges"][:-1] + blocks["edges"][1:]) / 2
        series = [(c["label"], middle, blocks["mean"][k]) for k, c in enumerate(chains)]
        thin = max(1, len(middle) // 200)
        series = [(name, x[::thin], y[::thin]) for name, x, y in series]
        label = "loss minus baseline per step"
        picture = static_svg.trace_svg(series, label=label, burnin=self.burnin)
        rows = [
            (c["label"], fallback.number(v), c["excluded"] or "ok")
            for c, v in zip(chains, self.estimate.get("each", []), strict=False)
        ]
        parts = [
            f"<p>{fallback.esc(estimate_text(self.estimate))}</p>",
            "".join(
                static_svg.chip(b["name"], b["value"], b["verdict"], b["do"]) for b in self.badges
            ),
            picture,
            fallback.table("LLC of each chain", ("chain", "LLC", "status"), rows),
        ]
        return fallback.page("Traces", parts, 150_000)


# From a run to what the page draws ----------------------------------------------------------------


def gains(data: xr.Dataset) -> np.ndarray:
    """`L_B(w) - L_B(w*)` for the batch of each step, `[chain, step]` float64; NaN: not there."""
    lost = [v for v in (names.LOSS, names.INIT_LOSS) if v not in data]
    if lost:
        raise InputError(
            say(f"a group without {lost}", "'loss' and 'init_loss'", "pass a run of this kit")
        )
    dims = (names.CHAIN, names.STEP)
    loss, base = (
        np.asarray(read(data[v].transpose(*dims)), np.float64)
        for v in (names.LOSS, names.INIT_LOSS)
    )
    return np.where(np.isfinite(loss) & np.isfinite(base), loss - base, np.nan)


def decimate(values: np.ndarray, start: int = 0, limit: int = BLOCKS) -> dict[str, np.ndarray]:
    """`[chain, step]` in at most about `limit` blocks of equal width, one edge at `start`.

    Returns:
        edges [block + 1] i4; low, high, mean [chain, block] f4 (NaN: nothing finite in it);
        count [chain, block] i4, finite values. Drawing low and high keeps every spike.
    """
    steps = values.shape[1]
    width = max(1, -(-steps // limit))
    edges = np.unique(np.concatenate([[0], np.arange(start % width, steps, width), [steps]]))
    finite = np.isfinite(values)
    at = edges[:-1]
    count = np.add.reduceat(finite, at, axis=1, dtype="i4")
    total = np.add.reduceat(np.where(finite, values, 0.0), at, axis=1)
    some = count > 0
    mean = np.where(some, total / np.maximum(count, 1), np.nan)
    low = np.minimum.reduceat(np.where(finite, values, np.inf), at, axis=1)
    high = np.maximum.reduceat(np.where(finite, values, -np.inf), at, axis=1)
    return {
        "edges": edges.astype("i4"),
        "low": np.where(some, low, np.nan).astype("f4"),
        "high": np.where(some, high, np.nan).astype("f4"),
        "mean": mean.astype("f4"),
        "count": count.astype("i4"),
    }


def chain_rows(result: Result) -> list[dict]:
    """One entry a chain: its label, nbeta and why it does not enter the LLC ("" = it does)."""
    data = result.sampling
    count = data.sizes[names.CHAIN]
    labels = data[names.CHAIN].values if names.CHAIN in data.coords else np.arange(count)
    known = result.diverged
    nbeta = np.broadcast_to(read(data[names.NBETA]), (count,)) if names.NBETA in data else 1.0
    nbeta = np.broadcast_to(np.asarray(nbeta, float), (count,))
    return [
        {
            "label": f"chain {label}",
            "nbeta": float(nbeta[k]),
            "excluded": known.get(label.item() if hasattr(label, "item") else label, ""),
        }
        for k, label in enumerate(labels)
    ]


def estimate(result: Result, burnin: int) -> dict:
    """`slt.llc` at this burn-in as plain numbers, or `{"burnin", "problem"}` where it cannot be."""
    from slt_notebook.estimators.llc.llc import chain_llc, llc

    try:
        found = llc(result, burnin=burnin)
    except SLTError as error:
        return {"burnin": burnin, "problem": str(error)}
    keys = ("mean", "mcse", "ess", "rhat", "virial")
    numbers: dict[str, Any] = {key: _plain(found[key]) for key in keys}
    numbers["interval"] = [_plain(v) for v in found["interval"]]
    numbers["each"] = [_plain(v) for v in chain_llc(found)]
    return {"burnin": burnin, "level": float(found.attrs["level"]), **numbers}


def estimate_text(found: Mapping[str, Any]) -> str:
    """`LLC 12.3 ± 0.4 (MCSE), 95 % interval 11.5 to 13.1`, or why there is none."""
    if "problem" in found:
        return f"no LLC: {found['problem']}"
    if found.get("mean") is None:
        return "no pooled LLC: the chains do not sample one distribution"
    low, high = (fallback.number(_nan(v)) for v in found["interval"])
    return (
        f"LLC {fallback.number(found['mean'])} ± {fallback.number(_nan(found['mcse']))} (MCSE), "
        f"{100 * found['level']:.0f} % interval {low} to {high}"
    )


def badges(result: Result, burnin: int | None = None) -> list[dict]:
    """Return the checks of `slt.health` as `{name, value, verdict, meaning, do}`, if it can run."""
    from slt_notebook.estimators.health import health

    try:
        return health_rows(health(result, burnin=burnin))
    except SLTError:
        return []


def health_rows(found: Any) -> list[dict]:
    """Rows of the table that `health` returns, as text."""
    frame = found.to_dataframe() if isinstance(found, xr.Dataset) else found
    error = lambda e: "" if e is None or np.isnan(e) else f" ± {e:.2g}"
    text = lambda value: value if isinstance(value, str) else fallback.number(value)
    return [
        {
            "name": str(row.get("check", row.get("index", ""))),
            "value": text(row["value"]) + error(row.get("uncertainty")),
            "verdict": str(row["verdict"]),
            "meaning": str(row.get("meaning") or ""),
            "do": str(row.get("do") or "") if row["verdict"] != "ok" else "",
        }
        for row in frame.reset_index().to_dict("records")
    ]


def _plain(value: Any) -> float | None:
    """Return a float that JSON can hold: None for NaN."""
    number = float(value)
    return number if np.isfinite(number) else None


def _nan(value: float | None) -> float:
    return np.nan if value is None else value
