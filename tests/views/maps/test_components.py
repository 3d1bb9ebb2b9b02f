"""ComponentGrid and component_strip: what stands where, what is refused, what remains of them."""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.views.base.widget import unpack
from tests.estimators.components.test_structure import planted

NAMES = ["full", "embed", *(f"l{i}.h{j}" for i in (0, 1) for j in (0, 1, 10)), "l1.mlp"]


def values(**coords):
    rng = np.random.default_rng(0)
    return xr.DataArray(
        rng.standard_normal(len(NAMES)), {"component": NAMES}, ("component",), "llc"
    )


def cells(view):
    return unpack(view.payload, view.meta)["cells"]


def test_layers_by_heads_and_the_others_apart():
    array = values()
    view = slt.ComponentGrid(array, error=abs(array) / 3)
    data = unpack(view.payload, view.meta)
    assert view.meta["rows"] == ["l0", "l1", "other"]
    assert view.meta["columns"] == ["h0", "h1", "h10", "mlp"]
    for k, cell in enumerate(data["cells"]):
        expected = float(array.sel(component=cell["component"]))
        assert data["value0"][k] == pytest.approx(expected, rel=1e-6)
        assert data["error0"][k] == pytest.approx(abs(expected) / 3, rel=1e-6)
        if "." in cell["component"]:
            row, column = cell["component"].split(".")
            assert view.meta["rows"][cell["row"]] == row
            assert view.meta["columns"][cell["column"]] == column
    assert {c["short"] for c in data["cells"] if c["row"] == 2} == {"full", "embed"}
    assert "l1.h10" in view.describe() + view.fallback()


def test_a_heatmap_leads_to_the_token_behind_a_cell():
    chi, _ = planted()
    label = ("example", ["a"] * 6 + ["b"] * 6)
    chi = chi.assign_coords(label=label)
    by = slt.dataset_susceptibility(chi.assign(stderr=chi["chi"] * 0 + 1))
    view = slt.ComponentGrid(by[["chi", "stderr"]], tokens=chi["chi"])
    assert view.meta["corner"] == "dataset / component"
    for cell in cells(view):
        row = view.meta["rows"][cell["row"]]
        one = abs(chi["chi"].sel(component=cell["component"]).where(chi["label"] == row))
        at = cell["place"]
        assert float(one.sel(example=at["example"], token=at["token"])) == float(one.max())


def test_what_does_not_repeat_itself_is_muted():
    weak = xr.DataArray([0.4] * 4 + [0.9] * 5, {"component": NAMES}, ("component",))
    view = slt.ComponentGrid(values(), reliability=weak)
    assert {c["component"] for c in cells(view) if c["muted"]} == set(NAMES[:4])


def test_a_strip_with_a_picker_of_components():
    chi, _ = planted()
    chi = chi.assign(stderr=chi["chi"] * 0 + 0.5)
    view = slt.component_strip(chi, difference=("l0.h1", "l0.h2"))
    metrics = view.meta["metrics"]
    assert [m["component"] for m in metrics] == ["", *(f"l0.h{i}" for i in range(6))]
    data = unpack(view.payload, view.meta)
    a, b = (chi["chi"].sel(component=f"l0.h{i}").values.ravel() for i in (1, 2))
    np.testing.assert_allclose(data["value0"], (a - b).astype("f4"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(data["error0"], np.sqrt(0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slt.ComponentGrid(values().rename(component="x")), "over component"),
        (lambda: slt.ComponentGrid(np.zeros(3)), "over component"),
        (lambda: slt.ComponentGrid(values(), scale="log"), "diverging"),
        (lambda: slt.ComponentGrid(values(), colour=1), "colour"),
        (lambda: slt.ComponentGrid(values(), focus=3), "Focus"),
        (lambda: slt.component_strip(planted()[0], difference=("l0.h1", "l9")), "l9"),
        (lambda: slt.component_strip(values().to_dataset()), "by token"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(slt.InputError, match=message):
        call()
