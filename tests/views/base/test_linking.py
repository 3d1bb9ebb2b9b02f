"""Views share one Focus, which says its place."""

import pytest

import slt_notebook as slt
from slt_notebook.views.base.linking import Focus, link, place
from tests.cases import synthetic_tree


def test_link_gives_views_one_focus():
    a = slt.TokenStrip(synthetic_tree())
    b = slt.InfluenceExplorer(synthetic_tree())
    assert a.focus is not b.focus
    shared = link(a, b)
    assert a.focus is b.focus is shared
    assert a.get_state()["focus"] == f"anywidget:{shared.model_id}"


def test_focus_speaks_in_ids():
    focus = Focus().on("train/0", 4)
    assert focus.focus == place("train/0", 4) == {"example": "train/0", "token": 4}
    assert focus.clear().focus is None


def test_hover_is_no_state():
    assert not any("hover" in key for key in Focus().get_state())


def test_only_views_are_linked():
    with pytest.raises(slt.InputError, match="TokenStrip"):
        link(3)
