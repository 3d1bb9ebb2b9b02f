"""A chart of the LDS of several attribution methods with their intervals."""

from typing import Any

import altair as alt
import numpy as np
import xarray as xr

from slt_notebook.errors import InputError, say
from slt_notebook.views.charts.altair_charts import themed


def lds_chart(found: xr.Dataset, *, width: int = 300, row: int = 15) -> Any:
    """Return a point and its interval for every method and subset fraction; the ceiling as a line.

    Args:
        found: What `slt.toys.lds` returns, or a selection of its methods.
        width: Of the chart, pixels.
        row: Height of a row, pixels.

    Returns:
        altair.Chart.

    Raises:
        InputError: A Dataset without `lds`, or with more than 200 points.
    """
    if "lds" not in found or not {"lower", "upper"} <= set(found.data_vars):
        raise InputError(
            say("a Dataset without lds and its interval", "one", "pass slt.toys.lds(...)")
        )
    columns = ["lds", "lower", "upper"]
    frame = found[columns].to_dataframe()[columns].reset_index()
    if len(frame) > 200:
        raise InputError(say(f"{len(frame)} points", "at most 200", "select fewer methods"))
    frame["subset"] = [f"{a:.0%} of the data" for a in frame["alpha"]]
    methods = [str(m) for m in found["attribution"].values]
    base = alt.Chart(frame).encode(
        y=alt.Y("attribution:N", sort=methods, title=None, axis=alt.Axis(labelLimit=320)),
        yOffset=alt.YOffset("subset:N"),
        color=alt.Color("subset:N", title="models trained on"),
    )
    tips = ["attribution:N", "subset:N", *(alt.Tooltip(f"{c}:Q", format=".3f") for c in columns)]
    bars = base.mark_rule(size=2).encode(
        x=alt.X("lower:Q", title="linear datamodeling score"), x2="upper:Q"
    )
    points = base.mark_point(filled=True, size=42).encode(
        x=alt.X("lds:Q"), shape=alt.Shape("subset:N", title="models trained on"), tooltip=tips
    )
    chart = alt.layer(bars, points).properties(width=width, height=3 * row * len(methods))
    ceiling = ", ".join(f"{v:.2f}" for v in found["ceiling"].values if np.isfinite(v))
    return themed(chart, f"LDS with 95 % intervals (ceiling {ceiling})")
