"""`InfluenceOverTraining`: influence between items at every checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import HTML_LIMIT, View, check_trait, pack, refuse

ITEMS = 40
"""Items or classes that one view may hold."""


class InfluenceOverTraining(View):
    """Curves of influence over training, and the whole matrix at the step under the cursor.

    Bands show the stages; each method has a tab.

    Args:
        methods: `{name: array}`; an array or Dataset has a dim `step` and two that end alike, such
            as `(step, example, example_)` of `slt.influence` joined over checkpoints, or `(step,
            group, group_)` of `slt.group_influence`: rows are influenced, columns influence.  Of a
            Dataset, `influence` and `stderr` are taken.  All share steps and items.
        stages: `[(name, first step, last step), ...]`, drawn as bands.
        source: The item whose influence is shown first.
        units: `{name: unit}`, such as `{"covariance": "nats²"}`.
        log: Steps on a scale of log(1 + step); by default where they span a factor of 50.
        sign: "bif" (negative = helpful) or "kernel" (positive = alike).
        focus: Accepted as by every view.  title: Heading.

    Raises:
        InputError: Arrays that do not share steps and items, or more than 40 items.

    References: Lee et al. 2025 (arXiv:2510.12071).
    """

    _bundle = "stagewise"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    method = traitlets.Int(0).tag(sync=True)
    source = traitlets.Int(0).tag(sync=True)
    at = traitlets.Int(0).tag(sync=True)
    hidden = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self,
        methods: Mapping[str, Any],
        *,
        stages: Sequence[tuple[str, float, float]] = (),
        source: str | None = None,
        units: Mapping[str, str] | None = None,
        log: bool | None = None,
        sign: str = "bif",
        focus: Focus | None = None,
        title: str | None = None,
        **unknown: Any,
    ):
        refuse(unknown, InfluenceOverTraining)
        check_trait(focus, Focus, "focus", "pass slt.Focus()")
        tables = {str(k): _table(k, v) for k, v in methods.items()}
        if not tables:
            raise InputError(say("no methods", "one or more", "pass {'BIF': found}"))
        steps, items = next(iter(tables.values()))[2:]
        for name, one in tables.items():
            if not np.array_equal(one[2], steps) or one[3] != items:
                raise InputError(
                    say(f"{name!r} with other steps or items", "the same in all", "select them")
                )
        if len(items) > ITEMS:
            raise InputError(say(f"{len(items)} items", f"at most {ITEMS}", "group them"))
        if source is not None and source not in items:
            raise InputError(say(f"source={source!r}", f"one of {', '.join(items)}", "name one"))
        if sign not in ("bif", "kernel"):
            raise InputError(say(f"sign={sign!r}", "'bif' or 'kernel'", "use sign='bif'"))
        words = ("helpful", "harmful") if sign == "bif" else ("opposite", "alike")
        arrays: dict[str, Any] = {"steps": steps.astype("i4")}
        about = []
        for i, (name, (value, error, _, _)) in enumerate(tables.items()):
            arrays[f"v{i}"] = value.astype("f4")
            if error is not None:
                arrays[f"e{i}"] = error.astype("f4")
            note = "" if error is not None else "Exact, or without a stated standard error."
            one = {"name": name, "unit": (units or {}).get(name, ""), "error": error is not None}
            about.append({**one, "note": note, "negative": words[0], "positive": words[1]})
        positive = steps[steps > 0]
        if log is None:
            log = bool(
                len(positive) > 1 and positive.max() > 50 * positive.min() and len(steps) < 40
            )
        self._tables, self._items, self._steps = tables, items, steps
        payload, meta = pack(
            arrays, title=title or "Influence over training", items=items, methods=about,
            stages=[{"name": str(n), "from": float(a), "to": float(b)} for n, a, b in stages],
            log=log, z=1.96, notes=["Rows are influenced, columns influence. A band is a 95 % "
            "interval. Sizes at different checkpoints belong to different posteriors: compare "
            "shapes, and signs within a checkpoint."],
        )  # fmt: skip
        super().__init__(
            payload=payload, meta=meta, focus=focus, at=len(steps) // 3,
            source=0 if source is None else items.index(source),
        )  # fmt: skip

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        return (
            f"InfluenceOverTraining: {', '.join(self._tables)}; {len(self._items)} items, "
            f"{len(self._steps)} steps from {self._steps[0]} to {self._steps[-1]}"
        )

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        p = self.source
        parts = []
        every = max(1, len(self._steps) // 15)
        for name, (value, error, _, _) in self._tables.items():
            rows = []
            for t in range(0, len(self._steps), every):
                cells = [
                    fallback.number(float(value[t, q, p]), signed=True)
                    + (f" ± {fallback.number(float(error[t, q, p]))}" if error is not None else "")
                    for q in range(len(self._items))
                ]
                rows.append((int(self._steps[t]), *cells))
            caption = f"{name}: influence of {self._items[p]} (negative = {self._word()})"
            parts.append(fallback.table(caption, ["step", *self._items], rows))
        parts += [f"<p>{fallback.esc(text)}</p>" for text in self.meta["notes"]]
        return fallback.page(self.describe(), parts, HTML_LIMIT)

    def _word(self) -> str:
        return self.meta["methods"][0]["negative"]


def _table(name: str, value: Any):
    """`(influence [step, item, item], stderr or None, steps, items)`."""
    error = None
    if isinstance(value, xr.Dataset):
        error = value.get("stderr", None)
        if "influence" not in value:
            raise InputError(say(f"{name!r}: a Dataset without influence", "one", "pass an array"))
        value = value["influence"]
    dims = [str(d) for d in getattr(value, "dims", ())]
    columns = [d for d in dims if d.endswith("_")]
    if len(dims) != 3 or "step" not in dims or len(columns) != 1 or columns[0][:-1] not in dims:
        raise InputError(
            say(f"{name!r} with dims {tuple(dims)}", "(step, item, item_)", "name or select dims")
        )
    order = ("step", columns[0][:-1], columns[0])
    value = value.transpose(*order)
    steps = np.asarray(value["step"].values)
    row = columns[0][:-1]
    items = [
        str(v) for v in (value[row].values if row in value.coords else range(value.sizes[row]))
    ]
    wide = None if error is None else np.asarray(error.transpose(*order).values)
    return np.asarray(value.values), wide, steps, items
