"""Traces and verdicts without scripts: inline SVG and chips.

Mid-tone colours of their own, which read on a light and on a dark page; lines differ in dashes too.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from slt_notebook.views.base.fallback import esc, number

COLOURS = ("#2f6fd6", "#c8641b", "#2a8f5b", "#8a56c9", "#b3476b", "#2f8fa3", "#8c7a1f", "#6b6f7a")
DASHES = ("", "6 2", "2 2", "8 2 2 2", "10 3", "4 4", "1 3", "12 2 2 2 2 2")
INK = 'fill="currentColor" fill-opacity=".75" font-size="11" font-family="sans-serif"'

VERDICTS = {
    "ok": ("✓", "#1f7d4d"),
    "warn": ("!", "#b8560f"),
    "fail": ("✕", "#b3261e"),
    "unknown": ("?", "#6b6f7a"),
}
"""Mark and colour of each verdict: never the colour alone."""


def trace_svg(
    series: Sequence[tuple[str, np.ndarray, np.ndarray]],
    *,
    label: str,
    burnin: float | None = None,
    zero: bool = True,
    width: int = 640,
    height: int = 150,
) -> str:
    """Lines `(name, x, y)` over one pair of axes; NaN lifts the pen, the burn-in is shaded."""
    finite = [(x[np.isfinite(y)], y[np.isfinite(y)]) for _, x, y in series]
    finite = [(x, y) for x, y in finite if len(x)]
    if not finite:
        return f"<p>{esc(label)}: nothing finite to draw</p>"
    left, right, top, bottom = 56, width - 8, 8, height - 20
    x_range = (min(x.min() for x, _ in finite), max(x.max() for x, _ in finite))
    low, high = min(y.min() for _, y in finite), max(y.max() for _, y in finite)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    span = max(x_range[1] - x_range[0], 1e-12)
    to_x = lambda x: left + (x - x_range[0]) / span * (right - left)
    to_y = lambda y: bottom - (y - low) / (high - low) * (bottom - top)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{esc(label)}" style="max-width:100%;height:auto">'
    ]
    if burnin and burnin > x_range[0]:
        end = min(to_x(burnin), right)
        parts.append(
            f'<rect x="{left}" y="{top}" width="{end - left:.1f}" height="{bottom - top}" '
            'fill="currentColor" fill-opacity=".07"/>'
        )
    for value in {low, high, 0.0} if zero else {low, high}:
        parts.append(
            f'<line x1="{left}" x2="{right}" y1="{to_y(value):.1f}" y2="{to_y(value):.1f}" '
            f'stroke="currentColor" stroke-opacity="{".5" if value == 0 else ".15"}"/>'
        )
        parts.append(
            f'<text x="{left - 6}" y="{to_y(value) + 4:.1f}" text-anchor="end" {INK}>'
            f"{esc(number(float(value)))}</text>"
        )
    for at, anchor in ((x_range[0], "start"), (x_range[1], "end")):
        parts.append(
            f'<text x="{to_x(at):.1f}" y="{height - 5}" text-anchor="{anchor}" {INK}>'
            f"step {at:.0f}</text>"
        )
    for k, (name, x, y) in enumerate(series):
        parts.append(
            f'<path d="{_path(to_x(x), to_y(y))}" fill="none" stroke="{COLOURS[k % 8]}" '
            f'stroke-dasharray="{DASHES[k % 8]}"><title>{esc(name)}</title></path>'
        )
    return "".join(parts) + "</svg>"


def _path(x: np.ndarray, y: np.ndarray) -> str:
    text, down = [], False
    for a, b in zip(x, y, strict=True):
        if not np.isfinite(b):
            down = False
            continue
        text.append(f"{'L' if down else 'M'}{a:.1f} {b:.1f}")
        down = True
    return "".join(text)


def chip(name: str, value: str, verdict: str, do: str = "") -> str:
    """One check as a small labelled mark; what to do is its tooltip."""
    mark, colour = VERDICTS.get(verdict, VERDICTS["unknown"])
    return (
        f'<span title="{esc(do)}" style="display:inline-block;border:1px solid {colour};'
        f'border-radius:10px;padding:0 8px;margin:2px 4px 2px 0;font-size:12px">'
        f'<b style="color:{colour}">{mark}</b> {esc(name)} {esc(value)}</span>'
    )


def chips(badges: Sequence[Mapping[str, str]]) -> str:
    """Return checks `{name, value, verdict, meaning, do}` in a row."""
    row = "".join(
        chip(b["name"], b["value"], b["verdict"], b["do"] or b.get("meaning", "")) for b in badges
    )
    return f"<p>{row}</p>" if row else ""
