"""Keywords by the names that they had before go on working, with a warning."""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.estimators.influence.top_sources import top_sources
from tests.cases import synthetic_tree

TREE = synthetic_tree()
CALLS = {
    "influence": (lambda **o: slt.influence(TREE, **o), {"level": "sequence"}, "unit"),
    "influence, pooled": (lambda **o: slt.influence(TREE, **o), {"chains": "pool"}, "centering"),
    "top_sources": (lambda **o: top_sources(TREE, "train/1", **o), {"level": "sequence"}, "unit"),
    "group_influence": (
        lambda **o: slt.group_influence(TREE, np.array(["a", "a", "b"]), **o),
        {"level": "sequence"},
        "unit",
    ),
    "loss_kernel": (lambda **o: slt.loss_kernel(TREE, **o), {"level": "token"}, "unit"),
    "kernel_map": (lambda **o: slt.kernel_map(TREE, **o), {"level": "token"}, "unit"),
    "neighbours": (lambda **o: slt.neighbours(TREE, k=1, **o), {"level": "token"}, "unit"),
    "loss_moments": (lambda **o: slt.loss_moments(TREE, **o), {"level": "token"}, "unit"),
    "phase_mixture": (lambda **o: slt.phase_mixture(TREE, TREE, **o), {"level": "token"}, "unit"),
    "screen": (lambda **o: slt.screen(TREE, **o), {"level": "sequence"}, "unit"),
}


@pytest.mark.parametrize("name", CALLS)
def test_old_keywords_give_the_same_with_a_warning(name):
    call, old, keyword = CALLS[name]
    new = {keyword: next(iter(old.values()))}
    with pytest.warns(DeprecationWarning, match=f"is now {keyword}="):
        found = call(**old)
    if name == "screen":
        assert found.equals(call(**new))
    else:
        xr.testing.assert_identical(found, call(**new))
    with pytest.raises(TypeError, match="both"):
        call(**old, **new)


def test_curves_are_normalized_by_the_old_keyword_and_spelling_too():
    curve = xr.Dataset(
        {"llc": (("component", "checkpoint"), np.random.default_rng(0).standard_normal((5, 4)))},
        {"component": list("abcde"), "checkpoint": list("wxyz")},
    )
    with pytest.warns(DeprecationWarning, match="normalize="):
        old = slt.cluster_curves(curve, normalise="standardise")
    xr.testing.assert_equal(old, slt.cluster_curves(curve, normalize="standardize"))
