"""The LLC that `calibrate` finds does not depend on the parametrization of the function.

    python -m tests.benchmarks.test_invariance

W_1 c, W_2 / c is the same network; its curvature and its distances are not.  The learning
coefficient is invariant, an estimate at a fixed setting need not be: the sampler is calibrated
anew.
"""

import itertools

import numpy as np
import pytest

from slt_notebook.benchmarks import dln, planted
from slt_notebook.runs.calibration.calibrate import calibrate

SCALES = (1 / 3, 1.0, 3.0)
WIDTHS, RANKS = [5, 3, 5], [3, 3]


def rescaled(scales=SCALES) -> tuple[float, dict[float, dict[str, float]]]:
    proof = dln.certificate(WIDTHS, RANKS)
    assert proof.certified
    rng = np.random.default_rng(0)
    weights = [planted._layer(rng, (b, a), 3) for a, b in itertools.pairwise(WIDTHS)]
    found = {}
    for scale in scales:
        scaled = [weights[0] * scale, weights[1] / scale]
        problem = planted.from_weights(scaled, proof, name=f"scaled by {scale:.2g}", ranks=RANKS)
        result = calibrate(problem.loss, problem.data, steps=600)
        assert result.ok, result.reason
        found[scale] = result.llc
    return proof.learning_coefficient, found


@pytest.mark.parametrize("scales", [SCALES[1:], pytest.param(SCALES, marks=pytest.mark.exhaustive)])
def test_the_calibrated_llc_does_not_depend_on_the_scale_of_the_layers(scales):
    truth, found = rescaled(scales)
    own = found[1.0]
    for value in found.values():
        error = np.hypot(value["mcse"], own["mcse"])
        assert abs(value["mean"] - own["mean"]) <= 2 * error
        assert value["lower"] <= truth <= value["upper"]


if __name__ == "__main__":
    truth, found = rescaled()
    print(f"exact {truth:g}")
    for scale, value in found.items():
        off = (value["mean"] - found[1.0]["mean"]) / np.hypot(value["mcse"], found[1.0]["mcse"])
        print(f"c = {scale:.2g}: {value['mean']:.3f} +- {value['mcse']:.3f}, off {off:+.1f} MCSE")
