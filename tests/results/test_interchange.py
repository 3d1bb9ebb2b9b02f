"""ArviZ accepts exported runs, and stores of devinterp give the numbers of devinterp."""

import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import special

from slt_notebook.errors import InputError, StoreError
from slt_notebook.estimators.health import health
from slt_notebook.estimators.influence.influence import influence
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.results.arviz_export import to_arviz
from slt_notebook.results.devinterp_import import import_devinterp
from slt_notebook.results.store import open_run
from tests.cases import synthetic_tree
from tests.estimators.llc.test_selection import gaussian_run
from tests.stores import write_store

ARCHIVE = Path(__file__).parent / "data" / "devinterp.zip"


@pytest.fixture(scope="module")
def az():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ 0.23 announces its own refactoring
        return pytest.importorskip("arviz")


@pytest.fixture(scope="module")
def devinterp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devinterp")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder / "samples.zarr", json.loads((folder / "numbers.json").read_text())


@pytest.mark.filterwarnings("ignore")
def test_arviz_reads_it(az, tmp_path):
    found = to_arviz(open_run(write_store(synthetic_tree(), tmp_path / "a.zarr")))
    table = az.summary(found)
    assert table.loc["llc", "mean"] == pytest.approx(llc(synthetic_tree())["mean"].item(), abs=0.05)
    assert np.isfinite(np.asarray(az.loo(found, var_name="train").elpd_loo))
    assert found.observed_data.train_token_id.shape == (3, 11)
    assert {"acceptance_rate", "virial", "diverging"} <= set(found.sample_stats.data_vars)
    loss = synthetic_tree()["probe/train"].loss
    np.testing.assert_allclose(found.log_likelihood.train, -loss.sum("token"), rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_tempering_makes_leave_one_out_right(az):
    """Pareto-smoothed importance weights must undo beta of one example, not all of it."""
    tree, x, _, _ = gaussian_run(0.1, draws=2000)
    raw, tempered = to_arviz(tree), to_arviz(tree, temper=True)
    assert tempered.log_likelihood.train.attrs["beta"] == pytest.approx(0.1)
    np.testing.assert_allclose(tempered.log_likelihood.train, 0.1 * raw.log_likelihood.train)
    assert raw.posterior.attrs["tempered"] == 0
    ll = raw.log_likelihood.train.values.reshape(-1, 30)
    spread = 1 + 1 / (29 * 0.1)  # of x_i given the others, at beta = 0.1
    others = (x.sum() - x) / 29
    exact_value = np.mean(-((x - others) ** 2) / (2 * spread) - np.log(2 * np.pi * spread) / 2)

    def left_out(log_weights):
        top = special.logsumexp(ll - log_weights, axis=0)
        return np.mean(top - special.logsumexp(-log_weights, axis=0))

    right = left_out(tempered.log_likelihood.train.values.reshape(-1, 30))
    wrong = left_out(ll)  # as if the draws were from the posterior at beta = 1
    assert abs(right - exact_value) < 0.01
    assert abs(wrong - exact_value) > 0.1


def test_without_arviz_it_is_a_tree(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "arviz", None)
    found = to_arviz(synthetic_tree())
    assert isinstance(found, xr.DataTree)
    assert set(found.children) == {"posterior", "sample_stats", "log_likelihood", "observed_data"}


def test_broken_chains_and_missing_draws_stay_out(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "arviz", None)
    tree = synthetic_tree()
    data = tree["sampling"].to_dataset().copy(deep=True)
    data.status[1] = 1
    probe = tree["probe/train"].to_dataset().copy(deep=True)
    probe.loss[1, 3:] = np.nan
    probe.loss[2, 40:] = np.nan
    found = to_arviz(xr.DataTree.from_dict({"/sampling": data, "/probe/train": probe}))
    assert (
        list(found["posterior"].chain.values) == [0, 2, 3]
        and found["posterior"].sizes["draw"] == 40
    )
    for group in found.children.values():
        for v in group.data_vars.values():
            assert v.dtype.kind not in "f" or np.isfinite(v).all()
    with pytest.raises(InputError, match="did you mean"):
        to_arviz(tree, "trainn")


def test_devinterp_llc_is_ours_with_burnin(devinterp):
    path, numbers = devinterp
    tree = import_devinterp(path)
    found = llc(tree, burnin=0)
    assert found["mean"].item() == pytest.approx(numbers["llc_mean"], rel=1e-5)
    np.testing.assert_allclose(found.llc_chain, numbers["llc_per_chain"], rtol=1e-4)
    assert llc(tree).n_steps == found.n_steps - 5
    assert "unpaired" in tree.attrs["missing"]
    assert tree["sampling"].gamma[0] == 5 and tree["sampling"].nbeta[0] == 8


def test_devinterp_bif_is_minus_our_influence(devinterp):
    path, numbers = devinterp
    tree = import_devinterp(path)
    theirs = np.array(numbers["bif"])  # [example, example, token, token] of "code" then "text"
    keys = numbers["bif_keys"]
    for i, q in enumerate(keys):
        for j, t in enumerate(keys):
            ours = influence(tree, query=q, train=t, centering="pool").influence
            ours = ours.isel(token=slice(3), token_=slice(3)).transpose(
                "example", "example_", "token", "token_"
            )
            block = theirs[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            np.testing.assert_allclose(-ours, block, rtol=2e-4, atol=1e-9)


def test_devinterp_texts_and_laziness(devinterp):
    class Tokenizer:
        def decode(self, ids):
            return f"<{ids[0]}>"

    tree = import_devinterp(devinterp[0], Tokenizer())
    probe = tree["probe/text"]
    assert probe.token_text.values[0, 0] == f"<{int(probe.token_id[0, 0])}>"
    assert not isinstance(probe.loss.variable._data, np.ndarray)
    assert "R-hat" in set(health(tree).check)
    with pytest.raises(StoreError, match="import_devinterp"):
        open_run(devinterp[0])


def test_not_a_devinterp_store(tmp_path):
    with pytest.raises(StoreError, match="devinterp"):
        import_devinterp(write_store(synthetic_tree(), tmp_path / "a.zarr"))
