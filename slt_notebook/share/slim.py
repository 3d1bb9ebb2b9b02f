"""Keep only the widget models that a notebook's outputs show, and those they refer to.

A saved notebook keeps the state of every widget that a kernel ever made, each with its own copy of
its module.  Here: which ones are needed, and the same state with each module once.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

STATE_MIME = "application/vnd.jupyter.widget-state+json"
VIEW_MIME = "application/vnd.jupyter.widget-view+json"
_REF = re.compile(r"^(?:IPY_MODEL_|anywidget:)(.+)$")
_HOST_KEYS = ("layout", "tabbable", "tooltip", "comm")


def references(value: Any) -> Iterator[str]:
    """Ids of the models that a piece of widget state refers to, at any depth."""
    if isinstance(value, str):
        found = _REF.match(value)
        if found:
            yield found.group(1)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item)


def needed(states: Mapping[str, Any], shown: Iterable[str]) -> set[str]:
    """Ids of `shown` and of all that they refer to, as far as `states` holds them."""
    found: set[str] = set()
    open_ids = [id_ for id_ in shown if id_ in states]
    while open_ids:
        id_ = open_ids.pop()
        if id_ not in found:
            found.add(id_)
            open_ids += [ref for ref in references(states[id_].get("state", {})) if ref in states]
    return found


def shown_models(nb: Mapping[str, Any]) -> list[str]:
    """Ids of the models that some output of a notebook shows, in order."""
    ids = [
        output["data"][VIEW_MIME].get("model_id")
        for cell in nb.get("cells", ())
        for output in cell.get("outputs", ())
        if VIEW_MIME in output.get("data", {})
    ]
    return list(dict.fromkeys(id_ for id_ in ids if id_))


def notebook_states(nb: Mapping[str, Any]) -> dict[str, Any]:
    """Return the saved widget state of a notebook: model id -> {model_name, state, buffers}."""
    return dict(nb.get("metadata", {}).get("widgets", {}).get(STATE_MIME, {}).get("state", {}))


def slim(nb: Any) -> int:
    """Drop the state of models that no output of `nb` needs (in place); how many were dropped."""
    states = notebook_states(nb)
    keep = needed(states, shown_models(nb))
    if states:
        kept = {id_: state for id_, state in states.items() if id_ in keep}
        nb["metadata"]["widgets"][STATE_MIME]["state"] = kept
    return len(states) - len(keep)


def can_live(state: Mapping[str, Any] | None) -> bool:
    """Return True for a model that carries its own module: the page's host can run it."""
    return bool(state) and bool(state.get("state", {}).get("_esm"))


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def page_data(states: Mapping[str, Any], shown: Iterable[str]) -> dict[str, Any]:
    """What src/host.ts reads: `{modules, styles, models}`, each module and stylesheet once."""
    modules: dict[str, str] = {}
    styles: dict[str, str] = {}
    models: dict[str, Any] = {}
    for id_ in sorted(needed(states, shown)):
        if not can_live(states[id_]):
            continue
        state = dict(states[id_]["state"])
        esm, css = state.pop("_esm"), state.pop("_css", None) or ""
        esm_key, css_key = _key(esm), _key(css) if css else ""
        modules[esm_key] = esm
        if css:
            styles[css_key] = css
        own = {
            name: value
            for name, value in state.items()
            if name not in _HOST_KEYS and not name.startswith("_")
        }
        buffers = [
            {"path": list(buffer["path"]), "data": buffer["data"]}
            for buffer in states[id_].get("buffers", ())
            if not str(buffer["path"][0]).startswith("_")
        ]
        models[id_] = {"esm": esm_key, "css": css_key, "state": own, "buffers": buffers}
    return {"modules": modules, "styles": styles, "models": models}


def embed_json(value: Any) -> str:
    r"""Return JSON for a <script> element: ASCII, and with no `<` that could end it.

    >>> embed_json("</script>")
    '"\\u003c/script>"'
    """
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """Return the same with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
