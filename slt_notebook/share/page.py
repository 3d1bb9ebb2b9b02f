"""Make one HTML file that shows live widgets with no kernel and no network.

The page holds everything: the styles, the data and modules of its widgets (each module once), and a
small host (widgets/src/host.ts).  Its Content-Security-Policy names that host by its hash: no other
script runs, and nothing is fetched from anywhere.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slt_notebook import __version__
from slt_notebook.errors import InputError, say
from slt_notebook.results.integrity.documents import seal_page
from slt_notebook.share import markdown, slim
from slt_notebook.share.bundles import BUILD_COMMAND, STATIC
from slt_notebook.share.clean import clean

_STYLE = Path(__file__).with_name("page.css")
_HEADING = re.compile(r"<h1[^>]*>(.*?)</h1>", re.DOTALL)
_TAGS = re.compile(r"<[^>]+>")


def host_script() -> str:
    """Return the page's only script.  Errors: InputError the front end is not built."""
    path = STATIC / "host.js"
    if not path.is_file():
        raise InputError(
            say("no slt_notebook/static/host.js", "the built front end", f"run: {BUILD_COMMAND}")
        )
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")


def assemble(
    body: str, data: Mapping[str, Any], title: str | None = None, code: bool = False
) -> str:
    """Return a whole page around `body`, which must be clean already.

    Args:
        body: HTML in which `data-slt-model` marks the places of widgets.
        data: `slim.page_data(...)`.
        title: else the first heading of the body.
        code: show a button that hides the code.
    """
    script = host_script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}' blob:; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    heading = _HEADING.search(body)
    found = title or (html.unescape(_TAGS.sub("", heading[1])).strip() if heading else "")
    name = html.escape(found or "slt-notebook")
    hide = "<button type='button' data-slt-code-toggle aria-pressed='false'>Hide code</button>"
    models = len(re.findall(r"data-slt-model=", body))
    views = f"{models} interactive view{'' if models == 1 else 's'}, " if models else ""
    page = f"""<!DOCTYPE html>
<html lang="en" data-slt-page="2">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="slt-notebook {__version__}">
<meta name="slt-digest" content="">
<meta name="color-scheme" content="light dark">
<title>{name}</title>
<style>{_STYLE.read_text(encoding="utf-8")}</style>
<script type="application/json" id="slt-page-data">{slim.embed_json(data)}</script>
</head>
<body>
<header class="page-bar">{hide if code else ""}
<button type="button" data-slt-theme-toggle>Theme: auto</button></header>
<noscript><p class="left-out">Scripts are off: the views are shown as still pictures.</p></noscript>
<main>
{body}
</main>
<footer>Made with slt-notebook {__version__}. {views}nothing is loaded from elsewhere.</footer>
<script type="module">{script}</script>
</body>
</html>
"""
    # A token can hold half of a surrogate pair; a file cannot.
    return seal_page(page.encode("utf-8", "replace").decode("utf-8"))


def widgets_page(
    widgets: Sequence[Any] | Any,
    title: str | None = None,
    notes: Iterable[str] = (),
) -> str:
    """Return a page straight from widget objects, without a notebook.

    Args:
        widgets: a widget, or a list of parts in the page's order. A part is a widget,
            `("markdown", text)` for prose (formulas between dollar signs), or `("html", text)` for
            HTML, from which scripts and remote addresses are taken out. An object with
            `_repr_html_`, and an Altair chart, is shown too.
        title: of the window; else the first heading.
        notes: Markdown paragraphs under the widgets.

    Returns:
        The page as one string.

    Raises:
        InputError: A part of another kind, or the front end is not built.
    """
    parts = (
        list(widgets) if isinstance(widgets, (list, tuple)) and not _is_pair(widgets) else [widgets]
    )
    parts += [("markdown", note) for note in notes]
    live: list[Any] = [part for part in parts if _is_widget(part)]
    states: dict[str, Any] = {}
    if live:
        from ipywidgets.embed import dependency_state

        # Only what these widgets need; with the defaults, which the browser does not know.
        states = dependency_state(live, drop_defaults=False)
    body = "\n".join(_part(part, states) for part in parts)
    if title and not _HEADING.search(body):
        body = f"<h1>{html.escape(title)}</h1>\n{body}"
    return assemble(body, slim.page_data(states, [w.model_id for w in live]), title)


def _is_widget(part: Any) -> bool:
    return hasattr(part, "model_id") and hasattr(part, "get_state")


def _is_pair(part: Any) -> bool:
    return isinstance(part, tuple) and len(part) == 2 and part[0] in ("markdown", "html")


def _part(part: Any, states: Mapping[str, Any]) -> str:
    from slt_notebook.share.cells import data_html, widget_html

    if _is_widget(part):
        found = part._repr_mimebundle_() or ({}, {})
        data = dict(found[0] if isinstance(found, tuple) else found)
        return f'<div class="output">{widget_html(part.model_id, data, states)}</div>'
    if _is_pair(part):
        kind, text = part
        if kind == "markdown":
            return f'<div class="prose">{markdown.render(text)}</div>'
        return clean(text)
    if hasattr(part, "to_dict") and "altair" in type(part).__module__:
        from slt_notebook.share.vega import chart_html

        return f'<div class="output">{chart_html(part.to_dict())}</div>'
    if hasattr(part, "_repr_html_"):
        return f'<div class="output">{data_html({"text/html": part._repr_html_()}, {}, {})}</div>'
    raise InputError(
        say(
            f"a part of type {type(part).__name__}",
            'a widget, ("markdown", text), ("html", text), or an object with _repr_html_',
            "wrap text as a pair",
        )
    )
