"""A chart of several kernels by the depth of the common ancestor, side by side."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from slt_notebook.errors import InputError, say
from slt_notebook.views.charts.altair_charts import themed


def depth_chart(tables: Mapping[str, pd.DataFrame], *, width: int = 190, height: int = 150) -> Any:
    """Return a panel for every kernel: mean entry by depth, with its 95 % interval.

    Args:
        tables: kernel's name to what `slt.by_depth` returns.  Panels have their own scales, since
            a cosine of activations and a correlation of losses are not in one unit.
        width: Of a panel, pixels.
        height: Of a panel, pixels.

    Returns:
        altair.Chart.  The size of a point is the number of its pairs; one without an interval has
        no stated error.

    Raises:
        InputError: No table, or tables that are not of `slt.by_depth`.
    """
    wanted = {"mean", "stderr", "pairs"}
    wrong = [name for name, t in tables.items() if not wanted <= set(t.columns)]
    if not tables or wrong:
        got = f"a table without mean, stderr and pairs: {wrong}" if wrong else "no table"
        raise InputError(say(got, "a table for each kernel", "pass {name: slt.by_depth(...)}"))
    parts = [t.rename_axis("depth").reset_index().assign(kernel=n) for n, t in tables.items()]
    frame = pd.concat(parts, ignore_index=True)
    reach = 1.96 * frame["stderr"]
    frame["lower"], frame["upper"] = frame["mean"] - reach, frame["mean"] + reach
    frame["95 %"] = [
        f"{a:.3f} to {b:.3f}" if np.isfinite(a) else "not stated"
        for a, b in zip(frame["lower"], frame["upper"], strict=True)
    ]
    panels = []
    for name in tables:
        base = alt.Chart(frame[frame["kernel"] == name]).encode(
            x=alt.X("depth:Q", title="depth of the common ancestor", axis=alt.Axis(tickMinStep=1))
        )
        tips = ["depth:Q", alt.Tooltip("mean:Q", format=".3f"), "95 %:N", "pairs:Q"]
        bars = base.mark_rule(size=2).encode(y="lower:Q", y2="upper:Q")
        line = base.mark_line(size=1, opacity=0.5).encode(y="mean:Q")
        points = base.mark_point(filled=True).encode(
            y=alt.Y("mean:Q", title="mean entry", scale=alt.Scale(zero=True)),
            size=alt.Size("pairs:Q", title="pairs", scale=alt.Scale(range=[15, 120])),
            tooltip=tips,
        )
        panels.append(
            alt.layer(line, bars, points).properties(width=width, height=height, title=name)
        )
    return themed(alt.concat(*panels, columns=2), "Mean entry by depth of the common ancestor")
