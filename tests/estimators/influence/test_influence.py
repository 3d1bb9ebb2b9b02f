"""The influence against a closed form and a naive loop, and what must not change it.

`python -m tests.estimators.influence.test_influence` prints the agreement with the closed form.
"""

from functools import lru_cache

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slt_notebook.errors import Diverged, InputError
from slt_notebook.estimators import losses
from slt_notebook.estimators.array import moments
from slt_notebook.estimators.influence.influence import influence, top_sources
from slt_notebook.estimators.kernel.loss_kernel import loss_kernel
from slt_notebook.results.store import open_run
from tests import exact
from tests.cases import synthetic_tree
from tests.stores import write_store


def naive(loss, normalize=False):
    """-Cov of every pair of columns, centred per chain, by loops over NaN-free `[c, d, p]`."""
    c, d, p = loss.shape
    out = np.zeros((p, p))
    for i in range(p):
        for j in range(p):
            total = 0.0
            for k in range(c):
                total += np.sum(
                    (loss[k, :, i] - loss[k, :, i].mean()) * (loss[k, :, j] - loss[k, :, j].mean())
                )
            out[i, j] = total / (c * (d - 1))
    if normalize:
        sd = np.sqrt(np.diag(out))
        out = out / np.outer(sd, sd)
    return -out


@lru_cache
def linear_gaussian(chains=200, draws=400, eps=3e-3, thin=10):
    """Token losses of a linear model along SGLD, and their exact covariance, second order in."""
    x, y, w_star = exact.regression(rows=24, dim=5, noise=0.3)
    precision = exact.regression_precision(x, nbeta=24, gamma=3.0)
    s = exact.position_covariance(precision, eps)
    rng = np.random.default_rng(0)
    start = rng.multivariate_normal(np.zeros(5), s, chains)
    w = exact.sgld_linear(precision, eps, draws * thin, chains, rng, start)[:, ::thin]
    residual = y - x @ w_star
    loss = (residual - w @ x.T) ** 2 / 2
    probe = exact.probe_of(loss.reshape(chains, draws, 6, 4).astype("f4"))
    return probe, exact.loss_covariance(x, residual, s), (x, residual, s)


def test_linear_gaussian_model():
    probe, truth, (x, residual, s) = linear_gaussian()
    found = influence(probe)
    value = found.influence.values.reshape(24, 24)
    error = found.stderr.values.reshape(24, 24)
    off = ~np.eye(24, dtype=bool)
    pearson = np.corrcoef(value[off], -truth[off])[0, 1]
    relative = np.linalg.norm(value + truth) / np.linalg.norm(truth)
    assert pearson >= 0.99
    assert relative <= 0.10
    # without the second order the same data are far off: the test sees it
    first = np.outer(residual, residual) * (x @ s @ x.T)
    assert np.linalg.norm(value + first) / np.linalg.norm(truth) > 0.3
    # the stated errors are the real ones: z-scores of spread about 1
    z = (value + truth)[np.triu_indices(24)] / error[np.triu_indices(24)]
    assert 0.7 < np.sqrt(np.mean(z**2)) < 1.4
    assert np.abs(z).max() < 5


@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("normalize", [False, True])
def test_standard_errors_are_honest(count, normalize):
    """Repeat a run of few chains 300 times: the spread of the estimates is the stated error."""
    probe, truth, _ = linear_gaussian(chains=count * 300, draws=100, thin=40)
    sd = np.sqrt(np.diag(truth))
    wanted = -(truth / np.outer(sd, sd) if normalize else truth)
    values, errors = [], []
    for r in range(300):
        part = probe.isel(chain=slice(r * count, (r + 1) * count))
        found = influence(part, normalize=normalize, dtype="float64")
        values.append(found.influence.values.reshape(24, 24))
        errors.append(found.stderr.values.reshape(24, 24))
    off = ~np.eye(24, dtype=bool)
    spread = np.std(values, axis=0)[off]
    stated = np.sqrt(np.mean(np.square(errors), axis=0))[off]
    assert 0.8 < np.median(stated / spread) < 1.2
    bias = (np.mean(values, axis=0) - wanted)[off] / spread
    assert np.abs(bias).mean() < 0.2


@pytest.mark.parametrize("normalize", [False, True])
def test_against_loops(normalize):
    tree = synthetic_tree(ragged=False, draws=20)
    loss = tree["probe/train"].loss.values.astype(np.float64)
    got = influence(tree, normalize=normalize).influence.values.reshape(33, 33)
    np.testing.assert_allclose(got, naive(loss.reshape(4, 20, 33), normalize), atol=2e-6)
    assert (np.diag(got) < 0).all()


