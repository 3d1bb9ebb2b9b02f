"""A map has the points, places and coordinates that it was given, and refuses the rest."""

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.views.base.widget import unpack
from slt_notebook.views.maps import embedding as module
from tests.cases import synthetic_tree


def points(count=30, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 2))


def test_points_colours_and_images_travel():
    xy = points()
    view = slt.EmbeddingMap(
        {"UMAP": xy, "PCA": -xy},
        colors={"kind": ["a", "b", "b"] * 10, "signed": np.arange(30) - 10.0, "up": np.arange(30)},
        images=np.linspace(0, 1, 30 * 16).reshape(30, 4, 4),
        examples=[f"train/{i}" for i in range(30)],
        text=[f"point {i}" for i in range(30)],
    )
    data = unpack(view.payload, view.meta)
    np.testing.assert_allclose(data["x0"], xy[:, 0], rtol=1e-6)
    np.testing.assert_allclose(data["y1"], -xy[:, 1], rtol=1e-6)
    kind, signed, up = view.meta["coordinates"]
    assert kind["categories"] == ["b", "a"]  # the most common first
    assert [kind["categories"][c] for c in data["c0"][:3]] == ["a", "b", "b"]
    assert signed["low"] == -signed["high"] < 0 < up["high"] and up["low"] >= 0
    assert data["images"].max() == 255 and view.meta["images"] == [4, 4, 1]
    assert data["examples"][7] == "train/7" and data["label"][7] == "point 7"


def test_tokens_of_a_probe_keep_their_places_and_context():
    tree = synthetic_tree()
    flat = slt.embed(slt.kernel_map(tree, modes=4, unit="token"))
    view = slt.EmbeddingMap(flat, probe=tree)
    data = unpack(view.payload, view.meta)
    probe = tree["probe/train"]
    assert view.meta["count"] == 30 and view.meta["what"] == "token"  # 33 less 3 of padding
    k = next(
        i
        for i in range(30)
        if data["examples"][data["example"][i]] == "train/1" and data["token"][i] == 5
    )
    assert data["context"][k][1] == str(probe.token_text.values[1, 4])
    assert data["context"][k][2].startswith(str(probe.token_text.values[1, 5]))
    view.look_at(11 + 4)
    assert view.focus.focus == {"example": "train/1", "token": 5}
    assert "excluded" in view.meta["notes"][0]


def test_labels_of_a_probe_colour_first():
    tree = synthetic_tree()
    data = tree["probe/train"].to_dataset().assign(label=("example", ["x", "y", "x"]))
    flat = slt.embed(slt.kernel_map(data, modes=4, unit="token"))
    view = slt.EmbeddingMap(flat, probe=data, colors={"n": np.arange(33.0)})
    assert [c["name"] for c in view.meta["coordinates"]][:2] == ["label", "n"]
    sequences = slt.embed(slt.kernel_map(data, modes=4))
    view = slt.EmbeddingMap(sequences)
    assert next(c["name"] for c in view.meta["coordinates"]) == "label"
    assert unpack(view.payload, view.meta)["examples"] == ["train/0", "train/1", "train/2"]


def test_selection_speaks_of_the_points_given():
    xy = points()
    xy[3] = np.nan
    view = slt.EmbeddingMap(xy, examples=[f"e/{i}" for i in range(30)], selected=[3, 4, 9])
    assert view.meta["count"] == 29
    assert view.selection == [4, 9] and view.selected_ids == ["e/4", "e/9"]
    view.selected = [0, 28]
    assert view.selection == [0, 29]


def test_without_scripts_there_is_a_picture_and_counts():
    view = slt.EmbeddingMap(points(), colors={"<b>": ["<x>", "y"] * 15}, selected=[1])
    html = view.fallback()
    assert "<svg" in html and "&lt;x&gt;" in html and "<x>" not in html
    assert html.count("<circle") == 30
    assert len(slt.EmbeddingMap(points(50_000)).fallback()) < 200_000
    assert "colour by <b>" in view.describe()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"points": np.zeros((4, 3))}, "shape"),
        ({"colors": {"a": [1, 2]}}, "2 values of 'a'"),
        ({"images": np.zeros((3, 4, 4))}, "images of shape"),
        ({"images": np.zeros((30, 999, 999), "u1")}, "smaller"),
        ({"text": [("a", "b")] * 30}, "3 parts"),
        ({"examples": ["a"]}, "1 examples"),
        ({"colour": 1}, "did you mean 'colors'"),
        ({"points": {}}, "no layouts"),
        ({"points": {"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}}, "one length"),
        ({"points": points(29), "probe": synthetic_tree()}, "33 tokens"),
    ],
)
def test_mistakes_are_refused_in_words(options, words):
    with pytest.raises(slt.InputError, match=words):
        slt.EmbeddingMap(**{"points": points(), **options})


def test_too_many_points(monkeypatch):
    monkeypatch.setattr(module, "POINTS", 20)
    with pytest.raises(slt.InputError, match="at most 20"):
        slt.EmbeddingMap(points())
