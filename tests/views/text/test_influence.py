"""The explorer's numbers are those of `slt.influence`, up to 8 bits."""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.views.base.widget import unpack
from slt_notebook.views.text import influence_explorer as module
from slt_notebook.views.text.influence_explorer import InfluenceExplorer
from tests.cases import synthetic_tree


def browser_row(view, k, normalize):
    """What widgets/src/text/rows.ts does, naively."""
    data, meta = unpack(view.payload, view.meta), view.meta
    q, sd, batches = data["q"].astype("f8"), data["sd"].astype("f8"), data["batches"]
    norm = np.sqrt((q**2).sum(1))
    groups = len(batches) - 1
    value, error = np.full(len(q), np.nan), np.full(len(q), np.nan)
    for j in range(len(q)):
        if not norm[j]:
            continue
        z = q[k] * q[j] / (norm[k] * norm[j])
        r = z.sum()
        unit = 1.0 if normalize else sd[k] * sd[j]
        total = 0.0
        for g in range(groups):
            s = slice(batches[g], batches[g + 1])
            share = ((q[k, s] / norm[k]) ** 2).sum() + ((q[j, s] / norm[j]) ** 2).sum()
            weight = share / 2 if normalize else (s.stop - s.start) / meta["draws"]
            total += (z[s].sum() - r * weight) ** 2
        value[j] = -r * unit
        error[j] = np.sqrt(total * groups / (groups - 1)) * unit
    return value, error


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("chains", [1, 2, 4])
def test_rows_equal_the_estimator_up_to_eight_bits(normalize, chains):
    tree = synthetic_tree(chains=chains, draws=80)
    view = InfluenceExplorer(tree, normalize=normalize)
    corpus = view._losses.corpus
    exact = slt.influence(tree, normalize=normalize)
    k = corpus.find("train/1", 3)
    row = exact.sel(example="train/1", token=3)
    value, error = browser_row(view, k, normalize)
    n = len(corpus)
    unit = 1 if normalize else float(view._losses.traces.sd[k] * view._losses.traces.sd[:n].max())
    rounding = 3 * np.sqrt(2 / 12 / (80 * chains)) * 4 / 127  # three sd, peaks at 4 sd
    difference = np.abs(value[:n] - corpus.flat(row["influence"].values))
    assert difference.max() < rounding * unit
    assert np.abs(error[:n] - corpus.flat(row["stderr"].values)).max() < rounding * unit
    ours, ours_error = view._losses.column(k, normalize)
    np.testing.assert_allclose(ours[:n], corpus.flat(row["influence"].values), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        ours_error[:n], corpus.flat(row["stderr"].values), rtol=1e-3, atol=1e-6
    )


def test_last_rows_are_the_sums_of_examples():
    tree = synthetic_tree(draws=80)
    view = InfluenceExplorer(tree, normalize=False)
    corpus = view._losses.corpus
    k = corpus.find("train/0", 4)
    value, _ = browser_row(view, k, False)
    sums = [value[a:b].sum() for a, b in zip(corpus.start[:-1], corpus.start[1:], strict=True)]
    scale = np.abs(value[: len(corpus)]).max()
    np.testing.assert_allclose(value[len(corpus) :], sums, atol=0.02 * scale)


def test_the_query_sets_the_focus_and_an_unknown_one_is_refused():
    view = InfluenceExplorer(synthetic_tree(), query=("train/1", 3))
    assert view.focus.focus == {"example": "train/1", "token": 3}
    with pytest.raises(slt.InputError, match="token index"):
        InfluenceExplorer(synthetic_tree(), query=("train/1", 300))


def test_sources_are_those_of_train():
    view = InfluenceExplorer(synthetic_tree(), query="train/0", train=["train/1", "train/2"])
    corpus = view._losses.corpus
    assert corpus.examples == ("train/1", "train/2", "train/0")
    assert view._losses.ranked.tolist() == [True, True, False]
    view.focus.on("train/0", 2)
    assert {corpus.example_of(k) for k, _, _ in view.top(50)} <= {0, 1}


def test_several_probes_are_shown_together():
    tree = synthetic_tree()
    other = synthetic_tree(probe="held-out", length=20, seed=5)
    both = xr.DataTree.from_dict(
        {
            **{g: n.to_dataset() for g, n in (("/sampling", tree["sampling"]),)},
            "/probe/train": tree["probe/train"].to_dataset(),
            "/probe/held-out": other["probe/held-out"].to_dataset(),
        }
    )
    view = InfluenceExplorer(both)
    corpus = view._losses.corpus
    assert set(corpus.examples) == {
        *(f"train/{i}" for i in range(3)),
        *(f"held-out/{i}" for i in range(3)),
    }
    joint = slt.influence(both, query="train", train="held-out", normalize=True)
    k, j = corpus.find("train/0", 2), corpus.find("held-out/1", 7)
    place = {"example": "train/0", "token": 2, "example_": "held-out/1", "token_": 7}
    wanted = float(joint["influence"].sel(place))
    assert browser_row(view, k, True)[0][j] == pytest.approx(wanted, abs=0.01)


def test_diverged_chains_are_left_out_and_named():
    tree = synthetic_tree()
    tree["sampling"][names.STATUS][3] = names.STATUS_LOSS
    probe = tree["probe/train"].to_dataset().copy(deep=True)
    probe[names.LOSS][1] = np.nan
    tree["probe/train"] = xr.DataTree(probe)
    view = InfluenceExplorer(tree)
    said = " ".join(view.meta["notes"])
    assert "chain 1 (no two finite draws)" in said and "chain 3 (diverged" in said
    assert view._losses.traces.chains == 2


def test_a_loss_that_does_not_vary_has_no_influence():
    probe = synthetic_tree()["probe/train"].to_dataset().copy(deep=True)
    probe[names.LOSS][:, :, 0, 2] = 1.5
    view = InfluenceExplorer(probe)
    k = view._losses.corpus.find("train/0", 3)
    assert np.isnan(browser_row(view, 0, True)[0][k])
    assert any("constant loss" in text for text in view.meta["notes"])


def test_too_many_losses_are_thinned_and_then_refused(monkeypatch):
    tree = synthetic_tree(draws=100)
    series = 30 + 3
    monkeypatch.setattr(module, "STATE_BYTES", series * 100)
    view = InfluenceExplorer(tree)
    assert view.meta["draws"] == 100 and view._losses.thinned == 4
    assert any("every 4th of 400 draws" in text for text in view.meta["notes"])
    monkeypatch.setattr(module, "STATE_BYTES", series * 40)
    with pytest.raises(slt.InputError, match="30 tokens in 3 examples x 400 draws"):
        InfluenceExplorer(tree)


def test_array_probes_have_one_token_an_example():
    rng = np.random.default_rng(0)
    data = xr.Dataset(
        {
            names.LOSS: (("chain", "draw", "example"), rng.standard_normal((3, 40, 5))),
            names.INIT_LOSS: (("example",), np.zeros(5)),
            names.LABEL: (("example",), ["seven", "one", "four", "two", "nine"]),
        },
        coords={"example": [f"digits/{i}" for i in range(5)]},
    )
    view = InfluenceExplorer(data)
    assert view._losses.corpus.text == ("seven", "one", "four", "two", "nine")


def test_fallback_names_query_sources_and_method():
    view = InfluenceExplorer(synthetic_tree(), query=("train/0", 2))
    html = view.fallback()
    assert "negative (blue) = helpful" in html and "8-bit precision" in html
    assert "<script" not in html and "train/0 · 2" in html
    assert "InfluenceExplorer: 30 tokens, 200 draws" in view.describe()
