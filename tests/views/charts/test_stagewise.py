"""The view over training holds its tables, and the LDS chart says what it was given."""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.toys.hierarchy import Hierarchy
from slt_notebook.views.base.widget import unpack
from slt_notebook.views.charts.lds_chart import lds_chart


def tables():
    h = Hierarchy(steps=400)
    analytic = h.analytic()
    noisy = xr.Dataset({"influence": analytic * 1.1, "stderr": abs(analytic) / 5})
    return {"BIF": noisy, "analytic": analytic}


def test_tables_errors_and_stages_travel():
    given = tables()
    view = slt.InfluenceOverTraining(given, stages=[("first", 0, 170)], source="cat")
    data = unpack(view.payload, view.meta)
    np.testing.assert_allclose(
        data["v1"].reshape(21, 8, 8), given["analytic"].transpose("step", "example", "example_"),
        rtol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(data["e0"].reshape(21, 8, 8), given["BIF"].stderr, rtol=1e-6)
    assert "e1" not in data and view.source == 1 and view.meta["methods"][0]["error"]
    assert view.meta["stages"] == [{"name": "first", "from": 0.0, "to": 170.0}]
    assert "negative = helpful" in view.fallback() and "InfluenceOverTraining" in view.describe()


def test_groups_and_logarithmic_steps():
    value = xr.DataArray(
        np.zeros((3, 2, 2)),
        {"step": [0, 10, 20000], "group": ["a", "<b>"], "group_": ["a", "<b>"]},
        ("step", "group", "group_"),
    )
    view = slt.InfluenceOverTraining({"covariance": value}, units={"covariance": "nats²"})
    assert view.meta["log"] and view.meta["items"] == ["a", "<b>"]
    assert "&lt;b&gt;" in view.fallback()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: slt.InfluenceOverTraining({}), "no methods"),
        (lambda t: slt.InfluenceOverTraining({"a": t["analytic"][0]}), "dims"),
        (lambda t: slt.InfluenceOverTraining({**t, "c": t["analytic"][:4]}), "other steps"),
        (lambda t: slt.InfluenceOverTraining(t, source="wolf"), "wolf"),
        (lambda t: slt.InfluenceOverTraining(t, stage=[]), "did you mean 'stages'"),
        (lambda t: slt.InfluenceOverTraining({"a": xr.Dataset()}), "without influence"),
    ],
)
def test_mistakes_are_refused_in_words(call, words):
    with pytest.raises(slt.InputError, match=words):
        call(tables())


def test_the_lds_chart():
    found = xr.Dataset(
        {
            "lds": (("attribution", "alpha"), [[0.5, 0.6]]),
            "lower": (("attribution", "alpha"), [[0.4, 0.5]]),
            "upper": (("attribution", "alpha"), [[0.6, 0.7]]), "ceiling": ("alpha", [0.9, 0.8]),
        },
        {"attribution": ["BIF"], "alpha": [0.2, 0.5]},
    )  # fmt: skip
    spec = lds_chart(found).to_dict()
    assert "ceiling 0.90, 0.80" in spec["title"]
    rows = next(iter(spec["datasets"].values()))
    assert rows[1]["lds"] == 0.6 and rows[1]["subset"] == "50% of the data"
    with pytest.raises(slt.InputError, match="without lds"):
        lds_chart(found.drop_vars("lds"))
