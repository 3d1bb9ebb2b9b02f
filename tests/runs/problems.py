"""Small problems that the tests of this room sample, and what their runs are compared by."""

import time

import numpy as np
import torch
import xarray as xr

import slt_notebook as slt
from slt_notebook.models.tiny_lm import TinyLMConfig, TinyLMForCausalLM

FAST = {"progress": False, "kernel": slt.SGLD(1e-3), "nbeta": 20.0, "gamma": 50.0}


def regression(examples=40, features=5, seed=0):
    """Linear regression at its minimum: (loss, data, X, residuals)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((examples, features))
    y = x @ rng.standard_normal(features) + 0.5 * rng.standard_normal(examples)
    w = np.linalg.lstsq(x, y, rcond=None)[0]

    def function(params, batch):
        return (batch["inputs"] @ params["w"] - batch["targets"]).square() / 2

    loss = slt.loss_fn({"w": torch.tensor(w)}, function)
    return loss, slt.array_probe("train", x, y), x, x @ w - y


def language(examples=12, length=16, vocabulary=61, seed=0):
    """A tiny random language model and ragged data: (model, loss, data)."""
    torch.manual_seed(seed)
    config = TinyLMConfig(vocabulary, 32, 2, 4, length)
    model = TinyLMForCausalLM(config)
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, vocabulary, rng.integers(4, length + 1)) for _ in range(examples)]
    rows[0] = rng.integers(0, vocabulary, length)
    return model, slt.causal_lm(model), slt.token_probe("train", rows)


def limited(limit: int | None = None, examples: int = 24):
    """Linear regression whose memory holds `limit` examples at once, over chains and batch."""
    rng = np.random.default_rng(0)
    data = slt.array_probe("d", rng.normal(size=(examples, 3)), rng.normal(size=examples))
    asked = []

    def loss(params, batch):
        x = batch["inputs"]
        rows = x.shape[0]
        if torch._C._functorch.is_batchedtensor(x):
            rows *= torch._C._functorch.get_unwrapped(x).shape[0]
        asked.append(rows)
        if limit is not None and rows > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 TiB")
        return (x @ params["w"] - batch["targets"]).square()

    return slt.loss_fn({"w": torch.ones(3)}, loss), data, asked


def same(a: xr.DataTree, b: xr.DataTree) -> None:
    for path in ("sampling", "probe/train"):
        one, two = a[path].to_dataset(), b[path].to_dataset()
        assert set(one.variables) == set(two.variables)
        for name in one.variables:
            assert one[name].identical(two[name]), (path, name)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def run_text(text, **changes):
    model, loss, data = text
    settings = {**FAST, "draws": 6, "burnin": 2, "thin": 2, "batch_size": 5, "chains": 4, **changes}
    return slt.sample(loss, data, probes=[data], **settings)
