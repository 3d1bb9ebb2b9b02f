"""The LLC with baselines, burn-in, broken chains and unequal settings."""

import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats
from hypothesis import given, settings
from hypothesis import strategies as st

from slt_notebook import names
from slt_notebook.errors import Diverged, InputError
from slt_notebook.estimators.llc.llc import chain_llc, llc, pooled_llc
from tests import exact
from tests.cases import synthetic_tree


def changed(**variables):
    tree = synthetic_tree()
    data = tree["sampling"].to_dataset().copy(deep=True)
    for key, change in variables.items():
        change(data[key])
    return xr.DataTree.from_dict({"/sampling": data})


def put(index, value):
    def change(array):
        array.values[index] = value

    return change


def test_values_against_arviz():
    tree = synthetic_tree()
    data = tree["sampling"]
    gain = 30 * (data.loss - data.init_loss).values[:, 20:].astype(np.float64)
    found = llc(tree)
    np.testing.assert_allclose(found.llc_chain, gain.mean(1), rtol=1e-6)
    assert found["mean"].item() == pytest.approx(gain.mean(), rel=1e-6)
    assert found.mcse.item() == pytest.approx(array_stats.mcse(gain, 0, 1, method="mean"), rel=1e-4)
    assert found.ess.item() == pytest.approx(array_stats.ess(gain, 0, 1, method="mean"), rel=1e-3)
    assert found.rhat.item() == pytest.approx(array_stats.rhat(gain, 0, 1), rel=1e-4)
    assert found.virial.item() == pytest.approx(1, abs=0.02)
    assert found.attrs["excluded"] == "none" and found.attrs["burnin"] == 20
    assert found.nbeta.dims == ("chain",)


def test_burnin_is_left_out():
    tree = synthetic_tree()
    with_burnin = llc(tree, burnin=0)
    assert with_burnin["mean"] < llc(tree)["mean"] - 5 * llc(tree).mcse
    assert with_burnin.n_steps == 120


def test_the_paired_baseline_removes_batch_noise():
    tree = synthetic_tree()
    paired, unpaired = llc(tree), llc(tree, unpaired=True)
    assert unpaired.mcse > 5 * paired.mcse  # batches of spread 0.2 against steps of 0.01
    assert abs(unpaired["mean"] - paired["mean"]) < 4 * unpaired.mcse


def test_each_chain_has_its_own_nbeta():
    tree = synthetic_tree()
    data = tree["sampling"].to_dataset()
    data = data.assign_coords(nbeta=("chain", [10.0, 20.0, 30.0, 40.0]))
    found = llc(data)
    np.testing.assert_allclose(found.llc_chain / found.nbeta, llc(tree).llc_chain / 30, rtol=1e-6)
    assert np.isnan(found["mean"]) and np.isnan(found.interval).all()
    assert "nbeta" in found.attrs["pooled"]


def test_a_diverged_chain_is_named_and_left_out():
    tree = changed(loss=put((2, slice(50, None)), np.nan), status=put(2, 1), status_step=put(2, 50))
    found = llc(tree)
    assert found.n_chains == 3 and np.isnan(found.llc_chain[2]) and np.isfinite(found["mean"])
    assert "chain 2 diverged" in found.attrs["excluded"] and "step 50" in found.attrs["excluded"]
    whole = llc(synthetic_tree()).llc_chain.values[[0, 1, 3]]
    assert found["mean"].item() == pytest.approx(whole.mean(), rel=1e-6)


def test_no_chain_left():
    with pytest.raises(Diverged, match="smaller step_size"):
        llc(changed(status=put(slice(None), 3)))


def test_an_unfinished_run():
    tail = lambda a: a.values.__setitem__((slice(None), slice(70, None)), np.nan)
    found = llc(changed(loss=tail, init_loss=tail))
    assert found.n_steps == 50 and found.n_chains == 4
    with pytest.raises(InputError, match="at least 2 steps"):
        llc(changed(loss=put((slice(None), slice(21, None)), np.nan)))


def test_a_chain_that_has_hardly_begun_does_not_cut_the_others():
    found = llc(changed(loss=put((3, slice(30, None)), np.nan)))
    assert found.n_chains == 3 and found.n_steps == 100
    assert "has 30 of 120 steps only" in found.attrs["excluded"]


def test_one_chain():
    found = llc(synthetic_tree(chains=1))
    assert np.isnan(found.rhat) and np.isfinite(found.interval).all()


def test_nothing_happens():
    series = np.zeros((2, 50))
    found = llc(exact.tree_of(series, 0, nbeta=1, gamma=1, step_size=0.1, burnin=0))
    assert found["mean"] == 0 and found.mcse == 0


def test_a_wider_level_is_a_wider_interval():
    a, b = llc(synthetic_tree(), level=0.5).interval, llc(synthetic_tree(), level=0.99).interval
    assert b[0] < a[0] < a[1] < b[1]


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.booleans())
def test_order_of_chains_and_dims_changes_nothing(order, swap):
    data = synthetic_tree()["sampling"].to_dataset()
    moved = data.isel(chain=list(order))
    moved = moved.transpose("step", "chain", ...) if swap else moved
    a, b = llc(data), llc(moved)
    for key in ("mean", "mcse", "ess", "rhat"):
        assert a[key].item() == pytest.approx(b[key].item(), rel=1e-9)
    xr.testing.assert_allclose(a.llc_chain, b.llc_chain.sortby("chain"))


@pytest.mark.parametrize("options", [{"burnin": -1}, {"level": 1.0}, {"burnin": 119}])
def test_bad_input(options):
    with pytest.raises(InputError, match="What to do"):
        llc(synthetic_tree(), **options)


def test_names_of_the_result():
    found = llc(synthetic_tree())
    assert set(found.data_vars) == {
        *("llc", "llc_chain", "mean", "mcse", "ess", "rhat", "virial", "virial_mcse"),
        *("interval", "n_chains", "n_steps"),
    }
    assert names.A_FORMULA in found.attrs and names.A_SOURCE in found.attrs


def test_the_pooled_value_has_two_names_and_older_datasets_are_read():
    found = llc(synthetic_tree())
    assert found["llc"].dims == () and float(found["llc"]) == float(found["mean"])
    old = found.drop_vars(["llc", "llc_chain"]).assign(llc=found["llc_chain"])
    for one in (found, old):
        assert float(pooled_llc(one)) == float(found["mean"])
        np.testing.assert_array_equal(chain_llc(one), found["llc_chain"])
