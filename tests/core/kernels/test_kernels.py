"""SGLD against its closed forms, and the Metropolis acceptance against a scalar reference."""

import numpy as np
import pytest
import torch

from slt_notebook.core.kernels.metrics import Fixed
from slt_notebook.core.kernels.sgld import SGLD, acceptance
from slt_notebook.core.types import Evaluation


def quadratic(curvature):
    """U = sum a w^2 / 2 for every chain, as an `evaluate`."""

    def evaluate(position):
        grad = curvature * position
        value = (curvature * position.square()).sum(1) / 2
        return Evaluation(value, grad, value, grad, torch.ones(len(position), dtype=torch.int64))

    return evaluate


def affine(kernel, curvature):
    """(A, B) with w' = A w + B xi for one coordinate, read off from three steps."""
    evaluate = quadratic(torch.tensor([curvature], dtype=torch.float64))

    def after(w, xi):
        start = kernel.init(torch.tensor([[w]], dtype=torch.float64))
        return kernel.step(start, evaluate, torch.tensor([[xi]], dtype=torch.float64))[0].position

    zero = after(0.0, 0.0).item()
    assert zero == 0
    return after(1.0, 0.0).item(), after(0.0, 1.0).item()


@pytest.mark.parametrize("curvature", [0.5, 3.0, 20.0])
def test_sgld_stationary_variance_is_the_documented_one(curvature):
    step = 0.05
    a, b = affine(SGLD(step), curvature)
    lyapunov = b**2 / (1 - a**2)
    assert lyapunov == pytest.approx(1 / (curvature * (1 - step * curvature / 4)), rel=1e-12)


def test_sgld_bias_is_of_first_order_in_the_step():
    biases = []
    for step in (0.04, 0.02, 0.01):
        a, b = affine(SGLD(step), 3.0)
        biases.append(3.0 * b**2 / (1 - a**2) - 1)
    assert biases[0] / biases[1] == pytest.approx(2, abs=0.06)
    assert biases[1] / biases[2] == pytest.approx(2, abs=0.03)


def test_metric_scales_drift_by_g_and_noise_by_its_root():
    a, b = affine(SGLD(0.1, Fixed(0.25)), 2.0)
    assert a == pytest.approx(1 - 0.1 / 2 * 0.25 * 2)
    assert b == pytest.approx((0.1 * 0.25) ** 0.5)


def test_acceptance_equals_a_scalar_reference_and_its_closed_form():
    a = 3.0
    for step in (0.4, 0.04, 0.004):
        w, xi = 0.7, 0.9
        new = w - step / 2 * a * w + step**0.5 * xi
        u = lambda x: a * x * x / 2
        q = lambda x, y, s=step: -((y - x + s / 2 * a * x) ** 2) / (2 * s)
        expected = min(1, np.exp(u(w) - u(new) + q(new, w) - q(w, new)))
        evaluate = quadratic(torch.tensor([a]))
        at = lambda x: torch.tensor([[x]])
        got = acceptance(evaluate(at(w)), evaluate(at(new)), torch.tensor([[step]]), at(w), at(new))
        assert got.item() == pytest.approx(expected, abs=2e-6)
        # On a quadratic the exponent collapses to (step a^2 / 8)(w^2 - w'^2).
        closed = min(1, np.exp(step * a**2 / 8 * (w**2 - new**2)))
        assert got.item() == pytest.approx(closed, abs=2e-6)
