"""Coordinates agree with their method, and mistakes raise errors."""

import sys

import numpy as np
import pytest
import xarray as xr

from slt_notebook.errors import InputError
from slt_notebook.estimators.kernel.embed import embed
from tests.estimators.kernel.test_kernel_map import probe


def table(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 6)) * [9, 5, 1, 1, 1, 1] + 3
    return xr.DataArray(x, dims=("example", "mode"), coords={"example": np.arange(rows)})


def test_pca_keeps_the_variance_of_the_first_two():
    x = table()
    found = embed(x)
    values = np.linalg.eigvalsh(np.cov(x.values.T))[::-1]
    np.testing.assert_allclose(found.var("example", ddof=1), values[:2], rtol=1e-5)
    np.testing.assert_allclose(embed(-x)[:, 0].std(), found[:, 0].std(), rtol=1e-5)
    assert found.dims == ("example", "axis") and found.name == "pca"


SLOW = pytest.param("umap", marks=pytest.mark.slow)  # it compiles itself for a minute


@pytest.mark.parametrize("method", [SLOW, "tsne"])
@pytest.mark.filterwarnings("ignore")  # of other packages
def test_neighbours_stay_neighbours(method):
    x = table()
    x[:30, 0] += 100
    found = embed(x, method).values
    middle = found[:30].mean(0), found[30:].mean(0)
    near = np.linalg.norm(found[:, None] - np.stack(middle), axis=2).argmin(1)
    assert (near == np.repeat([0, 1], 30)).mean() > 0.95


def test_a_map_keeps_labels_and_missing_rows():
    from slt_notebook.estimators.kernel.kernel_map import kernel_map

    data = probe().copy(deep=True)
    data.loss[..., 4] = np.nan
    found = embed(kernel_map(data, modes=8))
    assert np.isnan(found.values[4]).all() and np.isfinite(np.delete(found.values, 4, 0)).all()
    assert list(found.example.values) == list(data.example.values)


def test_mistakes_are_refused_in_words(monkeypatch):
    with pytest.raises(InputError, match="did you mean 'umap'"):
        embed(table(), "umaap")
    with pytest.raises(InputError, match="two dims"):
        embed(table()[0])
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="slt-notebook\\[maps\\]"):
        embed(table(), "umap")
