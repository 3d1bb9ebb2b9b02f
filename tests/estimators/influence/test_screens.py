"""The screens find drift, disagreement, noise and mere geometry, and pass healthy runs."""

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook.errors import InputError
from slt_notebook.estimators.influence.influence import influence
from slt_notebook.estimators.influence.phases import phase_mixture
from slt_notebook.estimators.influence.scores import KEY, to_scores
from slt_notebook.estimators.influence.screens import screen
from tests import exact
from tests.cases import synthetic_tree


def losses(drift=0.0, offset=0.0, signal=1.0, seed=0, draws=300):
    rng = np.random.default_rng(seed)
    factors = np.random.default_rng(9).standard_normal((3, 25))
    x = signal * rng.standard_normal((4, draws, 3)) @ factors
    x += rng.standard_normal(x.shape)
    x += drift * np.linspace(0, 1, draws)[None, :, None]
    x += offset * np.arange(4)[:, None, None]
    return exact.probe_of(x.astype("f4"))


def verdicts(frame):
    return dict(zip(frame.check, frame.verdict, strict=True))


def test_a_good_run_passes():
    found = screen(losses(), unit="sequence")
    assert set(verdicts(found).values()) == {"ok"} and found.attrs["verdict"] == "ok"
    assert screen(synthetic_tree(draws=200)).attrs["verdict"] == "ok"


@pytest.mark.parametrize(
    ("options", "check", "verdict"),
    [
        ({"drift": 12}, "time trend", "fail"),
        ({"offset": 4}, "split R-hat", "fail"),
        ({"draws": 16}, "ESS of products", "warn"),
        ({"signal": 0}, "signal", "warn"),
    ],
)
def test_each_ill_is_named(options, check, verdict):
    found = screen(losses(**options), unit="sequence")
    assert verdicts(found)[check] == verdict
    row = found.set_index("check").loc[check]
    assert row["do"] and found.attrs["verdict"] in ("warn", "fail")


def test_the_share_of_noise_that_looks_like_signal_is_five_percent():
    value = screen(losses(signal=0, draws=800), unit="sequence").set_index("check").value
    assert 0.01 < value["signal"] < 0.1


def test_a_control_without_the_loss_shows_mere_geometry():
    assert (
        verdicts(screen(losses(), control=losses(seed=4), unit="sequence"))["nbeta = 0"] == "warn"
    )
    other = losses(signal=0, seed=5)
    assert verdicts(screen(losses(), control=other, unit="sequence"))["nbeta = 0"] == "ok"
    with pytest.raises(InputError, match="same"):
        screen(losses(), control=losses().isel(example=slice(5)), unit="sequence")


def test_a_control_of_the_same_seed_is_named():
    data = slt.array_probe("d", np.random.default_rng(0).standard_normal((8, 2)), np.zeros(8))
    loss = slt.loss_fn(
        {"w": torch.zeros(2)}, lambda p, b: (b["inputs"] @ p["w"] - b["targets"]).square()
    )
    run, same, other = (
        slt.sample(
            loss, data, probes=[data], nbeta=nbeta, gamma=10.0, chains=2, draws=30, batch_size=8,
            kernel=slt.SGLD(1e-3), seed=seed, progress=False,
        )
        for nbeta, seed in ((1.0, 3), (0.0, 3), (0.0, 4))
    )  # fmt: skip
    row = screen(run, control=same, unit="sequence").set_index("check").loc["nbeta = 0"]
    assert row.verdict == "warn" and "seed other than" in row["do"]
    row = screen(run, control=other, unit="sequence").set_index("check").loc["nbeta = 0"]
    assert "another seed" not in row["do"]


def test_the_mixture_of_two_phases_is_their_pooled_covariance():
    """Against draws that were really pooled; no tolerance but rounding."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal((1, 90, 6)) + rng.standard_normal(6)
    v = rng.standard_normal((1, 210, 6)) * 2 + rng.standard_normal(6)
    found = phase_mixture(exact.probe_of(u), exact.probe_of(v), [0.3])
    pooled = np.concatenate([u[0], v[0]])
    # Covariances by 1/n on both sides, where the identity is exact.
    terms = [np.cov(x[0].T, bias=True) for x in (u, v)]
    gap = u[0].mean(0) - v[0].mean(0)
    exactly = 0.3 * terms[0] + 0.7 * terms[1] + 0.21 * np.outer(gap, gap)
    np.testing.assert_allclose(np.cov(pooled.T, bias=True), exactly, rtol=1e-10)
    ours = 0.3 * terms[0] * 90 / 89 + 0.7 * terms[1] * 210 / 209 + 0.21 * np.outer(gap, gap)
    np.testing.assert_allclose(found.influence[0], -ours, rtol=1e-10)
    np.testing.assert_allclose(found.influence, found.within + found.between, rtol=1e-12)
    half = phase_mixture(exact.probe_of(u), exact.probe_of(v), np.linspace(0, 1, 11))
    assert int(np.abs(half.between).sum(["example", "example_"]).argmax("weight")) == 5
    with pytest.raises(InputError, match="0 to 1"):
        phase_mixture(exact.probe_of(u), exact.probe_of(v), [1.2])
    with pytest.raises(InputError, match="same examples"):
        phase_mixture(exact.probe_of(u), exact.probe_of(v[..., :4]))


def test_scores_reach_other_tools_with_their_sign(tmp_path):
    import json

    from safetensors.numpy import load_file

    found = influence(losses(), unit="sequence")
    path = to_scores(found, tmp_path / "s.safetensors")
    table = load_file(path)[KEY]
    np.testing.assert_array_equal(table, -found.influence.values)
    about = json.loads((tmp_path / "s.safetensors.json").read_text())
    assert about["columns"][3] == "train/3" and "positive = helpful" in about["sign"]
    tokens = to_scores(influence(synthetic_tree()), tmp_path / "t.safetensors")
    assert load_file(tokens)[KEY].shape == (33, 33)
    with pytest.raises(InputError, match="safetensors"):
        to_scores(found, tmp_path / "s.npz")
    with pytest.raises(InputError, match="queries by sources"):
        to_scores(losses().loss, tmp_path / "s.safetensors")


def test_kronfluence_reads_the_scores(tmp_path):
    analyzer = pytest.importorskip("kronfluence.analyzer", exc_type=ImportError)
    found = influence(losses(), unit="sequence")
    path = to_scores(found, tmp_path / "s.safetensors")
    read = analyzer.Analyzer.load_file(path)
    assert tuple(read[KEY].shape) == (25, 25)
