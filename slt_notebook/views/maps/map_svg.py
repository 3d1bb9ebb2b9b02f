"""The map of an `EmbeddingMap` without scripts: inline SVG."""

import numpy as np

from slt_notebook.views.base import fallback
from slt_notebook.views.base.static_svg import COLOURS

SHOWN = 3000  # points in the picture without scripts


def map_svg(xy: np.ndarray, values: np.ndarray, label: str) -> str:
    """Return the map as inline SVG; of many points an even part."""
    every = max(1, len(xy) // SHOWN)
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
