"""Activation and gradient kernels are what one computes by hand."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import slt_notebook as slt
from slt_notebook.toys.fit import mlp

CE = partial(F.cross_entropy, reduction="none")


def cosine(a):
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    return a @ a.T


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 3)).astype("f4")
    y = np.array([0, 1, 2, 0, 1, 2, 0])
    return mlp(3, 5, 4, 3, activation=nn.Tanh), slt.array_probe("x", x, y)


def test_activations_by_hand(problem):
    module, probe = problem
    x = torch.from_numpy(probe.fields["inputs"])
    first = torch.tanh(module[0](x)).detach()
    second = torch.tanh(module[2](first)).detach()
    found = slt.activation_kernel(module, probe, rows=3)
    assert np.allclose(found, cosine(second.numpy()), atol=1e-6)
    assert np.allclose(slt.activation_kernel(module, probe, layer="1"), cosine(first.numpy()))
    same = slt.activation_kernel(slt.supervised(module, CE), probe)
    assert np.allclose(same, found)
    assert not module[4]._forward_pre_hooks, "the user's module is left alone"


def test_gradients_of_a_linear_classifier_by_hand():
    """`g_i = (p_i - e_y) x_i'`, so that the products are those of residuals times inputs."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((6, 4)).astype("f4"), np.array([0, 1, 2, 2, 1, 0])
    module = nn.Linear(4, 3, bias=False)
    residual = torch.softmax(module(torch.from_numpy(x)), 1).detach().numpy() - np.eye(3)[y]
    dot = (residual @ residual.T) * (x @ x.T)
    loss, probe = slt.supervised(module, CE), slt.array_probe("x", x, y)
    assert np.allclose(slt.gradient_kernel(loss, probe, normalize=False), dot, atol=1e-6)
    size = np.sqrt(np.diag(dot))
    assert np.allclose(slt.gradient_kernel(loss, probe), dot / np.outer(size, size), atol=1e-5)


def test_strong_localization_gives_the_gradient_kernel(problem):
    """Cov(l_i, l_j) -> g_i . g_j / gamma; of what 4,000 free draws show, within 5 errors."""
    module, probe = problem
    loss = slt.supervised(module, CE)
    run = slt.sample(
        loss, probe, probes=[probe], kernel=slt.SGLD(2e-6), nbeta=0.0, gamma=1e6, draws=1000,
        burnin=5, batch_size=7, progress=False,
    )  # fmt: skip
    kernel = slt.loss_kernel(run)
    away = np.abs(kernel.values - slt.gradient_kernel(loss, probe))
    off = ~np.eye(7, dtype=bool)
    assert (away[off] < 5 * kernel.stderr.values[off] + 0.01).all()


def test_an_example_without_gradient_is_0(problem):
    loss = slt.loss_fn({"w": 1.0}, lambda p, b: p["w"] * b["inputs"])
    probe = slt.array_probe("x", np.array([0.0, 2.0, -3.0]), np.zeros(3))
    assert slt.gradient_kernel(loss, probe).tolist() == [[0, 0, 0], [0, 1, -1], [0, -1, 1]]


def test_mistakes_are_refused(problem):
    module, probe = problem
    with pytest.raises(slt.InputError, match="did you mean '1'|submodule"):
        slt.activation_kernel(module, probe, layer="11")
    with pytest.raises(slt.InputError, match="without nn.Linear"):
        slt.activation_kernel(nn.Tanh(), probe)
    with pytest.raises(slt.InputError, match="GiB of gradients"):
        slt.gradient_kernel(slt.supervised(module, CE), probe, max_bytes=100)
    shared = nn.Sequential(module[0], nn.Linear(5, 5))
    shared.append(shared[1])
    with pytest.raises(slt.InputError, match="2 calls"):
        slt.activation_kernel(shared, probe)
