"""ClusterBrowser and StageCurves: what travels to the page, what stays without scripts, errors."""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.views.base.widget import unpack
from tests.estimators.components.test_structure import planted

K = {"k": 15, "smallest": 20, "conductance": 0.4}


def found():
    chi, _ = planted()
    rng = np.random.default_rng(1)
    shuffled = chi.copy()
    flat = chi["chi"].values.reshape(chi.sizes["component"], -1)
    shuffled["chi"] = chi["chi"].copy(data=flat[:, rng.permutation(flat.shape[1])].reshape(
        chi["chi"].shape))  # fmt: skip
    return chi, shuffled, slt.clusters(chi, **K)


def browser():
    chi, shuffled, clusters = found()
    same = slt.conductance(clusters, shuffled)
    view = slt.ClusterBrowser(
        clusters, controls={"shuffled": slt.clusters(shuffled, **K)}, same={"shuffled": same}
    )
    return view, chi, clusters, same


def test_the_browser_holds_every_token_and_its_controls():
    view, _, clusters, same = browser()
    data = unpack(view.payload, view.meta)
    count = clusters.sizes["cluster_id"]
    assert count >= 2
    np.testing.assert_array_equal(data["cluster"], clusters["cluster"].values.ravel())
    names = [c["name"] for c in view.meta["columns"]]
    assert names == ["tokens", "Φ", "Φ shuffled", "entropy"]
    for c, row in enumerate(view.meta["rows"]):
        assert row["values"][0] == (data["cluster"] == c).sum()
        assert row["values"][2] == pytest.approx(float(same[c]))
    assert [r["name"] for r in view.meta["summary"]] == ["this run", "shuffled"]
    assert "ClusterBrowser" in view.describe() and "Φ shuffled" in view.fallback()


def test_text_labels_and_padding_travel():
    _, _, clusters = found()
    shape = clusters["cluster"].shape
    text = np.full(shape, "w", object)
    last = np.argwhere(clusters["cluster"].values < 0)
    pad = tuple(last[0]) if len(last) else None
    if pad is not None:
        text[pad] = ""
    clusters = clusters.assign_coords(
        token_text=(("example", "token"), text.astype(str)),
        label=("example", [f"d{i}" for i in range(shape[0])]),
    )
    view = slt.view(clusters)
    data = unpack(view.payload, view.meta)
    assert data["labels"][1] == "d1"
    assert len(data["text"]) == text.size - (pad is not None)
    assert "control" in view.meta["notes"][0]


def curve():
    step = np.array([0, 1, 10, 100, 1000])
    value = np.array([[0, 0, 1, 2, 1], [5, 5, 5, 6, 9]], float).T
    return xr.Dataset(
        {
            "llc": (("checkpoint", "component"), value),
            "mcse": (("checkpoint", "component"), np.full((5, 2), 0.1)),
        },
        {
            "checkpoint": [f"step{s}" for s in step],
            "component": ["l0.h0", "l1.h0"],
            "training_step": ("checkpoint", step),
        },
    )


def test_lines_stand_at_the_stages_and_the_table_follows_them():
    one = curve()
    stages = slt.stages(one, component="l0.h0", smooth=0)
    view = slt.StageCurves(one, stages=stages)
    assert view.lines == pytest.approx(stages["step"].values) and len(view.lines) == 1
    assert unpack(view.payload, view.meta)["step"].tolist() == [1, 10, 100, 1000]
    view.lines = [100.0]
    change = view.change()
    np.testing.assert_allclose(change["change"], [[2, 1], [-1, 3]], atol=1e-12)
    np.testing.assert_allclose(change["stderr"], np.sqrt(2) * 0.1)
    view.lines = [float(np.sqrt(10))]  # half way in log time
    change = view.change()
    np.testing.assert_allclose(change["change"][0], [0.5, 0], atol=1e-12)
    np.testing.assert_allclose(change["stderr"][0], 0.1 * np.sqrt(0.5), rtol=1e-6)
    assert "l1.h0" in view.fallback() and "lines at 3" in view.describe()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slt.ClusterBrowser(curve()), "slt.clusters"),
        (lambda: slt.ClusterBrowser(found()[2], colour=1), "colour"),
        (
            lambda: slt.ClusterBrowser(
                found()[2], same={"x": xr.DataArray(np.zeros(99), dims="cluster_id")}
            ),
            "other clusters",
        ),
        (lambda: slt.StageCurves(curve().drop_vars("training_step")), "training steps"),
        (lambda: slt.StageCurves(curve().isel(checkpoint=[0, 1])), "two or more"),
        (lambda: slt.StageCurves(curve().expand_dims(dataset=["a"])), "select the rest"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(slt.InputError, match=message):
        call()
