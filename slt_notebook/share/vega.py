"""An Altair chart without Vega: inline SVG and a table.

The marks keep their accessible labels, which become tooltips; the data stand below in a table and
as a CSV file inside the page.
"""

import base64
import csv
import html
import io
import json
import re
from collections.abc import Mapping
from typing import Any

from slt_notebook.share.clean import clean

ROWS = 200
"""Rows that the table under a chart shows; the CSV file holds all of them."""

_MIME = re.compile(r"^application/vnd\.vegalite\.v\d+([.\d]*)\+json$")
_CALL = re.compile(r"\}\)\(\s*(?=\{)")
_LABELLED = re.compile(
    r'<(path|text|line|rect)( aria-label="([^"]*)" role="graphics-symbol"[^>]*?)/>'
)
_INKS = {
    'fill="#000"': 'fill="currentColor"',
    'fill="black"': 'fill="currentColor"',
    'stroke="#888"': 'stroke="currentColor" stroke-opacity=".5"',
    'stroke="#ddd"': 'stroke="currentColor" stroke-opacity=".15"',
    'stroke="black"': 'stroke="currentColor"',
}


def find_spec(data: Mapping[str, Any]) -> dict | None:
    """Return the Vega-Lite specification in a mimebundle: its own MIME type, or Altair's HTML."""
    for mime, value in data.items():
        if _MIME.match(mime) and isinstance(value, Mapping):
            return dict(value)
    page = data.get("text/html", "")
    if isinstance(page, str) and "vegaEmbed" in page:
        for call in _CALL.finditer(page):
            try:
                spec, _ = json.JSONDecoder().raw_decode(page, call.end())
            except ValueError:
                continue
            if isinstance(spec, dict) and "vega-lite" in str(spec.get("$schema", "")):
                return spec
    return None


def _version(spec: Mapping[str, Any]) -> str | None:
    """Return the newest version known to the converter that has the same major number."""
    import vl_convert

    asked = re.search(r"/v(\d+)", str(spec.get("$schema", "")))
    known = vl_convert.get_vegalite_versions()
    fitting = [v for v in known if asked and v.split(".")[0] == asked.group(1)]
    return max(fitting, key=lambda v: [int(part) for part in v.split(".")], default=None)


def svg(spec: Mapping[str, Any]) -> str:
    """Return the chart as inline SVG that takes the page's text colour, its marks with tooltips."""
    import vl_convert

    plain = {"background": "transparent", **spec}
    picture = vl_convert.vegalite_to_svg(plain, vl_version=_version(spec), allowed_base_urls=[])
    for ink, themed in _INKS.items():
        picture = picture.replace(ink, themed)
    return clean(_LABELLED.sub(r"<\1\2><title>\3</title></\1>", picture))


def rows_of(spec: Mapping[str, Any]) -> list[dict]:
    """Return the rows of the chart's largest inline dataset; layers of rules carry small ones."""
    inline = spec.get("data")
    found = [inline.get("values")] if isinstance(inline, Mapping) else []
    found += list((spec.get("datasets") or {}).values())
    tables = [values for values in found if isinstance(values, list)]
    return [dict(row) for row in max(tables, key=len, default=[]) if isinstance(row, Mapping)]


def _data(rows: list[dict]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    link = "data:text/csv;base64," + base64.b64encode(text.getvalue().encode()).decode()
    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(name, ''))}</td>" for name in names) + "</tr>"
        for row in rows[:ROWS]
    )
    shown = f"first {ROWS} of {len(rows)} rows" if len(rows) > ROWS else f"{len(rows)} rows"
    return (
        f"<details class='data'><summary>Data ({shown})</summary>"
        f'<p><a download="chart.csv" href="{link}">All rows as CSV</a></p>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _cell(value: Any) -> str:
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))


def chart_html(spec: Mapping[str, Any]) -> str:
    """Return a figure with the picture, and the data below it."""
    try:
        picture = svg(spec)
    except (ImportError, ValueError) as error:
        reason = html.escape(
            str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        )
        picture = f'<p class="left-out">[this chart could not be drawn: {reason}]</p>'
    return f'<figure class="chart">{picture}{_data(rows_of(spec))}</figure>'
