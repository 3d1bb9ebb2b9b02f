"""Calibration: finds what is known, and is not fooled by noise that R-hat and ESS do not see."""

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook.errors import InputError
from slt_notebook.runs.calibration import calibrate as module
from slt_notebook.runs.calibration import verdicts
from slt_notebook.runs.calibration.calibrate import calibrate
from slt_notebook.runs.calibration.grid import curvature
from slt_notebook.runs.plan.settings import Speed

B = slt.benchmarks


def noisy_regression(examples=400, features=4, noise=2.0, seed=0):
    return B.linear_gaussian(features, examples, noise, seed)


@pytest.mark.parametrize(
    "problem", [B.linear_gaussian(8, 60), B.reduced_rank(6, 4, 5, 2)], ids=repr
)
def test_finds_a_known_answer_with_nothing_told(problem):
    found = calibrate(problem.loss, problem.data, steps=600, confirm=False)
    assert found.ok and found.evidence.trusted.sum() >= 1
    expected = problem.exact(found.nbeta, found.gamma)
    if np.isnan(expected):
        expected = problem.learning_coefficient
    # one cell's estimate: its stated error, and the 5 % of step bias that are let pass
    assert abs(found.llc["mean"] - expected) < 4 * found.llc["mcse"] + verdicts.BIAS * expected
    assert "R-hat" in found.reason and f"nbeta={found.nbeta:.4g}" in found.reason
    # and the settings reach the precision that they promise
    run = slt.sample(
        problem.loss, problem.data, seed=7, progress=False, **found.settings()
    )  # fmt: skip
    again = slt.llc(run.tree)
    assert abs(float(again["mean"]) - expected) < 4 * float(again["mcse"]) + 0.05 * expected
    assert float(again["mcse"]) < 3 * 0.05 * expected


def test_the_curvature_is_the_largest_eigenvalue_of_the_hessian():
    problem = B.linear_gaussian(8, 60)
    x = problem.data.fields["inputs"]
    expected = np.linalg.eigvalsh(x.T @ x / 60)[-1]
    got = curvature(problem.loss, problem.data, "full", 60, 0, Speed(device="cpu"))
    assert got == pytest.approx(expected, rel=0.05)
    before = {k: v.clone() for k, v in problem.loss.params.items()}
    assert all(torch.equal(before[k], problem.loss.params[k]) for k in before)


def test_batch_noise_is_found_where_rhat_and_ess_see_nothing():
    """Batches of one example at a large nbeta: the chain settles, agrees and is far too hot."""
    problem = noisy_regression()
    settings = {"nbetas": (3000.0,), "gammas": (100.0,), "steps": 1200, "rounds": 1}
    found = calibrate(problem.loss, problem.data, batch_size=1, **settings)
    assert not found.ok and found.kernel is None
    assert found.reason.startswith("no trustworthy setting found, because")
    largest = found.evidence.isel(gamma=0, nbeta=0, share=-1)
    assert float(largest.rhat) < 1.2 and float(largest.ess) > 20  # nothing to be seen there
    assert float(largest.llc) > 10 * problem.exact(3000.0, 100.0)
    said = set(found.evidence.verdict.values.ravel().tolist())
    hot = {"dominated by batch noise", "depends on the step size", "hotter than nbeta implies"}
    assert said & hot and "trusted" not in said
    assert "batches" in found.reason
    with pytest.raises(InputError, match="no trustworthy"):
        found.settings()
    # the same settings with exact gradients are fine
    whole = calibrate(problem.loss, problem.data, batch_size=400, confirm=False, **settings)
    assert whole.ok
    expected = problem.exact(3000.0, 100.0)
    assert abs(whole.llc["mean"] - expected) < 4 * whole.llc["mcse"] + verdicts.BIAS * expected


def test_weights_that_are_no_minimum_are_named():
    def function(params, batch):  # falls along w: no minimum anywhere
        return (params["w"] * batch["inputs"]).sum(-1)

    loss = slt.loss_fn({"w": torch.zeros(3)}, function)
    data = slt.array_probe("train", np.ones((10, 3)), np.zeros(10))
    found = calibrate(loss, data, nbetas=(10.0,), gammas=(5.0,), steps=200, rounds=1, confirm=False)
    assert not found.ok and "no minimum" in found.reason


