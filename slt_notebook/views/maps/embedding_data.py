"""What an `EmbeddingMap` is made from: positions, places, names, colours and images of points."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.results.result import resolve
from slt_notebook.views.base.corpus import Corpus, of_probe

IMAGE_BYTES = 8_000_000
"""Bytes of thumbnails before deflating that one map may carry."""
CATEGORIES = 400

_METHODS = {
    "pca": "distances are meaningful, as far as two of many directions can show them",
    "umap": "neighbourhoods are meaningful; distances between clusters and their sizes are not",
    "tsne": "neighbourhoods are meaningful; distances between clusters and their sizes are not",
}


def layouts_of(points: Any) -> tuple[dict[str, np.ndarray], dict[str, str], dict]:
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


def places_of(probe: Any, count: int) -> tuple[Corpus | None, np.ndarray | None]:
    """Return the corpus of the probe, and which of the points are tokens of it (padding is not)."""
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


def names_of(corpus, mask, coords, count, examples, tokens, text):
    """Return the id, the token and the name of every point."""
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


def colors_of(colors, coords, corpus, mask, count) -> dict[str, np.ndarray]:
    """Return the coordinates to colour by: name -> one value per point, a `label` first."""
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


def coordinates_of(colors: Mapping[str, np.ndarray]) -> tuple[dict, list[dict]]:
    """Return the arrays and the metadata of the coordinates, as the browser reads them."""
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


def images_of(images: Any, count: int) -> np.ndarray:
    """Return thumbnails as uint8 `[point, height, width[, 3]]`.

    Raises:
        InputError: Another shape, or more than `IMAGE_BYTES`.
    """
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
