"""The same run on a GPU: the law is that of the CPU, and chains do not see each other."""

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook.core import streams
from tests.runs.problems import language, regression

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_noise_does_not_depend_on_who_else_is_there():
    together = streams.noise(0, (0, 1, 2), 5, 1000, "cuda")
    assert torch.equal(together[1:], streams.noise(0, (1, 2), 5, 1000, "cuda"))


def test_losses_at_the_center_are_those_of_the_cpu():
    _, loss, data = language()
    settings = {"draws": 3, "chains": 2, "batch_size": 4, "progress": False, "probes": [data]}
    runs = [slt.sample(loss, data, device=d, **settings).tree for d in ("cpu", "cuda")]
    a, b = (r["probe/train"].init_loss.values for r in runs)
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_the_llc_agrees_with_the_cpu_within_errors():
    loss, data, *_ = regression()
    settings = {"kernel": slt.SGLD(0.01), "nbeta": 30.0, "gamma": 1.0, "chains": 64, "draws": 300}
    found = []
    for device in ("cpu", "cuda"):
        run = slt.sample(
            loss, data, device=device, burnin=100, batch_size=len(data), progress=False, **settings
        )
        found.append(slt.llc(run))
    difference = abs(float(found[0]["mean"] - found[1]["mean"]))
    assert difference < 4 * float(found[0]["mcse"] ** 2 + found[1]["mcse"] ** 2) ** 0.5
