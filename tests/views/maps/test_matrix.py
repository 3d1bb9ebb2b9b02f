"""The kernel view carries the kernel, in the order of its groups."""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.views.base.widget import unpack
from slt_notebook.views.maps import kernel_matrix as module
from tests.cases import synthetic_tree
from tests.estimators.kernel.test_kernel_map import probe


def entries(view):
    """The correlations that the browser finds, in the order on show."""
    data = unpack(view.payload, view.meta)
    q = data["q"].astype("f8")
    q /= np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-9)
    return data, q @ q.T


def test_pairs_are_those_of_the_kernel_up_to_eight_bits():
    data = probe(examples=30)
    group = np.array(["b", "a", "a"] * 10)
    view = slt.KernelMatrix(data, groups=group, pair=["train/4", "train/0"])
    sent, r = entries(view)
    order = [int(e.split("/")[1]) for e in view._ids]
    assert [group[k] for k in order] == sorted(group)
    exact = slt.loss_kernel(data, stderr=False).values[np.ix_(order, order)]
    assert np.abs(r - exact).max() < 0.01
    assert [view._ids[k] for k in view.pair] == ["train/4", "train/0"]
    np.testing.assert_allclose(sent["unit"] * 127, np.abs(view._z * sent["sd"]).max(0), rtol=1e-5)
    labels, means = view._blocks()
    a = np.flatnonzero(group == "a")
    block = slt.loss_kernel(data, stderr=False).values[np.ix_(a, a)]
    assert labels == ["a", "b"]
    assert means[0, 0] == pytest.approx(block[~np.eye(len(a), dtype=bool)].mean(), abs=1e-5)


def test_levels_make_a_tree():
    data = probe(examples=8)
    top = ["x", "x", "y", "y", "x", "y", "x", "y"]
    low = ["p", "q", "p", "p", "p", "r", "q", "p"]
    view = slt.KernelMatrix(data, groups=[top, low])
    tree = unpack(view.payload, view.meta)["tree"]
    found = [(n["name"], n["from"], n["to"], n["depth"]) for n in tree]
    assert found == [
        ("x", 0, 4, 0), ("p", 0, 2, 1), ("q", 2, 4, 1),
        ("y", 4, 8, 0), ("p", 4, 7, 1), ("r", 7, 8, 1),
    ]  # fmt: skip
    assert tree[0]["children"] == [1, 2] and tree[3]["children"] == [4, 5]


def test_clusters_find_what_was_planted():
    rng = np.random.default_rng(0)
    group = np.arange(40) % 3
    loss = rng.standard_normal((4, 60, 3))[..., group] + 0.3 * rng.standard_normal((4, 60, 40))
    tree = xr.Dataset(
        {
            names.LOSS: (("chain", "draw", "example"), loss.astype("f4")),
            names.INIT_LOSS: ("example", np.zeros(40, "f4")),
        },
        {"example": [f"e/{i}" for i in range(40)]},
    )
    view = slt.KernelMatrix(tree)
    top = [n for n in unpack(view.payload, view.meta)["tree"] if n["depth"] == 0]
    members = [{group[int(e[2:])] for e in view._ids[n["from"] : n["to"]]} for n in top]
    assert sorted(map(tuple, members)) == [(0,), (1,), (2,)]
    assert "average linkage" in view.describe()


def test_the_unit_by_its_old_keyword():
    tree = synthetic_tree()
    with pytest.warns(DeprecationWarning, match=r"KernelMatrix\(level=...\) is now unit=..."):
        old = slt.KernelMatrix(tree, level="token")
    assert old.payload == slt.KernelMatrix(tree, unit="token").payload


def test_tokens_leave_padding_out_and_constant_losses_count_for_nothing():
    tree = synthetic_tree()
    view = slt.KernelMatrix(tree, unit="token")
    assert len(view._names) == 30
    data = probe(examples=6).copy(deep=True)
    data[names.LOSS][..., 2] = 1.0
    view = slt.KernelMatrix(data, groups=["a"] * 3 + ["b"] * 3)
    assert any("1 constant loss excluded" in text for text in view.meta["notes"])
    _, means = view._blocks()
    exact = slt.loss_kernel(data, stderr=False).values
    assert means[0, 0] == pytest.approx(exact[0, 1], abs=1e-5)


def test_many_examples_start_closed_and_are_thinned_or_refused(monkeypatch):
    data = probe(examples=300)
    view = slt.KernelMatrix(data, groups=[str(i % 7) for i in range(300)])
    assert len(view.closed) == 7
    monkeypatch.setattr(module, "STATE_BYTES", 300 * 60)
    view = slt.KernelMatrix(data)
    assert view.meta["draws"] == 60 and any("Thinned" in t for t in view.meta["notes"])
    monkeypatch.setattr(module, "STATE_BYTES", 300 * 40)
    with pytest.raises(slt.InputError, match="kernel_map"):
        slt.KernelMatrix(data)


def test_without_scripts_there_is_a_table():
    view = slt.KernelMatrix(probe(examples=12), groups=["<a>", "b"] * 6)
    html = view.fallback()
    assert "&lt;a&gt;" in html and "<a>" not in html and "Mean correlation" in html


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": ["a"]}, "groups of shapes"),
        ({"names": ["a"]}, "1 names"),
        ({"pair": ["train/0", "train/99"]}, "two example ids"),
        ({"group": 1}, "did you mean 'groups'"),
        ({"unit": "word"}, "'token' or 'sequence'"),
    ],
)
def test_mistakes_are_refused_in_words(options, words):
    with pytest.raises(slt.InputError, match=words):
        slt.KernelMatrix(probe(examples=12), **options)
