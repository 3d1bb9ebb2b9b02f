"""What losses declare, and that a loss object that declares nothing is sampled all the same."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook.core.capabilities import Capabilities, capabilities
from slt_notebook.models.losses.half_precision import probe_loss
from tests.runs.problems import language, regression

SETTINGS = {
    "kernel": slt.SGLD(1e-3), "nbeta": 20.0, "gamma": 5.0, "chains": 2, "draws": 3, "seed": 1,
    "batch_size": 8, "progress": False,
}  # fmt: skip


@dataclass(frozen=True)
class Own:
    """A loss of somebody's own, without capabilities."""

    inner: Any

    @property
    def params(self):
        return self.inner.params

    def __call__(self, params, batch):
        return self.inner.function(params, batch)

    def evaluate(self, params, batch):
        with torch.no_grad():
            return self(params, batch)

    def check(self, data):
        return None

    def to(self, device):
        return self


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_loss_object_without_capabilities_draws_the_same(chunk):
    loss, data, _, _ = regression()
    one, other = (
        slt.sample(each, data, probes=[data], chain_chunk=chunk, **SETTINGS).tree
        for each in (loss, Own(loss))
    )
    for path in ("sampling", "probe/train"):
        np.testing.assert_array_equal(one[path].loss, other[path].loss)


def test_what_is_declared():
    text, data = language()[1:]
    array = slt.supervised(torch.nn.Linear(2, 1), lambda out, y: (out[:, 0] - y).square())
    plain, closed = (
        slt.loss_fn({"w": [1.0]}, lambda p, b: b["inputs"] * p["w"], gradient=gradient)
        for gradient in (None, lambda p, b: (p["w"], p))
    )
    for loss in (text, array, plain, closed):
        assert isinstance(loss.capabilities, Capabilities)
    assert [capabilities(loss).gradient is not None for loss in (plain, closed)] == [False, True]
    restricts = [capabilities(x).restrict is not None for x in (text, array, plain)]
    assert restricts == [True, False, False]
    for loss in (text, array):  # the module's parameters are those of the loss
        names = dict(capabilities(loss).module().named_parameters())
        assert set(names) == set(loss.params)
    assert capabilities(plain).module is None and capabilities(plain).batched is plain


def test_half_precision_changes_evaluations_alone():
    text, data = language()[1:]
    half = capabilities(probe_loss(text, "bfloat16"))
    batch = data.tensors("cpu")
    expected = probe_loss(text, "bfloat16").evaluate(text.params, batch)
    assert torch.equal(half.batched(text.params, batch).isnan(), expected.isnan())
    with torch.no_grad():
        got = half.traceable_evaluate()(text.params, batch)
    torch.testing.assert_close(got, expected, equal_nan=True)
    assert not torch.equal(got.nan_to_num(), text.evaluate(text.params, batch).nan_to_num())