def test_the_same_verdict_with_three_seeds_and_a_dataset_of_evidence():
    problem = B.linear_gaussian(6, 40)
    settings = {"nbetas": (100.0, 1000.0), "gammas": (1.0,), "steps": 500, "confirm": False}
    found = [calibrate(problem.loss, problem.data, seed=s, **settings) for s in range(3)]
    assert all(f.ok for f in found)
    evidence = found[0].evidence
    assert dict(evidence.sizes) == {"gamma": 1, "nbeta": 2, "share": 3, "chain": 2, "block": 40}
    assert evidence.share.values.tolist() == sorted(module.SHARES)
    steps = evidence.step_size.isel(gamma=0).values
    curvature = evidence.attrs["curvature"]
    for i, nbeta in enumerate((100.0, 1000.0)):
        np.testing.assert_allclose(steps[i], np.sort(module.SHARES) / (nbeta * curvature + 1.0))
    repeated = calibrate(problem.loss, problem.data, seed=0, **settings)
    assert evidence.identical(repeated.evidence)


def row(**changes):
    good = {
        "finite": True, "llc": 10.0, "mcse": 0.1, "rho_loc": 0.5, "rho_loc_error": 0.1,
        "drifts": False, "rhat": 1.01, "ess": 200.0, "halved": 0.01, "halved_error": 0.01,
        "virial": 1.02,
    }  # fmt: skip
    return {**good, **changes}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "trusted"),
        ({"finite": False}, "unstable"),
        ({"llc": -1.0}, "loss falls below w*"),
        ({"rho_loc": 1.5}, "dominated by batch noise"),
        ({"rho_loc": 0.95, "rho_loc_error": 0.01}, "dominated by localization"),
        ({"rho_loc": 0.95}, "trusted"),  # within two errors of 0.8
        ({"rho_loc": np.nan, "rho_loc_error": np.nan}, "trusted"),
        ({"drifts": True}, "still drifting"),
        ({"rhat": 1.4}, "chains disagree"),
        ({"ess": 5.0}, "too few draws"),
        ({"halved": 0.2}, "depends on the step size"),
        ({"halved": 0.08, "halved_error": 0.045}, "trusted"),
        ({"halved": 0.2, "halved_error": 0.15}, "too few draws"),
        ({"virial": 1.4}, "hotter than nbeta implies"),
        ({"halved": np.nan}, "half the step is unstable"),
    ],
)
def test_each_verdict_has_its_cause(changes, verdict):
    assert verdicts.verdict(row(**changes), row()) == verdict


def test_what_a_longer_run_confirms_may_be_less_sure_at_first():
    assert (
        verdicts.verdict(row(halved=0.2, halved_error=0.15), row(), verdicts.SCREENED) == "trusted"
    )
    unsure = row(halved=0.2, halved_error=0.3)
    assert verdicts.verdict(unsure, row(), verdicts.SCREENED) == "too few draws"


def test_batches_so_small_that_they_heat_the_chain_are_refused():
    # At a step of 1e-3 the LLC is four times too large here, with an R-hat of 1.000.
    problem = B.linear_gaussian(features=20, examples=2000, noise=1.0)
    nbeta = 2000 / np.log(2000)
    found = slt.calibrate(
        problem.loss,
        problem.data,
        batch_size=8,
        nbetas=(nbeta,),
        gammas=(1.0,),
        steps=800,
        rounds=1,
    )
    assert not found.ok and "no trustworthy setting" in found.reason


def test_the_smallest_step_checks_the_next_and_is_not_chosen():
    assert verdicts.verdict(row(), None) == "reference for next step"


def test_bad_input():
    problem = B.linear_gaussian(3, 20)
    for bad in (
        {"kernel": slt.SGLD(metric=slt.RMSProp())},
        {"nbetas": (0.0,)},
        {"gammas": (-1.0,)},
        {"shares": (0.5, 0.3)},
        {"shares": (8.0, 4.0)},
        {"chains": 1},
        {"steps": 10},
        {"precision": 0.0},
    ):
        with pytest.raises(InputError, match="What to do"):
            calibrate(problem.loss, problem.data, **bad)
