"""Small problems that the tests of this room sample."""

import numpy as np
import torch

import slt_notebook as slt
from slt_notebook.models.tiny_lm import TinyLMConfig, TinyLMForCausalLM


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
