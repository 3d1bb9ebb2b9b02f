"""`EmbeddingMap`: a map of points to colour, lasso and inspect.

Generic: points are any two coordinates (`slt.embed`), each a place `(example, token)` that linked
views share, with as many coordinates to colour by as wanted, and text or images to look at.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.results.result import resolve
from slt_notebook.views.base import fallback
from slt_notebook.views.base.corpus import Corpus, of_probe
from slt_notebook.views.base.linking import Focus, place
from slt_notebook.views.base.static_svg import COLOURS
from slt_notebook.views.base.widget import HTML_LIMIT, View, check_trait, pack, refuse
from slt_notebook.views.notes.notes import Notes

POINTS = 50_000
"""Points that one map may hold."""
IMAGE_BYTES = 8_000_000
"""Bytes of thumbnails before deflating that one map may carry."""
CATEGORIES = 400

_METHODS = {
    "pca": "distances are meaningful, as far as two of many directions can show them",
    "umap": "neighbourhoods are meaningful; distances between clusters and their sizes are not",
    "tsne": "neighbourhoods are meaningful; distances between clusters and their sizes are not",
}
_STILL = 3000  # points in the picture without scripts


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
        layouts, about, coords = _layouts(points)
        count = len(next(iter(layouts.values())))
        if count > POINTS:
            raise InputError(say(f"{count} points", f"at most {POINTS}", "take a part of them"))
        corpus, mask = _places(probe, count)
        ids, places, words = _names(corpus, mask, coords, count, examples, tokens, text)
        found = _colors(colors, coords, corpus, mask, count)
        placed = np.all([np.isfinite(p).all(1) for p in layouts.values()], axis=0)
        self._kept = np.flatnonzero(placed)
        self._x = {k: p[placed] for k, p in layouts.items()}
        self._colors = {k: v[placed] for k, v in found.items()}
        self._ids = [ids[k] for k in self._kept]
        self._token = places[placed]
        arrays, metas = _coordinates(self._colors)
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
            pixels = _images(images, count)[placed]
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
        parts = [_still(xy, values, f"{self.meta['title']}, coloured by {name}")]
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


def _layouts(points: Any) -> tuple[dict[str, np.ndarray], dict[str, str], dict]:
    """Positions by name, what each means, and the coords of the points."""
    given = dict(points) if isinstance(points, Mapping) else {None: points}
    if not given:
        raise InputError(say("no layouts", "at least one", "pass slt.embed(slt.kernel_map(run))"))
    found, about, coords = {}, {}, {}
    for name, value in given.items():
        method = str(value.name) if isinstance(value, xr.DataArray) and value.name else ""
        array = np.asarray(getattr(value, "values", value), np.float64)
        if array.ndim < 2 or array.shape[-1] != 2:
            raise InputError(
                say(f"points of shape {array.shape}", "[point, 2]", "pass slt.embed(...)")
            )
        if isinstance(value, xr.DataArray):
            rest = [str(d) for d in value.dims[:-1]]
            coords |= {
                str(k): np.broadcast_to(
                    v.transpose(*(d for d in rest if d in v.dims)).values.reshape(
                        [value.sizes[d] if d in v.dims else 1 for d in rest]
                    ),
                    array.shape[:-1],
                ).reshape(-1)
                for k, v in value.coords.items()
                if v.dims and set(v.dims) <= set(rest)
            }
        label = str(name) if name is not None else (method.upper() or "position")
        found[label] = array.reshape(-1, 2)
        about[label] = _METHODS.get(method or label.lower(), "as given")
    sizes = {len(v) for v in found.values()}
    if len(sizes) > 1 or not min(sizes):
        raise InputError(say(f"layouts of {sorted(sizes)} points", "one length above 0", "align"))
    return found, about, coords


def _places(probe: Any, count: int) -> tuple[Corpus | None, np.ndarray | None]:
    """The corpus of the probe, and which of the points are tokens of it (padding is not)."""
    if probe is None:
        return None, None
    data = resolve(probe).probe()
    corpus = of_probe(data)
    mask = corpus.mask.reshape(-1)
    if count == len(mask):
        return corpus, mask
    if count == len(corpus):
        return corpus, np.ones(count, bool)
    raise InputError(
        say(f"{count} points for {len(mask)} tokens or examples of the probe", "as many", "align")
    )


def _names(corpus, mask, coords, count, examples, tokens, text):
    ids = [str(x) for x in coords.get(names.EXAMPLE, np.arange(count))]
    places = np.asarray(coords.get(names.TOKEN, np.zeros(count)), int)
    words: list = [str(x) for x in coords.get(names.TOKEN_TEXT, coords.get(names.LABEL, ids))]
    if corpus is not None:
        textual = corpus.mask.shape[1] > 1
        flat = np.flatnonzero(mask)
        ids, words = [""] * count, [""] * count
        places = np.zeros(count, int)
        for k, at in enumerate(flat):
            ids[at] = corpus.examples[corpus.example_of(k)]
            places[at] = corpus.token[k]
            words[at] = corpus.context(k, 7) if textual else corpus.text[k]
        if textual:
            words = [w or ("", "", "") for w in words]
    for name, given in (("examples", examples), ("tokens", tokens), ("text", text)):
        if given is not None and len(given) != count:
            raise InputError(say(f"{len(given)} {name}", f"{count}, one a point", "align them"))
    ids = ids if examples is None else [str(x) for x in examples]
    places = places if tokens is None else np.asarray(tokens, int)
    if text is not None:
        words = [tuple(w) if isinstance(w, list | tuple) else str(w) for w in text]
        if any(isinstance(w, tuple) and len(w) != 3 for w in words):
            raise InputError(say("a text of other than 3 parts", "(before, token, after)", "mend"))
    return ids, places, words


_NOT_COLOURS = (names.EXAMPLE, names.TOKEN, names.TOKEN_ID, names.FIRST_TEXT, names.FIRST_ID)


def _colors(colors, coords, corpus, mask, count) -> dict[str, np.ndarray]:
    found: dict[str, Any] = {}
    if corpus is not None and any(corpus.labels):
        column = np.full(count, "", object)
        for k, at in enumerate(np.flatnonzero(mask)):
            column[at] = corpus.labels[corpus.example_of(k)] or ""
        found["label"] = column
    elif names.LABEL in coords:
        found["label"] = coords[names.LABEL]
    found |= dict(colors or {})
    found |= {k: v for k, v in coords.items() if k not in (*_NOT_COLOURS, *found)}
    checked = {}
    for name, value in found.items():
        array = np.asarray(getattr(value, "values", value)).reshape(-1)
        if len(array) != count:
            raise InputError(say(f"{len(array)} values of {name!r}", f"{count}", "align them"))
        if array.dtype.kind in "OUSb":
            array = np.array([str(x) for x in array])
            if name in coords and colors is not None and name not in colors:
                if len(np.unique(array)) > CATEGORIES:
                    continue  # a coordinate that merely came along, such as the text of tokens
            elif len(np.unique(array)) > CATEGORIES and name in coords:
                continue
        else:
            array = array.astype(np.float64)
        checked[str(name)] = array
    if not checked:
        checked["position"] = np.arange(count, dtype=np.float64)
    return checked


def _coordinates(colors: Mapping[str, np.ndarray]) -> tuple[dict, list[dict]]:
    arrays: dict[str, Any] = {}
    metas = []
    for i, (name, values) in enumerate(colors.items()):
        if values.dtype.kind == "U":
            kinds, code, counts = np.unique(values, return_inverse=True, return_counts=True)
            order = np.argsort(-counts, kind="stable")  # the commonest get colours of their own
            order = order[kinds[order] != ""]
            rank = np.full(len(kinds), -1)
            rank[order] = np.arange(len(order))
            arrays[f"c{i}"] = rank[code].astype("i4")
            one = {"kind": "category", "categories": kinds[order].tolist(), "note": ""}
            metas.append({"name": name, **one, "low": 0, "high": 0})
            continue
        finite = values[np.isfinite(values)]
        low, high = np.quantile(finite, [0.005, 0.995]) if len(finite) else (0.0, 1.0)
        if low < 0 < high:
            low, high = -max(-low, high), max(-low, high)
        beyond = int(((finite < low) | (finite > high)).sum())
        note = f"colour range: 0.5th to 99.5th percentile; {beyond} clipped"
        arrays[f"c{i}"] = values.astype("f4")
        one = {"kind": "number", "categories": [], "note": note if beyond else ""}
        metas.append({"name": name, **one, "low": float(low), "high": float(high)})
    return arrays, metas


def _images(images: Any, count: int) -> np.ndarray:
    pixels = np.asarray(images)
    channels = pixels.shape[3] if pixels.ndim == 4 else 1
    if pixels.ndim not in (3, 4) or len(pixels) != count or channels not in (1, 3):
        raise InputError(
            say(
                f"images of shape {pixels.shape}",
                f"[{count}, height, width] or [{count}, height, width, 3]",
                "reshape, and give one a point",
            )
        )
    if pixels.dtype.kind == "f":
        pixels = np.rint(255 * np.clip(pixels, 0, 1))
    if pixels.size > IMAGE_BYTES:
        raise InputError(
            say(
                f"{pixels.size / 1e6:.0f} MB of images",
                f"at most {IMAGE_BYTES / 1e6:.0f} MB",
                "make the thumbnails smaller",
            )
        )
    return pixels.astype("u1")


def _still(xy: np.ndarray, values: np.ndarray, label: str) -> str:
    """The map as inline SVG; of many points an even part."""
    every = max(1, len(xy) // _STILL)
    xy, values = xy[::every], values[::every]
    size, margin = 420, 8
    low, high = xy.min(0), xy.max(0)
    scale = (size - 2 * margin) / max(float((high - low).max()), 1e-12)
    at = margin + (xy - low) * scale
    if values.dtype.kind == "U":
        kinds, counts = np.unique(values, return_counts=True)
        rank = {k: i for i, k in enumerate(kinds[np.argsort(-counts, kind="stable")])}
        shade = [COLOURS[rank[v] % len(COLOURS)] for v in values]
    else:
        span = np.nanquantile(values, [0.01, 0.99]) if np.isfinite(values).any() else [0, 1]
        share = np.clip((values - span[0]) / max(span[1] - span[0], 1e-12), 0, 1)
        shade = [_tint(s) for s in np.nan_to_num(share)]
    dots = "".join(
        f'<circle cx="{x:.0f}" cy="{size - y:.0f}" r="2.2" fill="{c}"/>'
        for (x, y), c in zip(at, shade, strict=True)
    )
    part = f", every {every}th point" if every > 1 else ""
    return (
        f'<svg viewBox="0 0 {size} {size}" width="{size}" height="{size}" role="img" '
        f'aria-label="{fallback.esc(label + part)}" style="max-width:100%">{dots}</svg>'
    )


def _tint(share: float) -> str:
    a, b = np.array([150, 190, 200]), np.array([10, 90, 110])
    return "#" + "".join(f"{round(v):02x}" for v in a + share * (b - a))
