"""The view carries the traces of the run, and its numbers are those of `llc`."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slt_notebook import names
from slt_notebook.errors import InputError
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import unpack
from slt_notebook.views.charts.traces import TraceView, decimate, gains
from tests.cases import synthetic_tree


def with_divergence(tree, chain=1, step=60):
    data = tree[names.SAMPLING].to_dataset()
    data[names.LOSS][chain, step:] = np.nan
    data[names.STATUS][chain] = names.STATUS_LOSS
    data[names.STATUS_STEP][chain] = step
    tree[names.SAMPLING] = data
    return tree


@settings(deadline=None, max_examples=60)
@given(
    steps=st.integers(1, 400),
    limit=st.integers(1, 90),
    start=st.integers(0, 399),
    seed=st.integers(0),
)
def test_blocks_keep_means_and_extremes(steps, limit, start, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((3, steps))
    values[rng.random((3, steps)) < 0.1] = np.nan
    start = min(start, steps - 1)
    found = decimate(values, start, limit)
    edges = found["edges"]
    assert edges[0] == 0
    assert edges[-1] == steps
    assert start in edges
    assert len(edges) - 1 <= limit + 1
    for k, (a, b) in enumerate(pairwise(edges)):
        part = values[:, a:b]
        assert (found["count"][:, k] == np.isfinite(part).sum(1)).all()
        for row in range(3):
            if found["count"][row, k]:
                finite = part[row][np.isfinite(part[row])]
                np.testing.assert_allclose(found["low"][row, k], finite.min(), rtol=1e-6)
                np.testing.assert_allclose(found["high"][row, k], finite.max(), rtol=1e-6)
                np.testing.assert_allclose(
                    found["mean"][row, k], finite.mean(), rtol=1e-5, atol=1e-6
                )
            else:
                assert np.isnan(found["mean"][row, k])


def test_the_state_gives_the_llc_back():
    tree = synthetic_tree(draws=700, thin=3, burnin=50)
    view = TraceView(tree)
    data = unpack(view.payload, view.meta)
    edges = data["edges"]
    first = list(edges).index(50)
    assert len(edges) - 1 <= 1001
    weight = data["count"][:, first:]
    value = (data["mean"][:, first:].astype(float) * weight).sum() / weight.sum()
    # float32 means of at most 1000 blocks
    assert abs(30.0 * value / float(llc(tree)["mean"]) - 1) < 1e-5
    assert view.estimate["mean"] == float(llc(tree)["mean"])
    assert len(view.payload) < 100_000


def test_burnin_from_the_browser_recomputes():
    tree = synthetic_tree()
    view = TraceView(tree)
    before = view.estimate
    view.burnin = 40
    assert view.estimate["burnin"] == 40
    assert view.estimate["mean"] == float(llc(tree, burnin=40)["mean"])
    assert view.estimate != before
    assert view.badges
    view.burnin = 119
    assert "at least 2" in view.estimate["problem"]
    assert view.badges == [] or all(
        b["verdict"] in ("unknown", "fail", "warn", "ok") for b in view.badges
    )
    assert "no LLC" in view.describe()


def test_a_diverged_chain_is_named_and_left_out():
    tree = with_divergence(synthetic_tree())
    view = TraceView(tree)
    chains = view.meta["chains"]
    assert [bool(c["excluded"]) for c in chains] == [False, True, False, False]
    assert "at step 60" in chains[1]["excluded"]
    assert view.estimate["each"][1] is None
    assert "not finite at step 60" in view.fallback()
    assert "diverged" in view.describe()


def test_every_kind_of_run_is_taken():
    tree = synthetic_tree()
    focus = Focus()
    for run in (tree, tree[names.SAMPLING].to_dataset()):
        view = TraceView(run, focus=focus, burnin=10)
        assert view.focus is focus
        assert view.burnin == 10


def test_the_state_is_json_even_with_holes():
    tree = synthetic_tree(chains=1, draws=3, burnin=0, thin=1)
    view = TraceView(with_divergence(tree, 0, 2))
    state = {k: view.get_state()[k] for k in ("meta", "estimate", "badges", "burnin")}
    json.dumps(state, allow_nan=False)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda t: TraceView(t, burnin=120), "0 to 119"),
        (lambda t: TraceView(t, burnin=-1), "0 to 119"),
        (lambda t: TraceView(t, fokus=1), "did you mean 'focus'"),
        (lambda t: TraceView(t, focus=3), "Focus"),
        (lambda t: TraceView(3), "a run"),
        (lambda t: gains(t[names.SAMPLING].to_dataset().drop_vars("init_loss")), "init_loss"),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(InputError, match=match):
        make(synthetic_tree())


def test_the_fallback_shows_the_same_numbers_without_scripts():
    view = TraceView(synthetic_tree())
    html = view.fallback()
    assert "<svg" in html
    assert "<script" not in html
    assert "LLC of each chain" in html
    assert f"{view.estimate['mean']:.3g}" in html
    assert len(html) < 150_000
