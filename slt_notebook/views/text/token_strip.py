"""`TokenStrip`: one number per token, shown in the text itself."""

import inspect
import os
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.results.result import Result, resolve
from slt_notebook.views.base import fallback
from slt_notebook.views.base.corpus import Corpus, of_probe, of_values
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import HTML_LIMIT, View, check_trait, pack, refuse
from slt_notebook.views.notes.notes import Notes
from slt_notebook.views.text.token_gain import loss_gain

QUANTILE = 0.995
"""The colour range: this quantile of |value| (a maximum would let one token pale all others)."""
SCALES = ("diverging", "sequential")


class TokenStrip(View):
    """Text whose tokens are coloured by a number, with its uncertainty.

    Blue is negative, orange positive; a line under or over a token says the same without colour.
    Tokens whose 95 % interval (value ± z standard errors) includes 0 are faded.  The
    colour range is symmetric, up to the 99.5th percentile of |value|; what is clipped is marked.

    Args:
        values: DataArray `(example, token)` or `(token,)`; a Dataset of several such (a metric
            picker appears); or a run or probe Dataset: then the loss gain E[loss] - loss(w*).
        text: The tokens: strings of the same shape; None: from the coordinate `token_text`.
        error: Standard errors, of the shape of `values`; None: no uncertainty is known, and the
            legend says nothing about it.  Of a Dataset: variable name -> errors.
        examples: Ids of the examples; None: the coordinate `example`.
        focus: A `Focus` to share with other views.
        notes: `slt.notes(run)`, to read and write notes on tokens.
        title: Heading.
        limit: End of the colour range, in the unit of the values; None: the percentile.
        scale: "diverging", or "sequential" for numbers that cannot be negative.
        probe: Which probe of a run that has several.

    Raises:
        InputError: Other dims, shapes or keywords.
    """

    _bundle = "tokens"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    metric = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        values: Any,
        text: Any = None,
        *,
        error: Any = None,
        examples: Any = None,
        focus: Focus | None = None,
        notes: Notes | None = None,
        title: str | None = None,
        limit: float | None = None,
        scale: str = "diverging",
        probe: str | None = None,
        **unknown: Any,
    ):
        refuse(unknown, TokenStrip)
        check_trait(focus, Focus, "focus", "pass slt.Focus()")
        check_trait(notes, Notes, "notes", "pass slt.notes(run)")
        if scale not in SCALES:
            raise InputError(say(f"scale={scale!r}", " or ".join(map(repr, SCALES)), "name one"))
        if limit is not None and not limit > 0:
            raise InputError(say(f"limit={limit}", "a positive number", "leave it out"))
        corpus, metrics, remarks, found = _metrics(values, text, error, examples, scale, probe)
        if not len(corpus):
            raise InputError(say("no token at all", "at least one", "check the values"))
        arrays = corpus.entries()
        for i, one in enumerate(metrics):
            arrays[f"value{i}"] = one["value"]
            if one["error"] is not None:
                arrays[f"error{i}"] = one["error"]
        self._corpus, self._metrics = corpus, metrics
        shown = [
            {**m, "value": None, "error": m["error"] is not None, "limit": limit} for m in metrics
        ]
        title = title or found
        payload, meta = pack(arrays, title=title, metrics=shown, notes=remarks)
        super().__init__(payload=payload, meta=meta, focus=focus or Focus(), notes=notes or Notes())

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        m = self._metrics[self.metric]
        value = m["value"]
        strongest = np.argsort(-np.abs(np.nan_to_num(value)))[:5]
        rows = ", ".join(
            f"{self._corpus.text[k]!r} {fallback.number(float(value[k]), True)}" for k in strongest
        )
        unit = f" {m['unit']}" if m["unit"] else ""
        return (
            f"TokenStrip: {m['label']}{unit} of {len(self._corpus)} tokens in "
            f"{len(self._corpus.examples)} examples; strongest: {rows}"
        )

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        corpus, m = self._corpus, self._metrics[self.metric]
        value, error = m["value"], m["error"]
        limit = self.meta["metrics"][self.metric]["limit"] or robust_limit(value)
        sure = None if error is None else ~(np.abs(value) <= m["z"] * error)
        marks, listed = (
            self.notes.placed(corpus) if self.notes is not None else ([""] * len(corpus), [])
        )
        start = corpus.start
        parts = [
            fallback.table(
                f"{m['label']}, strongest tokens",
                ["token", "where", f"{m['label']} {m['unit']}", "standard error"],
                (
                    (
                        repr(corpus.text[k]),
                        corpus.where(k),
                        fallback.number(float(value[k]), True),
                        "unknown" if error is None else fallback.number(float(error[k])),
                    )
                    for k in np.argsort(-np.abs(np.nan_to_num(value)))[:10]
                ),
            ),
            fallback.notes_list(listed),
        ]
        for e, name in enumerate(corpus.examples):
            a, b = start[e], start[e + 1]
            parts.append(
                f"<p>{fallback.esc(name)}</p>"
                + fallback.tokens(
                    corpus.text[a:b],
                    value[a:b],
                    limit,
                    sure=None if sure is None else sure[a:b],
                    first=corpus.first[e],
                    marks=marks[a:b],
                )
            )
        head = f"{self.meta['title']}: {m['label']}, colour range ±{limit:.3g} {m['unit']}"
        return fallback.page(head, parts, HTML_LIMIT)


def robust_limit(value: np.ndarray) -> float:
    """Return the 99.5 % quantile of |finite values|, as the browser computes it."""
    size = np.sort(np.abs(value[np.isfinite(value)]))
    return float(size[max(0, int(np.ceil(QUANTILE * len(size))) - 1)]) if len(size) else 0.0


