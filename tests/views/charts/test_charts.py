"""The charts show the estimates, keep within 5,000 rows, and leave Altair as it was."""

import altair as alt
import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.errors import InputError
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.views.charts.altair_charts import ROWS, llc_chart, trace_chart
from tests.cases import synthetic_tree


def rows(chart):
    return max((v for v in chart.to_dict()["datasets"].values()), key=len)


def test_llc_chart_of_one_run():
    found = llc(synthetic_tree())
    data = rows(llc_chart(found))
    assert [r["of"] for r in data] == ["all chains", *(f"chain {k}" for k in range(4))]
    assert data[0]["LLC"] == float(found["mean"])
    assert data[0]["lower"] == float(found["interval"][0])
    assert data[3]["LLC"] == float(found["llc_chain"][2])


def test_llc_chart_over_components():
    parts = [llc(synthetic_tree(seed=k)) for k in range(3)]
    found = xr.concat(parts, "component", data_vars="all", combine_attrs="drop").assign_coords(
        component=["a", "b", "c"]
    )
    data = rows(llc_chart(found))
    assert [r["component"] for r in data] == ["a", "b", "c"]
    assert data[1]["upper"] == float(parts[1]["interval"][1])


@pytest.mark.parametrize("steps", [30, 3000])
def test_trace_chart_stays_small(steps):
    tree = synthetic_tree(chains=7, draws=steps, thin=1)
    data = rows(trace_chart(tree))
    assert len(data) <= ROWS
    assert {r["chain"] for r in data} == {f"chain {k}" for k in range(7)}


def test_nothing_global_changes():
    before = alt.theme.active
    chart = trace_chart(synthetic_tree())
    assert alt.theme.active == before
    assert chart.to_dict()["config"]["background"] == "transparent"


def test_bad_input_is_refused():
    with pytest.raises(InputError, match=r"slt\.llc"):
        llc_chart(xr.Dataset({"a": 1}))
    found = llc(synthetic_tree())
    grid = found.expand_dims(a=2, b=3)
    with pytest.raises(InputError, match="at most one"):
        llc_chart(grid)


def test_depth_chart_has_a_panel_a_kernel_and_says_what_has_no_error():
    depth = np.array([[3, 2, 1, 1], [2, 3, 1, 1], [1, 1, 3, 2], [1, 1, 2, 3]])
    found = slt.by_depth(np.where(depth == 2, 0.5, 0.1), depth)
    chart = slt.depth_chart({"a": found, "b": found}).to_dict()
    assert [panel["title"] for panel in chart["concat"]] == ["a", "b"]
    rows = [r for d in chart["datasets"].values() for r in d]
    assert {r["mean"] for r in rows if r["depth"] == 2} == {0.5}
    assert {r["95 %"] for r in rows if r["depth"] == 1} == {"0.100 to 0.100"}
    with pytest.raises(slt.InputError, match="no table"):
        slt.depth_chart({})
    with pytest.raises(slt.InputError, match=r"\['c'\]"):
        slt.depth_chart({"c": found[["mean"]]})
