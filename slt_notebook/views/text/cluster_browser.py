"""`ClusterBrowser`: clusters of tokens with similar responses, and their controls."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback
from slt_notebook.views.base.corpus import Corpus, of_values
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import HTML_LIMIT, View, check_trait, pack, refuse

_COLUMNS = {
    "size": ("tokens", "how many tokens", False),
    "conductance": ("Φ", "conductance: edges that leave the cluster over its volume", True),
    "entropy": ("entropy", "of its token ids, nats; 0: a single token", False),
    "lift": ("lift", "share of the tag among its tokens over the tag's share of all", False),
}  # fmt: skip


class ClusterBrowser(View):
    """The clusters of `slt.clusters` in a table with their controls.

    A cluster opens its tokens in context, and a click on a token shows it in every view that shares
    the `focus`.

    Args:
        found: of `slt.clusters`.
        controls: `{name: clusters of a control}` (same-token shuffle, draws without a loss): the
            number of their clusters and their conductance are shown above the table.
        same: `{name: DataArray over cluster_id}`, such as `slt.conductance(found, control)`: a
            column each, the conductance of the very same tokens in the graph of a control.
        purity: of `slt.purity(found, tags)`: the tag that leads, and its lift.
        focus: A `Focus` to share.
        title: Heading.

    Raises:
        InputError: not what `slt.clusters` returns, values over other clusters, unknown keywords.
    """

    _bundle = "clusters"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    cluster = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self,
        found: xr.Dataset,
        *,
        controls: Mapping[str, xr.Dataset] | None = None,
        same: Mapping[str, xr.DataArray] | None = None,
        purity: xr.Dataset | None = None,
        focus: Focus | None = None,
        title: str | None = None,
        **unknown: Any,
    ):
        refuse(unknown, ClusterBrowser)
        check_trait(focus, Focus, "focus", "pass slt.Focus()")
        for one in (found, *(controls or {}).values()):
            if not isinstance(one, xr.Dataset) or not {"cluster", "size", "conductance"} <= set(
                one
            ):
                raise InputError(
                    say(f"a {type(one).__name__}", "what slt.clusters returns", "pass that")
                )
        table: dict[str, Any] = {k: found[k] for k in ("size", "conductance")}
        columns = [dict(zip(("name", "note", "low"), _COLUMNS[k], strict=True)) for k in table]
        for name, values in (same or {}).items():
            note = f"conductance of the same tokens in {name}; as low as Φ: the control explains it"
            table[name] = values
            columns.append({"name": f"Φ {name}", "note": note, "low": True})
        rest = {"entropy": found.get("entropy"), "lift": None if purity is None else purity["lift"]}
        for name, values in rest.items():
            if values is not None:
                table[name] = values
                columns.append(dict(zip(("name", "note", "low"), _COLUMNS[name], strict=True)))
        count = found.sizes["cluster_id"]
        wrong = [k for k, v in table.items() if np.shape(v) != (count,)]
        if wrong:
            raise InputError(say(f"{wrong[0]!r} over other clusters", f"{count} values", "align"))
        corpus = _corpus(found)
        code = corpus.flat(found["cluster"].transpose(names.EXAMPLE, names.TOKEN).values)
        top = [str(x) for x in found["top"].values] if "top" in found else [""] * count
        tag = [str(x) for x in purity["tag"].values] if purity is not None and count else None
        values = np.array([np.asarray(v, float) for v in table.values()]).reshape(-1, count).T
        rows = [
            {
                "top": top[c],
                "tag": tag[c] if tag else "",
                "values": [float(v) if np.isfinite(v) else None for v in values[c]],
            }
            for c in range(count)
        ]
        self._rows, self._columns = rows, [c["name"] for c in columns]
        summary = [_summary(k, v) for k, v in {"this run": found, **(controls or {})}.items()]
        notes = (
            [] if controls else ["No control was given: noise, too, can yield readable clusters."]
        )
        notes.append(
            "Clusters carry no uncertainty; sample with another seed to see which are stable."
        )
        payload, meta = pack(
            {**corpus.entries(), "cluster": code.astype("i4")},
            title=title or "Clusters of tokens", columns=columns, rows=rows,
            summary=summary if controls else [], notes=notes,
            heads=["clusters", "share of tokens", "min Φ", "median Φ"],
        )  # fmt: skip
        super().__init__(payload=payload, meta=meta, focus=focus or Focus())

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        first = "; ".join(f"{r['top']} ({r['values'][0]:.0f})" for r in self._rows[:3])
        return f"ClusterBrowser: {len(self._rows)} clusters; {first}"

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        rows = [
            (
                k,
                row["top"],
                row["tag"],
                *("–" if v is None else fallback.number(v) for v in row["values"]),
            )
            for k, row in enumerate(self._rows[:200])
        ]
        heads = ["cluster", "most common tokens", "tag", *self._columns]
        parts = [fallback.table(self.meta["title"], heads, rows)]
        if self.meta["summary"]:
            over = [(row["name"], *row["values"]) for row in self.meta["summary"]]
            parts.insert(0, fallback.table("Controls", ["", *self.meta["heads"]], over))
        return fallback.page(self.describe(), parts, HTML_LIMIT)


def _corpus(found: xr.Dataset) -> Corpus:
    shown = found["cluster"].astype(float)
    if names.TOKEN_TEXT in found.coords:
        shown = shown.where((found[names.TOKEN_TEXT] != "") | (found["cluster"] >= 0))  # padding
    corpus = of_values(shown)
    kept = {
        field: tuple(str(x) for x in found[key].values)
        for field, key in (("labels", names.LABEL), ("first", names.FIRST_TEXT))
        if key in found.coords and found[key].dims == (names.EXAMPLE,)
    }
    return replace(corpus, **kept)


def _summary(name: str, found: xr.Dataset) -> dict:
    phi = found["conductance"].values
    numbers = [f"{phi.min():.2f}", f"{np.median(phi):.2f}"] if len(phi) else ["–", "–"]
    share = float(found.attrs.get("share in clusters", np.nan))
    return {"name": name, "values": [str(len(phi)), f"{share:.0%}", *numbers]}
