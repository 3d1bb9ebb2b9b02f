"""The view of compression carries the numbers, and says them without scripts."""

import numpy as np
import pytest
import xarray as xr

from slt_notebook.errors import InputError
from slt_notebook.estimators.llc.compression import compression_series
from slt_notebook.views.base.widget import unpack
from slt_notebook.views.charts.compression import CompressionView

LEVELS = np.array([255.0, 63, 15, 7, 3])


def sweep(scale, levels=LEVELS, grid=True, log=1):
    """What `critical_compression` returns, of a gap that is a power law of the level."""
    gap = scale * np.asarray(levels, float) ** (-2.0 if grid else 2.0)
    out = xr.Dataset(
        {
            "gap": ("level", gap),
            "gap_stderr": ("level", gap / 20),
            "init_loss": ((), 2.0 - scale / 100),
            "critical": ("epsilon", np.sqrt(scale / np.array([0.1, 0.3]))),
            "interval": (("epsilon", "bound"), np.ones((2, 2))),
        },
        {"level": levels, "epsilon": [0.1, 0.3], "bound": ["lower", "upper"]},
        {"log": log, "unit": "levels of the grid" if grid else "share"},
    )
    return out.assign(bits=("epsilon", np.zeros(2))) if grid else out


def series(count=6):
    scales = np.geomspace(2, 60, count)
    llcs = [xr.Dataset({"mean": 3 * np.log2(s), "mcse": 0.1}) for s in scales]
    sweeps = [
        {"grid": sweep(s), "prune": sweep(s, np.array([0.1, 0.4, 0.9]), False, 0)} for s in scales
    ]
    steps = [10 * 3**k for k in range(count)]
    return compression_series(steps, sweeps, llcs, {"hessian_trace": scales**2})


def test_a_series_keeps_every_curve_and_pads_the_shorter():
    one = series()
    assert one.sizes == {"step": 6, "scheme": 2, "level": 5, "epsilon": 2, "bound": 2}
    assert np.isnan(one.knob.sel(scheme="prune").values[3:]).all()
    np.testing.assert_allclose(one.gap.sel(scheme="grid")[0], 2 * LEVELS**-2.0)
    assert list(one.grid.values) == [1, 0]


def test_the_fit_at_a_tolerance_is_exact_for_power_laws():
    view = CompressionView(series(), tolerance=0.1)
    # bits = log2(scale / 0.1) / 2 and LLC = 3 log2(scale): a line of slope 1/6.
    fit = view.fit()
    assert fit.loc["LLC"].r2 == pytest.approx(1, abs=1e-9)
    assert fit.loc["LLC"].slope == pytest.approx(1 / 6, rel=1e-6)
    assert set(fit.index) == {"LLC", "log step", "loss", "hessian trace", "log hessian trace"}
    data = unpack(view.payload, view.meta)
    assert data["0/gap"].shape == (6, 2, 5)
    assert view.meta["subjects"][0]["predictors"][0] == "LLC"


def test_it_says_the_same_without_scripts():
    view = CompressionView({"<b>one": series(), "two": series(4)})
    html = view.fallback()
    assert "&lt;b&gt;one" in html and "<b>one" not in html
    assert "R^2 1.000" in html
    assert "<script" not in html and html.count("<tr>") == 7
    assert "two (4 checkpoints)" in view.describe()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda s: CompressionView(s.drop_vars("llc")), "without"),
        (lambda s: CompressionView(s, tolerance=0.0), "above 0"),
        (lambda s: CompressionView(s, tolerence=0.1), "did you mean 'tolerance'"),
        (lambda s: CompressionView(s, focus=3), "Focus"),
        (lambda s: CompressionView(3), "without"),
        (lambda s: compression_series([1], [{"a": sweep(1)}], []), "align"),
        (
            lambda s: compression_series(
                [1, 2], [{"a": sweep(1)}, {"a": sweep(1, LEVELS[:3])}], [0, 0]
            ),
            "sweep alike",
        ),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(InputError, match=match):
        make(series())
