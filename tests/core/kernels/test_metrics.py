"""Metrics against their formulas, written out by hand."""

import json

import numpy as np
import pytest
import torch

from slt_notebook.core.kernels.metrics import Adam, Fixed, Identity, RMSProp
from slt_notebook.core.kernels.sgld import SGLD
from slt_notebook.core.types import Evaluation
from slt_notebook.errors import InputError

GRADS = [torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 3.0]]), torch.tensor([[-1.0, 0.5]])]


def test_rmsprop_paper_form_by_hand():
    metric = RMSProp(decay=0.9, eps=0.1)
    state = metric.init(torch.zeros(1, 2))
    v = np.ones(2)
    for t, grad in enumerate(GRADS, 1):
        state, scale = metric.update(state, grad)
        v = 0.9 * v + 0.1 * grad.numpy()[0] ** 2
        expected = 1 / (np.sqrt(v / (1 - 0.9**t)) + 0.1)
        np.testing.assert_allclose(scale.numpy()[0], expected, rtol=1e-6)
        np.testing.assert_allclose(metric.current(state, scale).numpy()[0], expected, rtol=1e-6)


def test_rmsprop_devinterp_form_first_step():
    # devinterp's own pinned case: lr 1, nbeta 2, g 3 -> scaled gradient 7.5 (alpha 0.99, eps 0.1)
    metric = RMSProp(compat="devinterp")
    _, scale = metric.update(metric.init(torch.zeros(1, 1)), torch.tensor([[3.0]]))
    assert (scale * 2 * 3).item() * 0.5 == pytest.approx(7.5)


def test_adam_paper_form_by_hand_localization_outside_the_moments():
    """2507.21449, algorithm 2: the drift is gamma (w - w0) + nbeta m_hat, moments of g alone."""
    nbeta, gamma, eps = 7.0, 3.0, 0.01
    w = np.array([0.3, -0.2])
    state = SGLD(eps, Adam(0.8, 0.9, 0.1)).init(torch.tensor(w[None]))
    m, v = np.zeros(2), np.ones(2)
    rng = np.random.default_rng(0)
    for t, grad in enumerate(GRADS, 1):
        g, xi = grad.numpy()[0].astype(float), rng.standard_normal(2)

        def evaluate(position, g=g):
            loss_grad = torch.tensor(g[None])
            total = nbeta * loss_grad + gamma * position
            one = torch.ones(1)
            return Evaluation(one, loss_grad, one, total, one, torch.tensor([[nbeta]]))

        state, info = SGLD(eps, Adam(0.8, 0.9, 0.1)).step(state, evaluate, torch.tensor(xi[None]))
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        step = eps / (np.sqrt(v / (1 - 0.9**t)) + 0.1)
        total = nbeta * g + gamma * w
        np.testing.assert_allclose(info.grad.numpy()[0], total)  # the virial needs the true one
        w = w - step / 2 * (gamma * w + nbeta * m / (1 - 0.8**t)) + np.sqrt(step) * xi
        np.testing.assert_allclose(state.position.numpy()[0], w, rtol=1e-12)


@pytest.mark.parametrize("metric", [RMSProp(adapt="burnin"), Adam(adapt="burnin")], ids=str)
def test_after_burnin_g_stands_still_and_the_mean_does_not(metric):
    state = metric.init(torch.zeros(1, 2))
    state, during = metric.update(state, GRADS[0])
    settled = metric.after_burnin()
    before = settled.direction(state, GRADS[0])
    later, after = settled.update(state, GRADS[1])
    assert torch.equal(during, after)
    assert torch.equal(settled.current(later, GRADS[0]), during)
    moves = not torch.equal(settled.direction(later, GRADS[1]), before)
    assert moves  # RMSProp: the new gradient; Adam: its mean went on
    always = type(metric)()
    assert always.after_burnin() is always
    assert not torch.equal(always.update(state, GRADS[1])[1], during)


def test_fixed_takes_one_number_or_one_a_coordinate():
    assert Fixed(np.array([1.0, 4.0])) == Fixed([1, 4]) == Fixed(torch.tensor([1.0, 4.0]))
    assert json.dumps(Fixed(np.float64(2.0)).scale) == "2.0"
    position = torch.zeros(3, 2)
    assert Fixed((1, 4)).update((), position)[1].tolist() == [[1.0, 4.0]]
    with pytest.raises(InputError, match="2, one for each sampled coordinate"):
        Fixed((1.0, 2.0, 3.0)).init(position)
    for bad in (0.0, (1.0, -1.0), float("nan"), (), [[1.0]]):
        with pytest.raises(InputError, match="What to do"):
            Fixed(bad)


def test_bad_metrics_are_refused():
    for bad in ({"decay": 1.0}, {"eps": 0.0}, {"compat": "torch"}, {"adapt": "never"}):
        with pytest.raises(InputError, match="What to do"):
            RMSProp(**bad)
    for bad in ({"decay": 1.0}, {"mean_decay": -0.1}, {"eps": 0.0}, {"adapt": "no"}):
        with pytest.raises(InputError, match="What to do"):
            Adam(**bad)
    assert Identity().update((), torch.ones(2, 3))[1].item() == 1
