"""The mean influence between classes is the mean over the pairs of the whole matrix."""

import numpy as np
import pytest

from slt_notebook.errors import InputError
from slt_notebook.estimators.influence.groups import group_influence
from slt_notebook.estimators.influence.influence import influence
from tests import exact
from tests.cases import synthetic_tree


def masks(probe):
    rng = np.random.default_rng(1)
    known = np.isfinite(probe.init_loss.values)
    a = (rng.random(known.shape) < 0.4) & known
    b = (rng.random(known.shape) < 0.5) & known
    return {"a": a, "b": b, "none": np.zeros_like(a)}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "exclude", [(), "same_example", "same_token", ("same_example", "same_token")]
)
def test_means_are_those_of_the_matrix(normalize, exclude):
    tree = synthetic_tree(chains=4, draws=40)
    probe = tree["probe/train"].to_dataset()
    chosen = masks(probe)
    found = group_influence(tree, chosen, normalize=normalize, exclude=exclude)
    whole = influence(tree, normalize=normalize).influence.values.reshape(33, 33)
    ids = probe.token_id.values.ravel()
    example = np.repeat(np.arange(3), 11)
    for x in chosen:
        for y in chosen:
            keep = np.outer(chosen[x].ravel(), chosen[y].ravel()) & ~np.eye(33, dtype=bool)
            if "same_example" in exclude:
                keep &= example[:, None] != example
            if "same_token" in exclude:
                keep &= ids[:, None] != ids
            one = found.sel(group=x, group_=y)
            assert int(one.pairs) == keep.sum()
            if keep.any():
                assert float(one.influence) == pytest.approx(whole[keep].mean(), rel=1e-4, abs=1e-7)
            else:
                assert np.isnan(one.influence)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("chains", [2, 5])
def test_stated_errors_are_honest(normalize, chains):
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((3, 12))
    label = np.array(["a", "b"] * 6)
    values, errors = [], []
    for _ in range(250):
        loss = rng.standard_normal((chains, 50, 3)) @ factors
        loss += rng.standard_normal((*loss.shape[:2], 12))
        found = group_influence(exact.probe_of(loss), label, normalize=normalize)
        values.append(found.influence.values)
        errors.append(found.stderr.values)
    spread = np.std(values, axis=0)
    stated = np.sqrt(np.mean(np.square(errors), axis=0))
    assert ((stated / spread > 0.8) & (stated / spread < 1.2)).all()


def test_labels_the_sign_and_mistakes():
    tree = synthetic_tree()
    label = np.where(masks(tree["probe/train"].to_dataset())["a"], "x", "")
    found = group_influence(tree, label)
    assert list(found.group) == ["x"]
    kernel = group_influence(tree, label, sign="kernel")
    np.testing.assert_allclose(kernel.influence, -found.influence)
    assert "negative = helpful" in found.attrs["sign"]
    for wrong, words in (
        ({"groups": {"a": np.ones(4, bool)}}, r"shape \(3, 11\) or \(3,\)"),
        ({"groups": label, "exclude": "same_word"}, "same_example, same_token"),
        ({"groups": label, "exclude": "same_token", "unit": "sequence"}, "shape|token"),
        ({"groups": {}}, "no groups"),
    ):
        with pytest.raises(InputError, match=words):
            group_influence(tree, **wrong)
