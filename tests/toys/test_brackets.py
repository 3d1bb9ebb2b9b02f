"""The strings are what they are said to be, and the rules differ only where they should."""

import itertools

import numpy as np
import pytest
import torch

from slt_notebook.errors import InputError
from slt_notebook.toys import brackets


def naive(row) -> bool:
    depth = 0
    for symbol in row:
        depth += 1 if symbol == brackets.OPEN else -1
        if depth < 0:
            return False
    return depth == 0


def test_is_nested_against_reading_every_string():
    every = np.array(list(itertools.product([0, 1], repeat=8)))
    found = brackets.is_nested(every)
    assert found.tolist() == [naive(row) for row in every]
    assert found.sum() == 14  # Catalan
    assert brackets.equal(every).sum() == 70


def test_nested_strings_are_uniform():
    draws = brackets.nested(20_000, np.random.default_rng(0), 6)
    assert brackets.is_nested(draws).all()
    kinds, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(kinds) == 5
    assert abs(counts - 4000).max() < 4.5 * np.sqrt(20_000 * 0.2 * 0.8)


def test_the_training_set_leaves_out_where_the_rules_differ():
    x, y = brackets.batch(600, np.random.default_rng(1))
    strings = x.numpy()
    np.testing.assert_array_equal(brackets.is_nested(strings), y.numpy() > 0)
    np.testing.assert_array_equal(brackets.equal(strings), y.numpy() > 0)  # both rules fit
    for rule, answer in (("nested", -1), ("count", 1)):
        x, y = brackets.batch(600, np.random.default_rng(1), rule)
        other = brackets.equal(x.numpy()) & ~brackets.is_nested(x.numpy())
        assert other.sum() == 200 and (y.numpy()[other] == answer).all()


def test_a_pair_starts_from_the_same_weights_and_learns():
    one, two = (brackets.train(rule, 3, steered=1, limit=1) for rule in brackets.RULES)
    near = torch.nn.utils.parameters_to_vector
    assert float((near(one.parameters()) - near(two.parameters())).detach().abs().max()) < 0.02
    assert set(brackets.accuracy(one, 200)) == {"training", "crossed"}
    again = brackets.restore(near(one.parameters()).detach().numpy())
    x, _ = brackets.batch(20, np.random.default_rng(0))
    torch.testing.assert_close(again(x), one(x))
    with pytest.raises(InputError, match="nested"):
        brackets.train("depth")
