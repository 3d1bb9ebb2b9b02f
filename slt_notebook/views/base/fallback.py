"""Views without scripts: tokens, tables and notes as escaped, inline HTML.

Shown by JupyterLab for a notebook that is not trusted, by stock nbconvert, by mail clients.  Every
string from data goes through `esc`; colours are inline styles, because such readers drop <style>.
"""

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")

POSITIVE = (214, 111, 28)
NEGATIVE = (38, 104, 200)


def esc(text: Any) -> str:
    """Text for HTML: escaped, and without the characters that reorder or break a page.

    >>> esc("<img src=x onerror=alert(1)>")
    '&lt;img src=x onerror=alert(1)&gt;'
    """
    return html.escape(_UNPRINTABLE.sub("\ufffd", str(text)), quote=True)


def number(x: float, signed: bool = False) -> str:
    """Three significant digits, a real minus; `no value` for NaN.

    >>> number(-0.012345), number(0.5, signed=True)
    ('−0.0123', '+0.5')
    """
    if x is None or math.isnan(x):
        return "no value"
    text = f"{abs(x):.3g}"
    return ("−" if x < 0 else "+" if signed and x > 0 else "") + text


def background(value: float, limit: float, sure: bool = True) -> str:
    """Inline style of a cell: translucent, so that it reads on a light and on a dark page."""
    if not math.isfinite(value) or not limit or not sure:
        return ""
    share = min(1.0, abs(value) / limit)
    if share < 0.05:
        return ""
    r, g, b = NEGATIVE if value < 0 else POSITIVE
    return f"background:rgba({r},{g},{b},{0.55 * share:.2f})"


def tokens(
    texts: Sequence[str],
    values: Sequence[float] | np.ndarray,
    limit: float,
    *,
    sure: Sequence[bool] | np.ndarray | None = None,
    first: str | None = None,
    marks: Sequence[str] | None = None,
) -> str:
    """One example as a paragraph of coloured spans; `first` is its unpredicted first token.

    `marks[k]` (such as "1,3": numbers of notes) is put after token k as a superscript.
    """
    parts = [f'<span style="opacity:.6">{esc(first)}</span>'] if first else []
    for k, (text, value) in enumerate(zip(texts, values, strict=True)):
        style = background(float(value), limit, sure is None or bool(sure[k]))
        parts.append(f'<span style="{style}">{esc(text)}</span>' if style else esc(text))
        if marks is not None and marks[k]:
            parts.append(f"<sup>[{esc(marks[k])}]</sup>")
    return (
        '<p style="white-space:pre-wrap;font-family:monospace;line-height:1.7;margin:4px 0">'
        + "".join(parts)
        + "</p>"
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a real table; cells are escaped."""
    cells = "".join(
        "<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    titles = "".join(f'<th scope="col">{esc(title)}</th>' for title in head)
    return (
        f"<table><caption>{esc(caption)}</caption><thead><tr>{titles}</tr></thead>"
        f"<tbody>{cells}</tbody></table>"
    )


def notes_list(items: Sequence[tuple[str, str, str]]) -> str:
    """Return notes as an ordered list of (where, author, text)."""
    if not items:
        return ""
    rows = "".join(
        f"<li><cite>{esc(where)}</cite> {esc(text)}"
        + (f" <small>{esc(author)}</small>" if author else "")
        + "</li>"
        for where, author, text in items
    )
    return f"<p><strong>Notes</strong></p><ol>{rows}</ol>"


def page(title: str, parts: Iterable[str], limit: int) -> str:
    """Return the parts under a heading, those that fit in `limit` bytes; says how many do not."""
    found = [f"<p><strong>{esc(title)}</strong></p>"]
    size = len(found[0])
    dropped = 0
    for part in parts:
        size += len(part.encode())
        if size > limit - 300:
            dropped += 1
        else:
            found.append(part)
    if dropped:
        found.append(f"<p>{dropped} more parts are left out here; run the cell to see them.</p>")
    return "<div>" + "".join(found) + "</div>"