def test_blocks_mirrors_and_rectangles_agree(monkeypatch):
    tree = synthetic_tree()
    whole = influence(tree)
    part = influence(tree, query="train/1", train=["train/2", "train/0"])
    monkeypatch.setattr(moments, "_BLOCK", 7)
    xr.testing.assert_allclose(influence(tree), whole, rtol=1e-5)
    np.testing.assert_allclose(
        part.influence.values,
        whole.influence.sel(example=["train/1"], example_=["train/2", "train/0"]).values,
        rtol=1e-5,
        atol=1e-7,
    )
    assert part.influence.dims == ("example", "token", "example_", "token_")
    assert list(part.token_text_.dims) == ["example_", "token_"]


def test_padding_and_a_bad_token_stay_where_they_are():
    tree = synthetic_tree()
    clean = influence(tree).influence
    assert np.isnan(clean.sel(example="train/2").values).any()
    assert np.isfinite(clean.sel(example=["train/0", "train/1"], example_=["train/0"])).all()
    probe = tree["probe/train"].to_dataset().copy(deep=True)
    probe.loss[1, 7, 0, 3] = np.inf
    spoiled = influence(probe).influence
    np.testing.assert_array_equal(
        np.isnan(spoiled) & ~np.isnan(clean),
        (
            ((clean.example == "train/0") & (clean.token == 4))
            | ((clean.example_ == "train/0") & (clean.token_ == 4))
        ).transpose(*clean.dims)
        & ~np.isnan(clean),
    )


@pytest.mark.parametrize("value", [0.0, 1.7, 3e-7])
def test_a_constant_token_has_no_influence_and_spoils_none(value):
    probe = synthetic_tree(ragged=False)["probe/train"].to_dataset().copy(deep=True)
    before = influence(probe, normalize=True)
    probe.loss[..., 0, 3] = value
    after = influence(probe, normalize=True)
    assert (after.influence.sel(example="train/0", token=4) == 0).all()
    assert (after.stderr.sel(example="train/0", token=4) == 0).all()
    assert after.attrs["zero_variance"] == 1
    others = {"example": ["train/1", "train/2"], "example_": ["train/1", "train/2"]}
    xr.testing.assert_allclose(before.influence.sel(others), after.influence.sel(others))
    assert np.isfinite(influence(probe, unit="sequence", normalize=True).influence).all()


def test_centring_per_chain_ignores_offsets_between_chains():
    probe = synthetic_tree(ragged=False)["probe/train"].to_dataset().copy(deep=True)
    moved = probe.assign(loss=probe.loss + 5 * xr.DataArray(np.arange(4.0), dims="chain"))
    a, b = influence(probe).influence, influence(moved).influence
    np.testing.assert_allclose(a, b, atol=1e-5)
    pooled = influence(moved, centering="pool", normalize=True).influence
    assert float(pooled.max()) < -0.9  # what pooling makes of unmixed chains


def test_a_sequence_is_the_double_sum_of_its_tokens():
    tree = synthetic_tree()
    tokens = influence(tree, dtype="float64").influence
    sequences = influence(tree, unit="sequence", dtype="float64").influence
    np.testing.assert_allclose(tokens.sum(["token", "token_"]), sequences, rtol=1e-6)
    assert influence(tree, unit="sequence").attrs["sequence_loss"] == "sum over tokens"


def test_the_kernel_is_minus_the_influence():
    tree = synthetic_tree()
    k = loss_kernel(tree, normalize=False, dtype="float64")
    np.testing.assert_allclose(k, -influence(tree, unit="sequence", dtype="float64").influence)
    assert np.linalg.eigvalsh(k).min() > -1e-10
    r = loss_kernel(tree, dtype="float64")
    np.testing.assert_allclose(np.diag(r), 1, rtol=1e-12)
    assert r.coords["stderr"].dims == r.dims and float(r.stderr.max()) > 0


def test_duplicates_correlate_perfectly():
    probe = synthetic_tree(ragged=False)["probe/train"].to_dataset().copy(deep=True)
    probe.loss[:, :, 1] = probe.loss[:, :, 0]
    found = influence(probe, unit="sequence", normalize=True)
    assert float(found.influence[0, 1]) == pytest.approx(-1, abs=1e-6)
    assert float(found.stderr[0, 1]) < 1e-6


def test_diverged_and_unfinished_chains():
    tree = synthetic_tree(ragged=False)
    probe = tree["probe/train"].to_dataset().copy(deep=True)
    probe.loss[3, 10:] = np.nan  # diverged
    probe.loss[2, 30:] = np.nan  # not there yet
    sampling = tree["sampling"].to_dataset().copy(deep=True)
    sampling.status[3] = 1
    live = xr.DataTree.from_dict({"/sampling": sampling, "/probe/train": probe})
    found = influence(live)
    assert found.attrs["chains"] == 3 and found.attrs["draws"] == 130
    assert "chain 3" in found.attrs["excluded"]
    two = influence(probe.isel(chain=slice(0, 2)))
    assert np.isfinite(found.influence).all()
    assert np.corrcoef(found.influence.values.ravel(), two.influence.values.ravel())[0, 1] > 0.9
    sampling.status[:] = 1
    with pytest.raises(Diverged):
        influence(xr.DataTree.from_dict({"/sampling": sampling, "/probe/train": probe}))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("chains", [1, 4])
