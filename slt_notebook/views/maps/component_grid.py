"""`ComponentGrid`: one number per component, and a choice that linked views share."""

import re
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback
from slt_notebook.views.base.linking import Focus, place
from slt_notebook.views.base.widget import HTML_LIMIT, View, check_trait, pack, refuse
from slt_notebook.views.text.token_strip import SCALES, TokenStrip, robust_limit

OTHER = "other"
CELLS = 4000
_HEAD = re.compile(r"l(\d+)\.(h\d+|kv\d+|g\d+|attn|mlp|norm|shared)")


class ComponentGrid(View):
    """One number a component: layers by heads, or datasets (tags, axes) by components.

    A click on a cell chooses the component in every view that shares the `focus`: a `TokenStrip` of
    `component_strip` shows its tokens, an `EmbeddingMap` takes its colour.  With `tokens`, a click
    also goes to the token that contributes most to the cell.

    Args:
        values: DataArray over `component`, alone or with one other dim (the rows); or a Dataset of
            several such (a picker appears), with `stderr` or `mcse` as the error of all.
        error: Standard errors, of the shape of `values`.
        reliability: of each component, from `slt.reliability`; below .5 a cell is striped.
        tokens: DataArray `(component, example, token)` behind the values, with the coordinate
            `label` where the rows are labels: where a click leads.
        focus: A `Focus` to share.
        title: Heading.
        scale: "diverging", or "sequential" for numbers that cannot be negative.
        limit: End of the colour scale; the 99.5 % quantile of |values| if None.

    Raises:
        InputError: Other dims or shapes, more than 4,000 cells, or unknown keywords.
    """

    _bundle = "grid"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    metric = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        values: xr.DataArray | xr.Dataset,
        *,
        error: xr.DataArray | None = None,
        reliability: xr.DataArray | None = None,
        tokens: xr.DataArray | None = None,
        focus: Focus | None = None,
        title: str | None = None,
        scale: str = "diverging",
        limit: float | None = None,
        **unknown: Any,
    ):
        refuse(unknown, ComponentGrid)
        check_trait(focus, Focus, "focus", "pass slt.Focus()")
        if scale not in SCALES:
            raise InputError(say(f"scale={scale!r}", " or ".join(map(repr, SCALES)), "name one"))
        shown, errors = _numbers(values, error)
        first = next(iter(shown.values()))
        extra = [str(d) for d in first.dims if d != names.COMPONENT]
        rows, columns, corner, cells = _layout(first, extra)
        if len(cells) > CELLS:
            raise InputError(say(f"{len(cells)} cells", f"at most {CELLS}", "select some"))
        arrays: dict[str, Any] = {}
        metrics = []
        self._cells, self._rows, self._shown = cells, rows, []
        for i, (name, array) in enumerate(shown.items()):
            flat = _flat(array, extra, cells)
            arrays[f"value{i}"] = flat
            bars = errors.get(name)
            if bars is not None:
                arrays[f"error{i}"] = _flat(bars, extra, cells)
            self._shown.append((name, flat, arrays.get(f"error{i}")))
            metrics.append(
                {
                    "label": str(array.attrs.get("long_name", name)).replace("_", " "),
                    "unit": units if (units := str(array.attrs.get("units", ""))) != "1" else "",
                    "negative": str(array.attrs.get("negative", "negative")),
                    "positive": str(array.attrs.get("positive", "positive")),
                    "scale": scale,
                    "limit": limit,
                    "error": bars is not None,
                    "note": "",
                }
            )
        arrays["cells"] = _with_places(cells, first, extra, reliability, tokens)
        payload, meta = pack(
            arrays, title=title or "Components", rows=rows, columns=columns, corner=corner,
            metrics=metrics, notes=[],
        )  # fmt: skip
        super().__init__(payload=payload, meta=meta, focus=focus or Focus())

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        name, value, _ = self._shown[self.metric]
        order = np.argsort(-np.abs(np.nan_to_num(value)))[:5]
        sizes = (fallback.number(float(value[k]), True) for k in order)
        best = ", ".join(f"{self._where(k)} {v}" for k, v in zip(order, sizes, strict=True))
        return f"ComponentGrid: {name} of {len(value)} cells; strongest: {best}"

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        name, value, error = self._shown[self.metric]
        limit = robust_limit(value)
        rows = [
            (
                self._where(k),
                fallback.number(float(value[k]), True),
                "unknown" if error is None else fallback.number(float(error[k])),
            )
            for k in range(len(value))
        ][:400]
        table = fallback.table(name, ["component", name, "standard error"], rows)
        title = f"{self.meta['title']}, colour range ±{limit:.3g}"
        return fallback.page(title, [table], HTML_LIMIT)

    def _where(self, k: int) -> str:
        cell = self._cells[k]
        table = self.meta["corner"] != "layer"
        return f"{self._rows[cell['row']]}, {cell['component']}" if table else cell["component"]


