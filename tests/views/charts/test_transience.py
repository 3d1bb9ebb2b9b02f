"""The views of transience and of two solutions carry the numbers, and say them in words."""

import numpy as np
import pytest
import xarray as xr

from slt_notebook.errors import InputError
from slt_notebook.views.base.widget import unpack
from slt_notebook.views.charts.odds import OddsView
from slt_notebook.views.charts.transience import _DIMS, TransienceView

SIZES = {"seed": 2, "run": 3, "step": 7, "position": 4, "component": 3}


def runs():
    """Three diversities, two seeds; the second seed has no run of the second one."""
    rng = np.random.default_rng(0)
    data = xr.Dataset(
        {k: (dims, rng.uniform(0.1, 1, [SIZES[d] for d in dims])) for k, dims in _DIMS.items()},
        {
            "seed": [0, 1],
            "run": ["4", "16", "inf"],
            "step": [0, 1, 10, 100, 300, 600, 1000],
            "component": ["PC1", "PC2", "PC3"],
        },
    )
    data["ood"] = (
        ("run", "step"),
        np.array([[5, 5, 4, 3, 3, 3, 2.9], [5, 5, 4, 2, 2.5, 2.8, 3], [5, 5, 4, 2, 1.5, 1.2, 1]]),
    )
    data["ood"] = data.ood.expand_dims(seed=2).copy()
    data.ood[1, 1] = np.nan
    return data


def test_every_array_travels_in_its_order():
    data = runs()
    view = TransienceView(data.transpose("component", "position", "step", "run", "seed"))
    arrays = unpack(view.payload, view.meta)
    for name, dims in _DIMS.items():
        np.testing.assert_allclose(arrays[name], data[name].transpose(*dims), rtol=1e-6)
    assert view.meta["runs"] == ["4", "16", "∞"] and view.meta["finite"] == [True, True, False]
    assert view.checkpoint == 6
    assert view.picked == 1  # the run that rises again


def test_it_says_where_the_loss_is_least_and_where_it_ends():
    view = TransienceView(runs())
    assert "M=16 seed 0: OOD loss 2.000 at step 100, 3.000 at the end" in view.describe()
    assert len(view.rows()) == 5
    html = view.fallback()
    assert "<script" not in html and html.count("<tr>") == 6


def test_odds_are_the_difference_of_free_energies():
    view = OddsView((0.3, 0.5), (20, 2), n=1000, names=("<i>U", "V"))
    assert view.odds() == pytest.approx(1000 * 0.2 - 18 * np.log(1000))
    assert "crossover at n = 571.3" in view.describe()
    assert "no crossover" in OddsView((0.3, 0.5), (2, 20)).describe()
    html = view.fallback()
    assert "&lt;i&gt;U" in html and "<i>U" not in html


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TransienceView(runs().drop_vars("ood")), "without"),
        (lambda: TransienceView(runs(), checkpoint=7), "0 to 6"),
        (lambda: TransienceView(runs(), chekpoint=1), "did you mean 'checkpoint'"),
        (lambda: OddsView((0.3,), (1, 2)), "two finite"),
        (lambda: OddsView((0.3, np.nan), (1, 2)), "two finite"),
        (lambda: OddsView(n=1), "from 10"),
        (lambda: OddsView(loses=(1, 2)), "did you mean 'losses'"),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(InputError, match=match):
        make()
