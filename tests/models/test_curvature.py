"""The trace of the Hessian is the exact one."""

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook.errors import InputError
from slt_notebook.models.curvature import hessian_trace


def quadratic(matrix):
    m = torch.as_tensor(matrix, dtype=torch.float32)
    function = lambda p, b: (p["w"] @ m @ p["w"])[None] / 2 + 0 * b["inputs"]
    loss = slt.loss_fn({"w": torch.zeros(len(m))}, function)
    return loss, slt.array_probe("one", np.zeros(3), np.zeros(3))


def test_a_diagonal_hessian_is_found_exactly():
    loss, data = quadratic(np.diag([0.5, 2.0, 7.0]))
    found = hessian_trace(loss, data, vectors=2)
    assert found.mean == pytest.approx(9.5, rel=1e-6) and found.stderr == pytest.approx(0, abs=1e-5)


def test_any_hessian_within_the_stated_error_and_in_blocks():
    a = np.random.default_rng(0).standard_normal((12, 12))
    loss, data = quadratic(a @ a.T)
    found = hessian_trace(loss, data, vectors=200, rows=2)
    assert abs(found.mean - np.trace(a @ a.T)) < 4 * found.stderr
    assert found.mean == pytest.approx(hessian_trace(loss, data, vectors=200).mean, rel=1e-5)


def test_a_language_model_has_one():
    model, _ = slt.load("tiny-lm", revision="step633")
    found = hessian_trace(slt.causal_lm(model), slt.token_probe("a", [list(range(20))]), vectors=2)
    assert np.isfinite(found.mean) and found.mean > 0


def test_one_vector_has_no_error():
    loss, data = quadratic(np.eye(2))
    with pytest.raises(InputError, match="2 or more"):
        hessian_trace(loss, data, vectors=1)