def component_strip(
    estimate: xr.Dataset, *, difference: tuple[str, str] | None = None, **options: Any
) -> TokenStrip:
    """Return the tokens of an estimate in their text, with a picker of components.

    The picker follows the component that linked views choose, and chooses it for them.

    Args:
        estimate: of `susceptibility` or `refined_llc(probe=...)`, at one checkpoint; centred first
            where colours are to be read as expression and suppression.
        difference: two components: their difference stands first in the picker.
        options: Of `TokenStrip`: `focus`, `notes`, `title`, `limit`.

    Raises:
        InputError: several checkpoints, unknown components.
    """
    name = "chi" if "chi" in estimate else "llc"
    if name not in estimate or {names.EXAMPLE, names.TOKEN} - set(estimate[name].dims):
        raise InputError(
            say(f"a Dataset of {list(estimate.data_vars)}", "chi or llc by token", "see help")
        )
    array = estimate[name]
    for dim in [d for d in array.dims if d not in (names.COMPONENT, names.EXAMPLE, names.TOKEN)]:
        if array.sizes[dim] > 1:
            raise InputError(say(f"several of {dim}", "one", f"select: .isel({dim}=-1)"))
        estimate = estimate.isel({dim: 0}, drop=True)
    array, bars = estimate[name], estimate.get("stderr")
    known = [str(c) for c in array[names.COMPONENT].values]
    metrics, errors = {}, {}
    if difference is not None:
        wrong = [c for c in difference if c not in known]
        if wrong:
            raise InputError(say(f"component {wrong[0]!r}", f"one of {known}", "name one"))
        a, b = (array.sel({names.COMPONENT: c}, drop=True) for c in difference)
        key = f"{difference[0]} − {difference[1]}"
        metrics[key] = (a - b).assign_attrs(long_name=key, units=array.attrs.get("units", ""))
        if bars is not None:
            e, f = (bars.sel({names.COMPONENT: c}, drop=True) for c in difference)
            errors[key] = np.sqrt(e**2 + f**2)
    for component in known:
        one = array.sel({names.COMPONENT: component}, drop=True)
        units = str(array.attrs.get("units", ""))
        about = {"component": component, "units": "" if units == "1" else units}
        if name == "chi":
            about |= {"negative": "expression", "positive": "suppression"}
        metrics[component] = one.assign_attrs(long_name=f"{name} of {component}", **about)
        if bars is not None:
            errors[component] = bars.sel({names.COMPONENT: component}, drop=True)
    data = xr.Dataset(metrics)
    keep = [k for k in (names.TOKEN_TEXT, names.TOKEN_ID) if k in array.coords]
    data = data.assign_coords({k: array[k] for k in keep})
    return TokenStrip(data, error=errors or None, **options)


