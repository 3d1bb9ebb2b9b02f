"""Altair charts with one theme, for papers.

For publication and comparison; what needs a pointer is a widget.  At most 5,000 rows a chart, so
that a notebook stays small and Altair's own limit is kept.
"""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.llc.llc import chain_llc
from slt_notebook.results.result import resolve
from slt_notebook.views.base.static_svg import COLOURS
from slt_notebook.views.charts.traces import chain_rows, decimate, gains

ROWS = 5000
"""Rows a chart may carry."""


def themed(chart: alt.TopLevelMixin, title: str = "") -> Any:
    """Return the look of every chart of the kit: quiet grid, readable on light and dark pages.

    Set on the chart itself: nothing global changes.
    """
    return (
        chart.properties(title=title)
        .configure(background="transparent", font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            gridColor="#888", gridOpacity=0.25, domainColor="#888", tickColor="#888",
            labelFontSize=11, titleFontSize=12, titleFontWeight="normal", labelOverlap=True,
        )
        .configure_title(anchor="start", fontSize=14, fontWeight=600)
        .configure_range(category=list(COLOURS))
        .configure_legend(titleFontWeight="normal")
    )  # fmt: skip


def llc_chart(found: xr.Dataset, *, width: int = 420, height: int = 220) -> Any:
    """Return the LLC with its interval.

    Args:
        found: what `slt.llc` returns; or several joined along one dim, such as `component`, by
            `xr.concat`: then one point with its interval for each.
        width: Of the chart, pixels.
        height: Of the chart, pixels.

    Returns:
        altair.Chart: of one run, a point a chain and the pooled mean with its interval.

    Raises:
        InputError: A Dataset without `mean`, or with more than 5,000 entries.
    """
    if not {"mean", "interval"} <= set(found.data_vars):
        raise InputError(
            say(f"a Dataset with {', '.join(map(str, found.data_vars))}", "slt.llc(run)", "pass it")
        )
    dims = found["mean"].dims
    if len(dims) > 1:
        raise InputError(say(f"mean with dims {dims}", "at most one", "select or stack the rest"))
    by = str(dims[0]) if dims else ""
    if by:
        bounds = {b: found["interval"].sel(bound=b).values for b in ("lower", "upper")}
        frame = pd.DataFrame({by: _labels(found, by), "LLC": found["mean"].values, **bounds})
        return _intervals(_few(frame), by, width, height)
    of = [f"chain {label}" for label in _labels(found, names.CHAIN)]
    chains = pd.DataFrame({"of": of, "LLC": chain_llc(found).values})
    low, high = (float(found["interval"].sel(bound=b)) for b in ("lower", "upper"))
    pooled = pd.DataFrame(
        {"of": ["all chains"], "LLC": [float(found["mean"])], "lower": [low], "upper": [high]}
    )
    return _intervals(_few(pd.concat([pooled, chains])), "of", width, height)


def _intervals(frame: pd.DataFrame, by: str, width: int, height: int) -> Any:
    x = alt.X("LLC:Q", title="local learning coefficient", scale=alt.Scale(zero=False))
    base = alt.Chart(frame).encode(y=alt.Y(f"{by}:N", sort=None, title=None))
    tips = [f"{by}:N", alt.Tooltip("LLC:Q", format=".4g")]
    tips += [alt.Tooltip(f"{bound}:Q", format=".4g") for bound in ("lower", "upper")]
    bars = base.mark_rule(size=2, color=COLOURS[0]).encode(
        x=alt.X("lower:Q", title="local learning coefficient"), x2="upper:Q"
    )
    points = base.mark_point(filled=True, size=60, color=COLOURS[0]).encode(x=x, tooltip=tips)
    chart = alt.layer(bars, points).properties(width=width, height=height)
    return themed(chart, "Local learning coefficient, 95 % interval")


