"""`EmbeddingMap`: a map of points to colour, lasso and inspect.

Generic: points are any two coordinates (`slt.embed`), each a place `(example, token)` that linked
views share, with as many coordinates to colour by as wanted, and text or images to look at.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets

from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback
from slt_notebook.views.base.linking import Focus, place
from slt_notebook.views.base.widget import HTML_LIMIT, View, check_trait, pack, refuse
from slt_notebook.views.maps.embedding_data import (
    colors_of,
    coordinates_of,
    images_of,
    layouts_of,
    names_of,
    places_of,
)
from slt_notebook.views.maps.map_svg import map_svg
from slt_notebook.views.notes.notes import Notes

POINTS = 50_000
"""Points that one map may hold."""


class EmbeddingMap(View):
    """Points in the plane: colour by any coordinate, lasso them, see what they are.

    Args:
        points: `slt.embed(...)`, an array `[point, 2]`, or several by name:
            `{"UMAP": ..., "PCA": ...}`.  Points with NaN are left out.
        colors: `{name: values}` to colour by: strings or booleans are categories, numbers a scale
            (diverging around 0 where both signs occur).  Coords of `points` that belong to its
            points are added by themselves, and a `label` first of all.
        probe: The probe (a Dataset, or a run with one) whose examples or tokens the points are:
            gives ids, labels, and for tokens their text in context.
        text: What a point is called instead: a string each, or `(before, token, after)`.
        images: Thumbnails, `[point, height, width]` or `[..., 3]`; floats are 0 to 1.
        examples, tokens: The place of each point, which linked views share; by default those of
            `probe`, else of the coords of `points`, else its number.
        selected: Positions of the points that are selected to begin with.
        focus: A `Focus` to share.  notes: `slt.notes(run)`.
        title: Heading.

    Attributes:
        selected: what the reader has selected: positions among the points of `points`.

    Raises:
        InputError: More than 50,000 points, lengths that differ, or unknown keywords.
    """

    _bundle = "embedding"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    color = traitlets.Int(0).tag(sync=True)
    selected = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self,
        points: Any,
        *,
        colors: Mapping[str, Any] | None = None,
        probe: Any = None,
        text: Sequence[Any] | None = None,
        images: Any = None,
        examples: Sequence[Any] | None = None,
        tokens: Sequence[int] | None = None,
        selected: Sequence[int] = (),
        focus: Focus | None = None,
        notes: Notes | None = None,
        title: str | None = None,
        **unknown: Any,
    ):
        refuse(unknown, EmbeddingMap)
        check_trait(focus, Focus, "focus", "pass slt.Focus()")
        check_trait(notes, Notes, "notes", "pass slt.notes(run)")
        layouts, about, coords = layouts_of(points)
        count = len(next(iter(layouts.values())))
        if count > POINTS:
            raise InputError(say(f"{count} points", f"at most {POINTS}", "take a part of them"))
        corpus, mask = places_of(probe, count)
        ids, places, words = names_of(corpus, mask, coords, count, examples, tokens, text)
        found = colors_of(colors, coords, corpus, mask, count)
        placed = np.all([np.isfinite(p).all(1) for p in layouts.values()], axis=0)
        self._kept = np.flatnonzero(placed)
        self._x = {k: p[placed] for k, p in layouts.items()}
        self._colors = {k: v[placed] for k, v in found.items()}
        self._ids = [ids[k] for k in self._kept]
        self._token = places[placed]
        arrays, metas = coordinates_of(self._colors)
        unique = list(dict.fromkeys(self._ids))
        number = {name: i for i, name in enumerate(unique)}
        arrays |= {
            "examples": unique,
            "example": np.array([number[name] for name in self._ids], "i4"),
            "token": self._token.astype("i4"),
        }
        if words and isinstance(words[0], tuple):
            arrays["context"] = [[str(t) for t in words[k]] for k in self._kept]
            self._words = [str(words[k][1]) for k in self._kept]
        else:
            self._words = [str(words[k]) for k in self._kept]
        arrays["label"] = self._words
        for i, p in enumerate(self._x.values()):
            arrays |= {f"x{i}": p[:, 0].astype("f4"), f"y{i}": p[:, 1].astype("f4")}
        shape = None
        if images is not None:
            pixels = images_of(images, count)[placed]
            shape, arrays["images"] = [*pixels.shape[1:], 1][:3], pixels
        remarks = [f"{count - len(self._kept)} points without a position are excluded."]
        remarks = remarks if len(self._kept) < count else []
        remarks.append(
            "Positions carry no uncertainty: embed with another seed to see what is stable."
        )
        payload, meta = pack(
            arrays,
            title=title or "Map",
            count=len(self._kept),
            layouts=[{"name": k, "note": about[k]} for k in self._x],
            coordinates=metas,
            images=shape,
            what="token" if "context" in arrays else "example",
            notes=remarks,
        )
        back = {int(k): i for i, k in enumerate(self._kept)}
        super().__init__(
            payload=payload, meta=meta, focus=focus or Focus(), notes=notes or Notes(),
            selected=[back[int(k)] for k in selected if int(k) in back],
        )  # fmt: skip

    @property
    def selection(self) -> list[int]:
        """The selected points as positions in what was given."""
        return [int(self._kept[k]) for k in self.selected]

    @property
    def selected_ids(self) -> list[str]:
        """The ids of the examples of the selected points, each once."""
        return list(dict.fromkeys(self._ids[k] for k in self.selected))

    def look_at(self, point: int) -> "EmbeddingMap":
        """Focus one point, by its position in what was given."""
        k = int(np.searchsorted(self._kept, point))
        self.focus.focus = place(self._ids[k], int(self._token[k]))
        return self

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        by = ", ".join(self._colors)
        return (
            f"EmbeddingMap: {len(self._kept)} points ({', '.join(self._x)}), colour by {by}; "
            f"{len(self.selected)} selected"
        )

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        name = list(self._colors)[min(self.color, len(self._colors) - 1)]
        values = self._colors[name]
        xy = next(iter(self._x.values()))
        parts = [map_svg(xy, values, f"{self.meta['title']}, coloured by {name}")]
        if values.dtype.kind == "U":
            kinds, counts = np.unique(values, return_counts=True)
            order = np.argsort(-counts)[:30]
            rows = [(kinds[i] or "none", int(counts[i])) for i in order]
            parts.append(fallback.table(f"{name}: points of each", [name, "points"], rows))
        if self.selected:
            rows = [(self._words[k], self._ids[k]) for k in self.selected[:50]]
            parts.append(fallback.table("Selected", ["", "example"], rows))
        parts += [f"<p>{fallback.esc(text)}</p>" for text in self.meta["notes"]]
        return fallback.page(self.describe(), parts, HTML_LIMIT)
