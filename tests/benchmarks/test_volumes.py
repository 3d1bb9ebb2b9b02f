"""The volumes are exact, and show lambda and m as far as they can."""

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.benchmarks.volumes import BASINS, CUSP, NODE, REGULAR
from slt_notebook.errors import InputError
from slt_notebook.estimators.llc.codelength import fit_volume, redundancy


@pytest.mark.parametrize("basin", BASINS, ids=lambda b: b.name)
def test_volumes_against_counting(basin):
    rng = np.random.default_rng(0)
    w = rng.uniform(-1, 1, (2, 2_000_000))
    loss = basin.loss(*w)
    for eps in (0.5, 0.05, 1e-3):
        share, count = float(basin.volume(eps)), w.shape[1]
        error = np.sqrt(share * (1 - share) / count)
        assert abs((loss <= eps).mean() - share) < 4 * error


# (basin, decades of n, fitted lambda, fitted m)
TABLE = [
    (REGULAR, (2, 8), 1.000, 1.000),
    (NODE, (2, 8), 0.486, 1.68),
    (NODE, (4, 30), 0.498, 1.86),
    (NODE, (10, 200), 0.4999, 1.962),
    (CUSP, (10, 200), 0.2500, 1.000),
]


@pytest.mark.parametrize(("basin", "decades", "llc", "multiplicity"), TABLE)
def test_fitted_coefficients_are_those_of_the_table(basin, decades, llc, multiplicity):
    size = np.linspace(*decades, 200) * np.log(10)
    found = fit_volume(size, basin.log_volume(size))
    digits = 4 if decades[1] == 200 else 3
    assert round(found[0], digits) == pytest.approx(llc, abs=1.01 * 10**-digits)
    assert found[1] == pytest.approx(multiplicity, abs=0.006)  # the table's last digit


def test_a_code_has_the_length_that_the_volume_says():
    size = np.log(1e6)
    for basin in BASINS:
        code = -float(basin.log_volume(size))
        said = float(redundancy(1e6, basin.learning_coefficient, basin.multiplicity))
        assert abs(code - said) < 1.0  # O(1): log of the volume's own constant
    assert float(slt.redundancy(1000, 5 / 2)) == pytest.approx(2.5 * np.log(1000))


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_volume([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]),
        lambda: fit_volume([2.0, 3.0], [0.0, 0.0]),
        lambda: redundancy(1.0, 1.0, 2),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InputError):
        call()
