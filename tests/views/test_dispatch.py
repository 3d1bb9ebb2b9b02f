"""`slt.view` chooses the view that fits."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.views.dispatch import VIEWS, Views, kind_of, maker
from slt_notebook.views.old_kinds import infer_kind
from tests.cases import synthetic_tree
from tests.cases_bench import benchmark, evidence
from tests.views.text.test_clusters import found as clusters


def test_a_run_gives_linked_views():
    views = slt.view(synthetic_tree())
    assert isinstance(views, Views)
    assert [type(v).__name__ for v in views] == ["TraceView", "TokenStrip", "InfluenceExplorer"]
    assert all(v.focus is views.focus for v in views)
    assert views[1].notes is views[2].notes is views.notes
    assert "TokenStrip" in repr(views) and len(views) == 3


def test_a_handle_is_taken_for_its_tree():
    class Handle:
        tree = synthetic_tree()

    assert len(slt.view(Handle())) == 3


def test_data_gives_the_view_that_fits():
    tree = synthetic_tree()
    assert isinstance(slt.view(tree["probe/train"].to_dataset()), slt.InfluenceExplorer)
    array = xr.DataArray(np.ones((1, 2)), dims=("example", "token"))
    assert isinstance(slt.view(array), slt.TokenStrip)
    assert isinstance(slt.view(array.to_dataset(name="x")), slt.TokenStrip)
    assert isinstance(slt.view(tree["sampling"].to_dataset()), slt.TraceView)
    assert type(slt.view(slt.llc(tree))).__module__.startswith("altair")


def test_views_are_displayed_one_by_one(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    views = slt.view(synthetic_tree())
    views._ipython_display_()
    assert shown == list(views)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: slt.view(3), "a run"),
        (lambda: slt.view(synthetic_tree(), normalise=True), "did you mean 'normalize'"),
        (lambda: slt.view(xr.Dataset({"x": ("other", [1.0])})), "(example, token)"),
    ],
)
def test_what_fits_nothing_is_refused_in_words(call, words):
    with pytest.raises(slt.InputError) as caught:
        call()
    assert words in str(caught.value)


# Kinds ------------------------------------------------------------------------------------------


def components(by_token: bool) -> xr.Dataset:
    """An estimate over two components."""
    rng = np.random.default_rng(0)
    if by_token:
        dims = ("component", "example", "token")
        pair = {k: (dims, rng.standard_normal((2, 2, 5)).astype("f4")) for k in ("chi", "stderr")}
    else:
        pair = {k: ("component", [1.0, 2.0]) for k in ("llc", "mcse")}
        pair["interval"] = (("component", "bound"), [[0.5, 1.5], [1.5, 2.5]])
    return xr.Dataset(pair, {"component": ["l0.h0", "l0.h1"]})


def over_training() -> xr.Dataset:
    one = components(False).expand_dims(checkpoint=["a", "b", "c"])
    return one.assign_coords(training_step=("checkpoint", [1, 10, 100]))


SHIPPED = Path(__file__).parents[2] / "tutorials"
GIVEN = {
    "calibration": (evidence, "CalibrationView"),
    "clusters": (lambda: clusters()[2], "ClusterBrowser"),
    "compression": (
        lambda: xr.load_dataset(SHIPPED / "compression_digits.nc"),
        "CompressionView",
    ),
    "llc": (lambda: slt.llc(synthetic_tree()), "LayerChart"),
    "probe": (lambda: synthetic_tree()["probe/train"].to_dataset(), "InfluenceExplorer"),
    "refined_llc": (over_training, "StageCurves"),
    "refined_llc_by_token": (
        lambda: components(True).rename(chi="llc"),
        "TokenStrip",
    ),
    "sampler_benchmark": (benchmark, "SamplerBenchmark"),
    "sampling": (lambda: synthetic_tree()["sampling"].to_dataset(), "TraceView"),
    "susceptibility": (lambda: components(True), "TokenStrip"),
    "transience": (lambda: xr.load_dataset(SHIPPED / "transience.nc"), "TransienceView"),
}
"""Kind -> a Dataset of it, and the class of what shows it."""


def test_every_kind_has_a_view_that_can_be_imported():
    assert set(GIVEN) | {"embedding"} == set(VIEWS)
    assert all(callable(maker(kind)) for kind in VIEWS)


@pytest.mark.parametrize("kind", GIVEN)
def test_a_declared_kind_chooses_the_view(kind):
    make, name = GIVEN[kind]
    data = make().assign_attrs({names.A_KIND: kind})
    assert type(slt.view(data)).__name__ == name


@pytest.mark.parametrize("kind", GIVEN)
def test_a_dataset_of_before_is_known_by_its_variables(kind):
    data = GIVEN[kind][0]()
    data.attrs.pop(names.A_KIND, None)
    assert infer_kind(data) == kind_of(data) == kind
    assert type(slt.view(data)).__name__ == GIVEN[kind][1]


def test_what_a_declared_kind_needs_must_still_be_there():
    """Operations of xarray keep attrs: a part of a probe is shown by what it is."""
    probe = synthetic_tree()["probe/train"].to_dataset().assign_attrs({names.A_KIND: "probe"})
    part = probe[["init_loss"]]
    assert part.attrs[names.A_KIND] == "probe" and kind_of(part) == ""
    assert isinstance(slt.view(part), slt.TokenStrip)
    assert kind_of(probe.mean(["chain", "draw"])) == ""
    for kind, (make, _) in GIVEN.items():
        data = make().assign_attrs({names.A_KIND: kind})
        lost = [n for n in VIEWS[kind].needs if n in data.data_vars]
        assert kind_of(data) == kind
        assert all(kind_of(data.drop_vars(name)) != kind for name in lost)


def test_what_the_kit_makes_says_what_it_is(tmp_path):
    tree = synthetic_tree()
    assert slt.llc(tree).attrs[names.A_KIND] == "llc"
    kernel = slt.kernel_map(tree, modes=3)
    points = slt.embed(kernel, method="pca")
    assert points.attrs[names.A_KIND] == "embedding"
    assert isinstance(slt.view(points), slt.EmbeddingMap)


def test_one_checkpoint_and_one_component():
    assert isinstance(slt.view(components(False)), slt.ComponentGrid)
    one = components(True).assign_attrs({names.A_KIND: "susceptibility"}).isel(component=0)
    assert isinstance(slt.view(one), slt.TokenStrip)