def _numbers(values, error) -> tuple[dict[str, xr.DataArray], dict[str, xr.DataArray]]:
    if isinstance(values, xr.DataArray):
        name = str(values.name or "value")
        given = {name: values.squeeze(drop=True) if values.ndim > 2 else values}
        errors = {} if error is None else {name: error}
    elif isinstance(values, xr.Dataset):
        squeezed = values.squeeze(
            [d for d in values.dims if values.sizes[d] == 1 and d != names.COMPONENT], drop=True
        )
        bars = next((squeezed[k] for k in ("stderr", "mcse") if k in squeezed), error)
        given = {
            str(k): v
            for k, v in squeezed.data_vars.items()
            if names.COMPONENT in v.dims and v.ndim <= 2 and k not in ("stderr", "mcse")
            and v.dtype.kind in "fiub"
        }  # fmt: skip
        main = next(iter(given), "")
        errors = {} if bars is None or not given else {main: bars}
        given = {k: v for k, v in given.items() if set(v.dims) == set(given[main].dims)}
    else:
        given, errors = {}, {}
    bad = [k for k, v in given.items() if names.COMPONENT not in v.dims or v.ndim > 2]
    if not given or bad:
        got = type(values).__name__ if not given else f"dims {given[bad[0]].dims}"
        raise InputError(say(got, "an array over component and one dim more at most", "select"))
    return given, errors


def _layout(array: xr.DataArray, extra: list[str]):
    """(rows, columns, name of the rows, cells): where each component stands."""
    known = [str(c) for c in array[names.COMPONENT].values]
    cells: list[dict] = []
    if extra:
        axis = array[extra[0]]
        labels = [str(v) for v in axis.values]
        for r in range(len(labels)):
            for c, name in enumerate(known):
                cells.append({"component": name, "row": r, "column": c, "short": ""})
        return labels, known, f"{extra[0]} / component", cells
    found = {name: _HEAD.fullmatch(name) for name in known}
    layers = sorted({int(m[1]) for m in found.values() if m})
    kinds = sorted({m[2] for m in found.values() if m}, key=_kind_order)
    rows = [f"l{layer}" for layer in layers]
    others = [name for name, m in found.items() if not m]
    for name, m in found.items():
        if m:
            row, column = layers.index(int(m[1])), kinds.index(m[2])
            cells.append({"component": name, "row": row, "column": column, "short": ""})
    wide = max(len(kinds), min(8, len(others)), 1)
    for i, name in enumerate(others):
        row = len(layers) + i // wide
        cells.append({"component": name, "row": row, "column": i % wide, "short": name})
    rows += [OTHER if not i else "" for i in range(-(-len(others) // wide))]
    columns = kinds + [""] * (wide - len(kinds))
    return rows, columns, "layer", cells


def _kind_order(kind: str) -> tuple:
    found = re.fullmatch(r"(h|kv|g)(\d+)", kind)
    return (("h", "kv", "g").index(found[1]), int(found[2])) if found else (9, 0, kind)


def _flat(array: xr.DataArray, extra: list[str], cells: list[dict]) -> np.ndarray:
    if set(array.dims) != {*extra, names.COMPONENT}:
        raise InputError(
            say(f"dims {array.dims}", f"{(*extra, names.COMPONENT)}", "give the same to all")
        )
    table = array.transpose(*extra, names.COMPONENT).values.astype("f4")
    known = {str(c): i for i, c in enumerate(array[names.COMPONENT].values)}
    if extra:
        return np.array([table[c["row"], known[c["component"]]] for c in cells], "f4")
    return np.array([table[known[c["component"]]] for c in cells], "f4")


def _with_places(cells, array, extra, reliability, tokens) -> list[dict]:
    out = []
    weak = set()
    if reliability is not None:
        flat = reliability.squeeze(drop=True)
        pairs = zip(flat[names.COMPONENT].values, np.atleast_1d(flat.values), strict=True)
        weak = {str(c) for c, r in pairs if not r >= 0.5}
    labels = [str(v) for v in array[extra[0]].values] if extra else []
    for cell in cells:
        where = None
        if tokens is not None:
            one = tokens.sel({names.COMPONENT: cell["component"]}).squeeze(drop=True)
            if labels and names.LABEL in one.coords and labels[cell["row"]] in one[names.LABEL]:
                one = one.where(one[names.LABEL] == labels[cell["row"]])
            size = np.abs(one.transpose(names.EXAMPLE, names.TOKEN).values)
            if np.isfinite(size).any():
                e, k = np.unravel_index(int(np.nanargmax(size)), size.shape)
                where = place(one[names.EXAMPLE].values[e], one[names.TOKEN].values[k])
        out.append({**cell, "muted": cell["component"] in weak, "place": where})
    return out
