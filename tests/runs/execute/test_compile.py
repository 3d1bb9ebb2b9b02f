"""Compiling changes how fast a run is, and not what it draws."""

import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import slt_notebook as slt
from slt_notebook.core import compilation as compiled

pytestmark = [
    pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler"),
    # torch's own, while it compiles
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SETTINGS = {
    "nbeta": 10.0, "gamma": 100.0, "chains": 2, "draws": 4, "seed": 0, "progress": False,
}  # fmt: skip


def same(one, other):
    for group, name in (("sampling", "loss"), ("probe/p", "loss"), ("sampling", "distance")):
        np.testing.assert_allclose(one.tree[group][name], other.tree[group][name], rtol=2e-4)


@pytest.mark.slow
def test_a_language_model_compiled_draws_the_same():
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32,
    )  # fmt: skip
    loss = slt.causal_lm(GPTNeoXForCausalLM(config))
    ids = np.random.default_rng(0).integers(0, 64, (12, 24))
    data, probe = slt.token_probe("d", ids), slt.token_probe("p", ids[:6, :20])
    for chunk in (2, 1):  # vmap, and the loop
        settings = {**SETTINGS, "probes": [probe], "batch_size": 4, "chain_chunk": chunk}
        fast = slt.sample(loss, data, compile=True, **settings)
        same(fast, slt.sample(loss, data, **settings))
        assert len(fast.compiled) == 2 and "compiled in" in fast.compiled[0]
        assert fast.compiled[1] in fast.progress()["message"]


@pytest.mark.exhaustive
def test_a_module_compiled_draws_the_same():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    loss = slt.supervised(module, lambda out, y: F.mse_loss(out[:, 0], y, reduction="none"))
    rng = np.random.default_rng(0)
    data = slt.array_probe("d", rng.normal(size=(16, 3)), rng.normal(size=16))
    probe = slt.array_probe("p", rng.normal(size=(5, 3)), rng.normal(size=5))
    settings = {**SETTINGS, "probes": [probe], "batch_size": 8, "chain_chunk": 1}
    fast = slt.sample(loss, data, compile=True, **settings)
    same(fast, slt.sample(loss, data, **settings))
    assert [note.split(" compiled")[0] for note in fast.compiled] == [
        "gradient", "probe evaluation of 5 examples"
    ]  # fmt: skip


def test_bad_modes_and_machines_are_refused_before_work_starts(monkeypatch):
    loss = slt.loss_fn({"w": torch.ones(1)}, lambda p, b: p["w"] * b["inputs"])
    data = slt.array_probe("d", np.ones(4, "f"), np.ones(4, "f"))
    with pytest.raises(slt.InputError, match="reduce-overhead"):
        slt.sample(loss, data, compile="fast", draws=1, batch_size=2)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(slt.InputError, match="C\\+\\+ compiler"):
        slt.sample(loss, data, compile=True, draws=1, batch_size=2, device="cpu")
