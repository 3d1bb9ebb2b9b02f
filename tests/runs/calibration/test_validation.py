"""The confirming run finds the exact value, notices what has not converged, and ends."""

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.runs.calibration import validation as module
from slt_notebook.runs.plan.settings import Settings, Speed

B = slt.benchmarks


def confirmed(problem, step, steps=400, precision=0.1):
    kernel = slt.SGHMC(step_size=step, friction=0.2)
    settings = Settings(kernel=kernel, nbeta=100.0, gamma=3.0, batch_size=20)
    return module.confirm(
        problem.loss, problem.data, "full", settings, Speed(), steps=steps, precision=precision
    )


@pytest.fixture(scope="module")
def problem():
    return B.linear_gaussian(3, 20)


def test_the_interval_holds_the_exact_value(problem):
    found = confirmed(problem, 2e-3)
    assert found.ok, found.why
    low, high = found.interval
    assert low <= problem.exact(100.0, 3.0) <= high
    assert found.burnin == found.steps // 2 and found.mcse > 0
    # Monte Carlo error and both changes are in the width.
    assert high - found.mean >= found.mean * (abs(found.doubled) + abs(found.halved))


def test_a_chain_that_creeps_is_doubled_and_refused(problem, monkeypatch):
    monkeypatch.setattr(module, "DOUBLINGS", 1)
    found = confirmed(problem, 1e-8, steps=100, precision=0.02)
    assert not found.ok and found.steps == 200 and "still changing" in found.why


def test_divergence_ends_it_at_once(problem):
    found = confirmed(problem, 10.0)
    assert not found.ok and found.why.startswith("diverged") and found.steps == 400
    assert np.isnan(found.mean)
