"""Turn the cells and outputs of a notebook into HTML."""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbconvert.filters.ansi import ansi2html
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from slt_notebook.share import markdown, vega
from slt_notebook.share.clean import clean
from slt_notebook.share.slim import VIEW_MIME, can_live, references

_FORMATTER = HtmlFormatter(nowrap=True, classprefix="p-")
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def notebook_body(nb: Any, states: Mapping[str, Any], folder: Path | None = None) -> str:
    """All cells of a notebook; `states` tells which widgets can live."""
    language = nb.get("metadata", {}).get("language_info", {}).get("pygments_lexer", "python")
    parts = []
    for cell in nb.get("cells", ()):
        tags = set(cell.get("metadata", {}).get("tags", ()))
        if "remove-cell" in tags:
            continue
        source = _text(cell.get("source", ""))
        if cell["cell_type"] == "markdown":
            text = markdown.render(source, cell.get("attachments"), folder)
            parts.append(f'<div class="prose">{text}</div>')
        elif cell["cell_type"] == "code":
            parts.append(_code_cell(cell, source, language, tags, states))
        elif source.strip():
            parts.append(f"<pre>{html.escape(source)}</pre>")
    return "\n".join(part for part in parts if part)


def _code_cell(cell: Any, source: str, language: str, tags: set, states: Mapping) -> str:
    code = ""
    hidden = cell.get("metadata", {}).get("jupyter", {}).get("source_hidden")
    if source.strip() and "remove-input" not in tags:
        code = f'<div class="code"><pre><code>{highlighted(source, language)}</code></pre></div>'
        if hidden or "hide-input" in tags:
            code = f"<details class='code-fold'><summary>Code</summary>{code}</details>"
    outputs = "" if "remove-output" in tags else outputs_html(cell.get("outputs", ()), states)
    return f'<div class="cell">{code}{outputs}</div>' if code or outputs else ""


def highlighted(source: str, language: str = "python") -> str:
    """Source text with the classes of the page's stylesheet."""
    try:
        lexer = get_lexer_by_name("ipython3" if language.startswith("ipython") else language)
    except ClassNotFound:
        lexer = get_lexer_by_name("python")
    return highlight(source, lexer, _FORMATTER).rstrip("\n")


def outputs_html(outputs: Any, states: Mapping[str, Any]) -> str:
    """Return the outputs of one cell; consecutive pieces of one stream are joined."""
    parts: list[str] = []
    streams: list[tuple[str, str]] = []

    def flush() -> None:
        for name, text in streams:
            shown = console_text(text).rstrip("\n")
            if shown.strip():
                parts.append(f'<pre class="stream {name}">{ansi2html(shown)}</pre>')
        streams.clear()

    for output in outputs:
        kind = output["output_type"]
        if kind == "stream":
            name = "stderr" if output.get("name") == "stderr" else "stdout"
            text = _text(output.get("text", ""))
            if streams and streams[-1][0] == name:
                streams[-1] = (name, streams[-1][1] + text)
            else:
                streams.append((name, text))
            continue
        flush()
        if kind == "error":
            trace = "\n".join(output.get("traceback") or ()) or (
                f"{output.get('ename', 'Error')}: {output.get('evalue', '')}"
            )
            parts.append(f'<pre class="stream error">{ansi2html(console_text(trace))}</pre>')
        else:
            parts.append(data_html(output.get("data", {}), states, output.get("metadata", {})))
    flush()
    inner = "".join(f'<div class="output">{part}</div>' for part in parts if part)
    return f'<div class="outputs">{inner}</div>' if inner else ""


def console_text(text: str) -> str:
    r"""Return what a terminal would show in the end: a carriage return starts its line anew.

    >>> console_text("  0%\r 50%\r100%\ndone")
    '100%\ndone'
    """
    kept = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))
    lines = "\n".join(kept)
    return _ANSI.sub(lambda found: found[0] if _COLOUR.fullmatch(found[0]) else "", lines)


def data_html(data: Mapping[str, Any], states: Mapping[str, Any], metadata: Mapping) -> str:
    """Return the richest form of one output that works offline."""
    if VIEW_MIME in data:
        return widget_html(str(data[VIEW_MIME].get("model_id", "")), data, states)
    spec = vega.find_spec(data)
    if spec is not None:
        return vega.chart_html(spec)
    return _still(data, metadata)


def _still(data: Mapping[str, Any], metadata: Mapping) -> str:
    if "text/html" in data:
        return f'<div class="html">{clean(_text(data["text/html"]))}</div>'
    if "text/markdown" in data:
        return f'<div class="prose">{markdown.render(_text(data["text/markdown"]))}</div>'
    if "text/latex" in data:
        return f'<div class="prose">{markdown.render(_text(data["text/latex"]))}</div>'
    if "image/svg+xml" in data:
        return f'<div class="picture">{clean(_text(data["image/svg+xml"]))}</div>'
    for mime in _IMAGES:
        if mime in data:
            return _image(mime, _text(data[mime]), data, metadata.get(mime, {}))
    if "text/plain" in data:
        return f"<pre>{ansi2html(_text(data['text/plain']))}</pre>"
    return ""


def _image(mime: str, base64: str, data: Mapping[str, Any], size: Mapping[str, Any]) -> str:
    alt = html.escape(_text(data.get("text/plain", "a picture"))[:200], quote=True)
    content = html.escape("".join(base64.split()), quote=True)
    extent = "".join(f' {k}="{int(size[k])}"' for k in ("width", "height") if k in size)
    return (
        f'<div class="picture"><img alt="{alt}" src="data:{mime};base64,{content}"{extent}></div>'
    )


def widget_html(model_id: str, data: Mapping[str, Any], states: Mapping[str, Any]) -> str:
    """Return a place where the page's host brings a widget to life; until then its still form."""
    still = {mime: value for mime, value in data.items() if mime != VIEW_MIME}
    shown = _still(still, {})
    if not can_live(states.get(model_id)):
        if "text/html" in still:
            why = "Still picture: the state of this view was not saved with the notebook."
            return f'{shown}<p class="left-out">{why}</p>'
        text = control_text(states, model_id)
        return f"<pre>{html.escape(text)}</pre>" if text else shown
    place = html.escape(model_id, quote=True)
    inner = f'<div class="slt-still">{shown}</div>'
    return f'<div class="slt-widget" data-slt-model="{place}">{inner}</div>'


def control_text(states: Mapping[str, Any], model_id: str) -> str:
    """Return what standard controls say, such as a progress bar's `100% 5/5 [00:01<00:00]`."""
    state = states.get(model_id, {}).get("state", {})
    children = state.get("children") or ()
    if children:
        texts = (control_text(states, ref) for child in children for ref in references(child))
        return " ".join(text for text in texts if text)
    value = state.get("value")
    return clean_text(value) if isinstance(value, str) else ""


def clean_text(value: str) -> str:
    """Return the text of a piece of HTML, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", value)).replace("\u2007", " ").split())


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, (list, tuple)) else str(value)
