"""Does `slt.view` choose the view that fits?"""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.views.dispatch import Views
from tests.cases import synthetic_tree


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
