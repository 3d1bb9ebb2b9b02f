"""Probes in half precision: how far losses move, and that nothing else does."""

import numpy as np
import pytest
import torch

import slt_notebook as slt

SETTINGS = {
    "kernel": slt.SGLD(1e-4), "nbeta": 30.0, "gamma": 300.0, "chains": 2, "draws": 24,
    "batch_size": 4, "seed": 0, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs():
    model, tokenizer = slt.load("tiny-lm")
    texts = slt.probe_texts("tiny-lm")
    data = slt.text_probe("data", texts, tokenizer, length=64)
    probe = slt.text_probe("probe", texts, tokenizer, length=64).take(12)
    loss = slt.causal_lm(model)
    return {
        dtype: slt.sample(loss, data, probes=[probe], probe_dtype=dtype, **SETTINGS).tree
        for dtype in ("float32", "float16", "bfloat16")
    }


@pytest.mark.parametrize(("dtype", "limit"), [("float16", 0.004), ("bfloat16", 0.02)])
def test_losses_move_by_no_more_than_is_said(runs, dtype, limit):
    """11 bits of mantissa keep .004 nat rms; 8 do not, with logits of up to 19 in this model."""
    whole, half = runs["float32"], runs[dtype]
    for name in ("loss", "init_loss", "distance", "virial"):  # the chains stay as they are
        np.testing.assert_array_equal(whole["sampling"][name], half["sampling"][name])
    for name in ("loss", "init_loss"):
        one, other = whole["probe/probe"][name].values, half["probe/probe"][name].values
        assert 0 < np.sqrt(np.nanmean((other - one) ** 2)) <= limit
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_influence_moves_by_less_than_its_own_error(runs, dtype):
    one, other = (
        slt.influence(runs[d], query="probe", train="probe", stderr=True)
        for d in ("float32", dtype)
    )
    change = np.abs((other["influence"] - one["influence"]).values)
    known = np.isfinite(change)
    assert known.sum() > 10_000 and (change < one["stderr"].values)[known].mean() > 0.99


def test_the_dtype_is_part_of_the_run(tmp_path):
    loss = slt.loss_fn({"w": torch.ones(3)}, lambda p, b: (b["inputs"] @ p["w"]).square())
    data = slt.array_probe("d", np.ones((8, 3), "f"), np.ones(8, "f"))
    settings = {"draws": 2, "batch_size": 4, "store": tmp_path / "a", "progress": False}
    slt.sample(loss, data, probes=[data], probe_dtype="bfloat16", **settings)
    with pytest.raises(slt.StoreMismatch, match="probe_dtype"):
        slt.sample(loss, data, probes=[data], **settings)
    with pytest.raises(slt.InputError, match="float32"):
        slt.sample(loss, data, probes=[data], probe_dtype="float8", **{**settings, "store": None})