def trace_chart(run: Any, *, burnin: int | None = None, width: int = 560, height: int = 220) -> Any:
    """Loss of each batch minus the loss of the same batch at w*, per chain, over steps.

    Args:
        run: a run, or its group `sampling`.
        burnin: where the rule is drawn, in steps; the run's own if None.
        width: Of the chart, pixels.
        height: Of the chart, pixels.

    Returns:
        altair.Chart. Runs of more steps are drawn as means of blocks of steps, 5,000 rows in all.
    """
    result = resolve(run)
    data = result.sampling
    start = int(data.attrs.get(names.A_BURNIN, 0)) if burnin is None else int(burnin)
    chains = chain_rows(result)
    blocks = decimate(gains(data), start, limit=max(10, ROWS // len(chains) - 2))
    middle = (blocks["edges"][:-1] + blocks["edges"][1:] - 1) / 2
    frame = pd.DataFrame(
        {
            "step": np.tile(middle, len(chains)),
            "chain": np.repeat([row["label"] for row in chains], len(middle)),
            "rise": blocks["mean"].ravel().astype(float),
        }
    ).dropna()
    lines = (
        alt.Chart(_few(frame))
        .mark_line(strokeWidth=1)
        .encode(
            x=alt.X("step:Q"),
            y=alt.Y("rise:Q", title="batch loss minus its loss at w*"),
            color=alt.Color("chain:N", sort=None, title=None),
            strokeDash=alt.StrokeDash("chain:N", sort=None, title=None),
            tooltip=["chain:N", "step:Q", alt.Tooltip("rise:Q", format=".4g")],
        )
    )
    marks = pd.DataFrame({"step": [start], "what": ["burn-in"]})
    rule = alt.Chart(marks).mark_rule(strokeDash=[4, 4], color="#888").encode(x="step:Q")
    zero = alt.Chart(pd.DataFrame({"rise": [0.0]})).mark_rule(color="#888").encode(y="rise:Q")
    chart = alt.layer(zero, lines, rule).properties(width=width, height=height)
    return themed(chart, "Traces after the start at w*")


def _labels(found: xr.Dataset, dim: str) -> list[str]:
    return [str(v) for v in (found[dim].values if dim in found.coords else range(found.sizes[dim]))]


def _few(frame: pd.DataFrame) -> pd.DataFrame:
    if len(frame) > ROWS:
        raise InputError(
            say(f"{len(frame)} rows", f"at most {ROWS}", "select fewer, or use slt.TraceView")
        )
    return frame


def curve_chart(
    curve: xr.Dataset, *, stages: xr.Dataset | None = None, width: int = 520, height: int = 260
) -> Any:
    """Refined LLCs over training: a line a component with its 95 % interval, on log time.

    Args:
        curve: what `slt.refined_llc` returns for a sweep over checkpoints.
        stages: what `slt.stages` returns: a rule at every boundary, dashed where it may be noise.
        width: Of the chart, pixels.
        height: Of the chart, pixels.

    Returns:
        altair.Chart; a click on the legend brings one component forward.

    Raises:
        InputError: A curve without training steps.
    """
    if names.TRAINING_STEP not in curve.coords or "llc" not in curve:
        raise InputError(
            say("a curve without training steps", "slt.refined_llc of checkpoints", "pass it")
        )
    table = curve[["llc", "mcse"]].to_dataframe().reset_index()
    table = table.loc[table[names.TRAINING_STEP] > 0].copy()
    table["lower"], table["upper"] = (table["llc"] + s * 1.96 * table["mcse"] for s in (-1, 1))
    columns = ["component", names.TRAINING_STEP, "llc", "lower", "upper"]
    frame = _few(pd.DataFrame({name: table[name] for name in columns}))
    chosen = alt.selection_point(fields=["component"], bind="legend")
    x = alt.X(f"{names.TRAINING_STEP}:Q", title="training step", scale=alt.Scale(type="log"))
    base = alt.Chart(frame).encode(
        x=x,
        color=alt.Color("component:N", sort=None, title=None),
        opacity=alt.condition(chosen, alt.value(1), alt.value(0.12)),
    )
    lines = base.mark_line(point=True).encode(
        y=alt.Y("llc:Q", title="refined LLC", scale=alt.Scale(zero=False)),
        strokeDash=alt.StrokeDash("component:N", sort=None, title=None),
        tooltip=["component:N", f"{names.TRAINING_STEP}:Q", alt.Tooltip("llc:Q", format=".3g")],
    )
    bars = base.mark_rule().encode(y="lower:Q", y2="upper:Q")
    layers = [bars, lines.add_params(chosen)]
    if stages is not None and stages.sizes.get("boundary", 0):
        rows = stages[["step", "kind", "sure"]].to_dataframe()
        dash = alt.condition("datum.sure", alt.value([1, 0]), alt.value([4, 4]))
        tips = ["kind:N", "sure:N", alt.Tooltip("step:Q", format=".0f")]
        marks = alt.Chart(rows).mark_rule(color="#888")
        rule = marks.encode(x="step:Q", strokeDash=dash, tooltip=tips)
        layers.append(rule)
    return themed(
        alt.layer(*layers).properties(width=width, height=height), "Refined LLC over training"
    )
