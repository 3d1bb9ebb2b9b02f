"""A strip shows the numbers that it is given, with their uncertainty and their true text."""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.views.base.widget import HTML_LIMIT, bundle, pack, unpack
from slt_notebook.views.text.token_gain import loss_gain
from tests.cases import synthetic_tree


def values(shape=(2, 5), seed=0):
    rng = np.random.default_rng(seed)
    return xr.DataArray(
        rng.standard_normal(shape),
        dims=("example", "token"),
        coords={"example": ["a/0", "a/1"], "token": np.arange(1, 6)},
        name="score",
        attrs={"units": "nats"},
    )


TEXT = [[" the", "\n", "<img src=x onerror=alert(1)>", "é", "\t"], ["a", "b", "c", "d", "e"]]


def test_payload_carries_the_numbers_and_the_text_exactly():
    given = values()
    error = abs(given) * 0.1
    strip = slt.TokenStrip(given, TEXT, error=error)
    data = unpack(strip.payload, strip.meta)
    np.testing.assert_array_equal(data["value0"], given.values.ravel().astype("f4"))
    np.testing.assert_array_equal(data["error0"], error.values.ravel().astype("f4"))
    assert data["text"] == [word for row in TEXT for word in row]
    assert data["examples"] == ["a/0", "a/1"]
    assert data["token"].tolist() == [1, 2, 3, 4, 5] * 2
    assert data["start"].tolist() == [0, 5, 10]
    assert strip.meta["metrics"][0]["unit"] == "nats"


def test_padding_is_left_out_and_nan_inside_the_text_is_kept():
    given = values()
    given[1, 3:] = np.nan
    given[0, 1] = np.nan
    strip = slt.TokenStrip(given, [TEXT[0], ["a", "b", "c"]])
    data = unpack(strip.payload, strip.meta)
    assert data["start"].tolist() == [0, 5, 8]
    assert np.isnan(data["value0"]).tolist() == [False, True] + [False] * 6


def test_one_example_of_plain_numbers():
    strip = slt.TokenStrip([0.5, -1.0], ["a", "b"])
    assert "2 tokens in 1 examples" in strip.describe()


def test_loss_gain_is_the_mean_rise_with_an_error_that_covers():
    """1,000 independent draws of N(mu_t, 1): |gain - mu| <= 5 standard errors for all 32 tokens."""
    rng = np.random.default_rng(1)
    rise = rng.standard_normal((2, 16))
    loss = 3 + rise + rng.standard_normal((4, 250, 2, 16))
    data = xr.Dataset(
        {
            names.LOSS: (("chain", "draw", "example", "token"), loss),
            names.INIT_LOSS: (("example", "token"), np.full((2, 16), 3.0)),
        }
    )
    table, about = loss_gain(data)
    assert np.abs((table["gain"] - rise) / table["error"]).max() < 5
    assert np.allclose(table["error"], 1 / np.sqrt(1000), rtol=0.5)
    assert 1.9 < about["z"] < 2.4


def test_a_diverged_chain_is_left_out_and_named():
    tree = synthetic_tree()
    probe = tree["probe/train"].to_dataset().copy(deep=True)
    probe[names.LOSS][2] = np.nan
    strip = slt.TokenStrip(probe)
    assert any("chain 2" in text for text in strip.meta["notes"])
    table, about = loss_gain(probe)
    kept = probe[names.LOSS].isel(chain=[0, 1, 3]).mean(("chain", "draw")) - probe[names.INIT_LOSS]
    np.testing.assert_allclose(table["gain"], kept, rtol=1e-4, atol=1e-5)
    assert about["chains"] == 3


def test_a_chain_that_the_sampler_marked_never_enters_the_average():
    tree = synthetic_tree()
    tree["sampling"][names.STATUS][1] = names.STATUS_GRADIENT
    _table, about = loss_gain(tree)
    assert about["chains"] == 3
    assert "gradient" in about["excluded"][1]


def test_several_variables_become_metrics_with_their_errors():
    given = values()
    data = xr.Dataset({"score": given, "score_stderr": abs(given), "other": given * 2})
    strip = slt.TokenStrip(data, TEXT)
    assert [m["label"] for m in strip.meta["metrics"]] == ["score", "other"]
    assert [m["error"] for m in strip.meta["metrics"]] == [True, False]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: slt.TokenStrip(values(), TEXT, titel="x"), "did you mean 'title'"),
        (lambda: slt.TokenStrip(values().rename(token="position")), "(example, token)"),
        (lambda: slt.TokenStrip(values(), ["a", "b"]), "one string a token"),
        (lambda: slt.TokenStrip(values(), TEXT, error=[1.0]), "one standard error a value"),
        (lambda: slt.TokenStrip(values(), TEXT, limit=-1), "positive"),
        (lambda: slt.TokenStrip(values(), TEXT, scale="rainbow"), "'diverging' or"),
        (lambda: slt.TokenStrip(values(), TEXT, focus=3), "Focus"),
        (lambda: slt.TokenStrip(values(), TEXT, examples=["a", "a"]), "different ids"),
        (lambda: slt.TokenStrip("text"), "a DataArray (example, token)"),
    ],
)
def test_bad_input_is_refused_in_words(call, words):
    with pytest.raises(slt.InputError) as caught:
        call()
    assert words in str(caught.value)


def test_output_has_a_script_free_twin_and_plain_text():
    strip = slt.TokenStrip(values(), TEXT)
    data, _ = strip._repr_mimebundle_()
    assert "<script" not in data["text/html"] and "<img" not in data["text/html"]
    assert "&lt;img src=x onerror=alert(1)&gt;" in data["text/html"]
    assert data["text/plain"].startswith("TokenStrip: score nats of 10 tokens")


def test_html_stays_below_its_limit():
    words = ["<&>" * 10] * 30_000
    strip = slt.TokenStrip(np.ones(30_000), words)
    data, _ = strip._repr_mimebundle_()
    assert len(data["text/html"].encode()) <= HTML_LIMIT
    assert "left out here" in data["text/html"]


def test_pack_gives_back_what_it_got_and_refuses_what_it_would_round():
    arrays = {
        "a": np.arange(3, dtype="i1"),
        "b": np.linspace(0, 1, 5, dtype="f4").reshape(5, 1),
        "words": ["x", "\ud800", "é"],
    }
    payload, meta = pack(arrays, title="t")
    back = unpack(payload, meta)
    np.testing.assert_array_equal(back["b"], arrays["b"])
    assert back["words"] == arrays["words"] and meta["title"] == "t"
    assert all(entry["offset"] % 8 == 0 for entry in meta["arrays"].values())
    with pytest.raises(slt.InputError, match="astype"):
        pack({"x": np.zeros(2, "f2")})


def test_a_missing_bundle_says_how_to_build_it():
    assert "npm --prefix widgets" in bundle("no_such_widget")
