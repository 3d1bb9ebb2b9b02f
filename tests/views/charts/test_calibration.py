"""The views of calibrations and benchmarks say what their data say."""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.errors import InputError
from slt_notebook.views.base.widget import unpack
from slt_notebook.views.charts.calibration import CalibrationView, cells
from slt_notebook.views.charts.network_builder import NetworkBuilder
from slt_notebook.views.charts.sampler_benchmark import SamplerBenchmark
from tests.cases_bench import benchmark, evidence


def test_calibration_cells_are_the_evidence_and_the_chosen_one_is_found():
    data = evidence()
    view = CalibrationView(data)
    found = cells(data)
    assert len(found) == 12 and found[2]["llc"] is None
    assert view.setting == found[view.meta["chosen"]]
    assert (view.setting["gamma"], view.setting["nbeta"], view.setting["share"]) == (3, 1000, 0.5)
    trace = unpack(view.payload, view.meta)["trace"]
    np.testing.assert_array_equal(trace, data.trace.values.astype("f4"))
    assert "4 of 12 settings trusted" in view.describe()
    assert "<b>" not in view.fallback() and "&lt;b&gt;" in view.fallback()
    assert isinstance(slt.view(data), CalibrationView)


def test_a_calibration_without_a_choice_and_from_a_file(tmp_path):
    view = CalibrationView(evidence(chosen=False))
    assert view.setting is None and view.meta["ok"] is False
    assert "svg" not in view.fallback()
    evidence().to_netcdf(tmp_path / "e.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "e.nc", engine="scipy") as data:
        assert CalibrationView(data.load()).meta["ok"]


def test_the_benchmark_starts_at_the_best_step():
    data = benchmark()
    view = SamplerBenchmark(data)
    assert view.step == 2
    assert "SGLD: 0.0% at its best step 1e-07" in view.describe()
    assert isinstance(slt.view(data), SamplerBenchmark)
    assert "net <" not in view.fallback()
    arrays = unpack(view.payload, view.meta)
    np.testing.assert_array_equal(arrays["truth"], data.truth.values.astype("f4"))


def test_the_network_is_described_by_its_certificate():
    text = NetworkBuilder([49, 8, 25], [1, 8]).describe()
    assert "lambda 120.5" in text and "204.5" in text and "not certified" in text
    assert ", certified" in NetworkBuilder([4, 3, 5]).describe()


@pytest.mark.parametrize(
    "make",
    [
        lambda: CalibrationView(xr.Dataset()),
        lambda: CalibrationView(3),
        lambda: CalibrationView(evidence(), tracs=1),
        lambda: SamplerBenchmark(evidence()),
        lambda: NetworkBuilder([4]),
        lambda: NetworkBuilder([4, 3], [4]),
        lambda: NetworkBuilder([4, 300]),
        lambda: NetworkBuilder([4] * 9),
    ],
)
def test_bad_input(make):
    with pytest.raises(InputError, match="What to do"):
        make()