def test_streamed_top_is_the_top_of_the_row(tmp_path, normalize, chains):
    tree = open_run(write_store(synthetic_tree(chains=chains), tmp_path / "a.zarr", chunk_draws=7))
    top = top_sources(tree, "train/1", 5, k=6, normalize=normalize)
    query = tree["probe/train"].to_dataset().sel(example="train/1", token=[5])
    row = influence(tree, query=query, train="train", normalize=normalize, dtype="float64")
    row = row.sel(token=5).squeeze("example")
    finite = row.influence.values[np.isfinite(row.influence.values)]
    np.testing.assert_allclose(np.abs(top.influence), np.sort(np.abs(finite))[::-1][:6], rtol=1e-5)
    at = {"example_": top.example_, "token_": top.token_}
    np.testing.assert_allclose(row.influence.sel(at), top.influence, rtol=1e-5)
    np.testing.assert_allclose(row.stderr.sel(at), top.stderr, rtol=1e-3, atol=1e-7)


def test_streamed_top_of_sequences():
    tree = synthetic_tree()
    top = top_sources(tree, "train/1", unit="sequence", k=99, order="helpful")
    row = influence(tree, unit="sequence", dtype="float64").influence.sel(example="train/1")
    np.testing.assert_allclose(top.influence, np.sort(row.values), rtol=1e-5)
    assert list(top.influence.values) == sorted(top.influence.values)


def test_written_to_disk_is_the_same(tmp_path):
    tree = synthetic_tree()
    there = influence(tree, out=tmp_path / "m.zarr", max_bytes=10**6)
    xr.testing.assert_allclose(there.load(), influence(tree), rtol=1e-5)
    assert there.attrs["sign"] == influence(tree).attrs["sign"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.permutations(["chain", "draw", "example", "token"]), st.integers(1, 60), st.integers(0, 9)
)
def test_order_of_dims_and_of_examples_changes_nothing(order, slab, seed):
    probe = synthetic_tree(draws=12)["probe/train"].to_dataset()
    before = influence(probe, dtype="float64")
    old = moments._SLAB, losses._SLAB
    try:
        moments._SLAB = losses._SLAB = slab * 40
        shuffled = probe.isel(example=np.random.default_rng(seed).permutation(3))
        after = influence(shuffled.transpose(*order), dtype="float64")
    finally:
        moments._SLAB, losses._SLAB = old
    at = {"example": before.example, "example_": before.example_}
    xr.testing.assert_allclose(after.sel(at), before, rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4))
def test_parts_of_the_examples_are_blocks_of_the_whole(cut):
    tree = synthetic_tree(examples=5)
    whole = influence(tree, normalize=True)
    ids = list(whole.example.values)
    part = influence(tree, query=ids[:cut], train=ids[cut:], normalize=True)
    block = whole.sel(example=ids[:cut], example_=ids[cut:])
    np.testing.assert_allclose(part.influence, block.influence, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(part.stderr, block.stderr, rtol=1e-3, atol=1e-6)


def test_chunks_on_disk_change_nothing(tmp_path):
    tree = synthetic_tree()
    expected = influence(tree)
    for chunk in (1, 9, 50):
        path = write_store(tree, tmp_path / f"{chunk}.zarr", chunk_draws=chunk)
        xr.testing.assert_equal(influence(path).drop_attrs(), expected.drop_attrs())


@pytest.mark.parametrize(
    "options,words",
    [
        ({"query": "trian"}, "did you mean 'train'"),
        ({"train": ["train/0", "train/9"]}, "train/9"),
        ({"unit": "tokens"}, "did you mean 'token'"),
        ({"centering": "stack"}, "within"),
        ({"max_bytes": 1000}, "top_sources"),
        ({"dtype": "int8"}, "float32"),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(InputError, match=words):
        influence(synthetic_tree(), **options)


if __name__ == "__main__":
    model, exact_values, _ = linear_gaussian()
    estimate = influence(model).influence.values.reshape(24, 24)
    pairs = ~np.eye(24, dtype=bool)
    r = np.corrcoef(estimate[pairs], -exact_values[pairs])[0, 1]
    gap = np.linalg.norm(estimate + exact_values) / np.linalg.norm(exact_values)
    print(f"token influence, linear-Gaussian model, 200 chains x 400 draws: Pearson {r:.5f}")
    print(f"relative error against the closed form, second order included: {100 * gap:.1f} %")
