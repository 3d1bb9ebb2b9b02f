"""The border between arrays and the browser: the base class of views, and how arrays are packed.

A view is an `anywidget.AnyWidget` whose front end is `static/<bundle>.js` and whose state carries
its data, so that it works live, in a saved notebook and in an exported page.  A new one:

    class TraceView(View):
        _bundle = "traces"    # static/traces.js, from widgets/src/charts/widgets/traces.ts
        payload = traitlets.Bytes(b"").tag(sync=True)
        meta = traitlets.Dict().tag(sync=True)

        def __init__(self, data, *, focus=None, **unknown):
            refuse(unknown, TraceView)
            payload, meta = pack({"loss": loss.astype("f4")}, title="...")
            super().__init__(payload=payload, meta=meta, focus=focus)

        def describe(self): return "plain text"
        def fallback(self): return "<p>script-free, escaped HTML</p>"

`fallback` must escape every string from data (`views.fallback.esc`).  The browser reads a payload
with `unpack(model.get("meta"), model.get("payload"))` of widgets/src/base/codec.ts.
"""

import inspect
import json
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import anywidget
import numpy as np

from slt_notebook.errors import InputError, nearest, say

STATIC = Path(__file__).parents[2] / "static"
HTML_LIMIT = 200_000
"""Bytes of script-free HTML that a notebook's output may carry for one view."""

_DTYPES = ("i1", "u1", "i4", "f4", "f8")

_MISSING = """
export default {{ render({{ el }}) {{
  const box = document.createElement("pre");
  box.textContent = {message};
  el.appendChild(box);
}} }};
"""


def bundle(name: str) -> str:
    """Return the ES module of a widget, or a stub that says how to build it where it is missing."""
    path = STATIC / f"{name}.js"
    if path.is_file():
        return _text_of(path, path.stat().st_mtime_ns)
    message = (
        f"The front end of this view is not built (slt_notebook/static/{name}.js is missing). "
        "In a checkout: npm --prefix widgets ci && npm --prefix widgets run build"
    )
    return _MISSING.format(message=json.dumps(message))


@lru_cache(maxsize=64)
def _text_of(path: Path, changed: int) -> str:
    """Return a file's text; all views of a kind hold one copy of it, and not one each."""
    return path.read_text(encoding="utf-8")


def pack(arrays: Mapping[str, Any], **meta: Any) -> tuple[bytes, dict]:
    """Arrays as one zlib stream, and the `meta` by which the browser finds them.

    Args:
        arrays: name -> numpy array of dtype i1, u1, i4, f4 or f8 (others are refused, so that
            nothing is rounded unnoticed), or anything that JSON can hold (token strings, ids).
        meta: further entries of `meta`, JSON-able.

    Returns:
        (payload, meta) with `meta["arrays"][name] = {dtype, shape, offset, bytes}`.
    """
    parts: list[bytes] = []
    entries: dict[str, dict] = {}
    offset = 0
    for name, value in arrays.items():
        if isinstance(value, np.ndarray):
            kind = value.dtype.str[1:]
            if kind not in _DTYPES:
                raise InputError(
                    say(f"dtype {value.dtype} for {name!r}", f"one of {_DTYPES}", "use .astype")
                )
            data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
            entry = {"dtype": kind, "shape": list(value.shape)}
        else:
            # ASCII, so that a lone surrogate in a token's text survives the journey.
            data = json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
            entry = {"dtype": "json", "shape": []}
        entries[name] = {**entry, "offset": offset, "bytes": len(data)}
        padding = -len(data) % 8
        parts.append(data + b"\0" * padding)
        offset += len(data) + padding
    payload = zlib.compress(b"".join(parts), level=6)
    return payload, {**meta, "codec": "zlib", "size": offset, "arrays": entries}


def unpack(payload: bytes, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of `pack`, back again."""
    raw = zlib.decompress(payload)
    result: dict[str, Any] = {}
    for name, entry in meta["arrays"].items():
        data = raw[entry["offset"] : entry["offset"] + entry["bytes"]]
        if entry["dtype"] == "json":
            result[name] = json.loads(data)
        else:
            array = np.frombuffer(data, dtype=np.dtype(entry["dtype"]).newbyteorder("<"))
            result[name] = array.reshape(entry["shape"])
    return result


def refuse(unknown: Mapping[str, Any], owner: Any) -> None:
    """Raise InputError for keywords that `owner` (a view class or a function) does not know."""
    if not unknown:
        return
    known = [
        name
        for name, parameter in inspect.signature(owner).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    name = next(iter(unknown))
    raise InputError(
        say(
            f"keyword {name!r}{nearest(name, known)}",
            f"one of {', '.join(known)}",
            f"rename or drop {name!r} in {owner.__name__}(...)",
        )
    )


class View(anywidget.AnyWidget):
    """Base of every view: the bundle, the script-free fallback, `save_html`."""

    _bundle = ""
    # In the place of a method of ipywidgets that moves the keyboard's focus.
    focus: Any = anywidget.WidgetTrait().tag(sync=True)
    notes: Any = anywidget.WidgetTrait().tag(sync=True)

    @property
    def _esm(self) -> str:
        return bundle(self._bundle)

    def describe(self) -> str:
        """Return what the view shows, as plain text (`text/plain` of its output)."""
        return f"<{type(self).__name__}>"

    def fallback(self) -> str:
        """Return the view without scripts: escaped HTML, shown where the widget cannot run."""
        from slt_notebook.views.base.fallback import esc

        return f"<pre>{esc(self.describe())}</pre>"

    def __repr__(self) -> str:
        return self.describe()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict] | None:
        found = super()._repr_mimebundle_(**kwargs)
        if found is None:
            return None
        data, metadata = found
        html = self.fallback()
        if len(html.encode("utf-8", "replace")) > HTML_LIMIT:
            from slt_notebook.views.base.fallback import esc

            html = f"<pre>{esc(self.describe())}</pre>"
        data["text/plain"] = self.describe()
        data["text/html"] = html
        return data, metadata

    def save_html(self, path: str | Path) -> Path:
        """Write this view as one HTML file that works with no network and no Python."""
        from slt_notebook.share.page import widgets_page

        path = Path(path)
        path.write_text(widgets_page([self]), encoding="utf-8")
        return path


class Model(anywidget.AnyWidget):
    """Base of what views share and nobody displays on its own (`Focus`)."""

    _bundle = ""

    @property
    def _esm(self) -> str:
        return bundle(self._bundle)


def check_trait(value: Any, kind: type, name: str, how: str) -> None:
    """Raise InputError where `value` is neither None nor a `kind` (`focus=`, `notes=`)."""
    if value is not None and not isinstance(value, kind):
        raise InputError(say(f"{name} of type {type(value).__name__}", kind.__name__, how))