def _metrics(values, text, error, examples, scale, probe):
    """(corpus, metrics, remarks, title) of whatever was given."""
    if isinstance(values, xr.Dataset) and names.LOSS not in values:
        return _of_dataset(values, text, error, examples, scale)
    if _is_run(values):
        return _of_probe(resolve(values), probe)
    if not isinstance(values, xr.DataArray):
        try:
            array = np.asarray(values, dtype=float)
        except (TypeError, ValueError):
            array = np.zeros(())
        if array.ndim not in (1, 2):
            raise InputError(
                say(
                    f"values of type {type(values).__name__}",
                    "a DataArray (example, token), a run, or a probe",
                    "wrap it: xr.DataArray(x, dims=('example', 'token'))",
                )
            )
        values = xr.DataArray(array, dims=(names.EXAMPLE, names.TOKEN)[-array.ndim :])
    corpus = of_values(values, text, examples)
    found = values.name if isinstance(values.name, str) else "value"
    return corpus, [_metric(corpus, values, error, scale, found)], [], found.replace("_", " ")


def _is_run(values: Any) -> bool:
    if isinstance(values, xr.DataArray):
        return False
    known = (Result, xr.Dataset, xr.DataTree, os.PathLike)  # a str could be a text
    # Not `hasattr`: reading `tree` of a handle opens its store.
    return isinstance(values, known) or inspect.getattr_static(values, "tree", None) is not None


def _metric(corpus: Corpus, values: xr.DataArray, error: Any, scale: str, name: str) -> dict:
    attrs = values.attrs
    order = [d for d in (names.EXAMPLE, names.TOKEN) if d in values.dims]
    if error is not None:
        given = error.transpose(*order).values if isinstance(error, xr.DataArray) else error
        error = np.asarray(given, dtype="f4")
        if error.size != corpus.mask.size:
            got = f"error of shape {error.shape}"
            raise InputError(say(got, f"{values.shape}", "give one standard error a value"))
        error = corpus.flat(error)
    return {
        "label": str(attrs.get("long_name", name)).replace("_", " "),
        "component": str(attrs.get("component", "")),
        "unit": str(attrs.get("units", "")),
        "negative": str(attrs.get("negative", "negative")),
        "positive": str(attrs.get("positive", "positive")),
        "scale": scale,
        "z": 1.96,
        "note": "" if error is None else "95 % interval: value ± 1.96 standard errors, as given.",
        "value": corpus.flat(values.transpose(*order).values.astype("f4")),
        "error": error,
    }


def _of_dataset(data: xr.Dataset, text, error, examples, scale):
    shown = [
        str(k)
        for k, v in data.data_vars.items()
        if names.TOKEN in v.dims
        and set(v.dims) <= {names.EXAMPLE, names.TOKEN}
        and v.dtype.kind in "fiub"
        and not str(k).endswith("stderr")
    ]
    if not shown:
        known = ", ".join(map(str, data.data_vars)) or "nothing"
        raise InputError(
            say(f"a Dataset of {known}", "variables (example, token)", "select the other dims")
        )
    errors = dict(error or {})
    wrong = [k for k in errors if k not in shown]
    if wrong:
        raise InputError(
            say(f"error for {wrong[0]!r}{nearest(wrong[0], shown)}", f"{shown}", "name a variable")
        )
    for k in shown:
        for name in (f"{k}_stderr", "stderr"):
            if k not in errors and name in data and data[name].dims == data[k].dims:
                errors[k] = data[name]
                break
    coords = {
        k: data[k] for k in (names.TOKEN_TEXT, names.TOKEN_ID) if k in data and k not in shown
    }
    corpus = of_values(data[shown[0]].assign_coords(coords), text, examples)
    metrics = [_metric(corpus, data[k], errors.get(k), scale, str(k)) for k in shown]
    return corpus, metrics, [], "Tokens"


def _of_probe(result: Result, probe: str | None):
    data = result.probe(probe)
    table, about = loss_gain(result, probe)
    corpus = of_probe(data)
    flat = {k: corpus.flat(table[k].values.astype("f4")) for k in table}
    how = (
        f"Standard error: sd / sqrt(ESS) over {about['chains']} chains of {about['draws']} draws "
        f"(median ESS {about['ess']:.0f}); 95 % interval: ± {about['z']:.2f} standard errors."
    )
    common = {"unit": "nats", "z": about["z"]}
    metrics = [
        {
            "label": "loss gain",
            "negative": "easier around w*",
            "positive": "harder around w*",
            "scale": "diverging",
            "note": f"Loss gain: E[loss(w)] − loss(w*) of the token. {how}",
            "value": flat["gain"],
            "error": flat["error"],
            **common,
        },
        {
            "label": "loss at w*",
            "negative": "",
            "positive": "",
            "scale": "sequential",
            "note": "Loss at w*: of the trained weights themselves; it has no sampling error.",
            "value": flat["init_loss"],
            "error": None,
            **common,
        },
        {
            "label": "spread of the loss",
            "negative": "",
            "positive": "",
            "scale": "sequential",
            "note": "Spread: standard deviation of the loss over draws, without a standard error.",
            "value": flat["sd"],
            "error": None,
            **common,
        },
    ]
    remarks = [f"Excluded: chain {c} ({why})." for c, why in about["excluded"].items()]
    name = data.attrs.get("probe")
    return corpus, metrics, remarks, f"Tokens of {name}" if name else "Tokens"
