"""Coordinates to parameters and back."""

import pytest
import torch

from slt_notebook.core.space import Piece, Space
from slt_notebook.errors import ComponentError

BASE = {
    "a": torch.arange(12.0).reshape(3, 4),
    "b": torch.arange(24.0).reshape(2, 3, 4) * 10,
    "c": torch.ones(5),
}


def test_full_space_round_trips():
    space = Space.of(BASE)
    vector = space.flatten(BASE)
    assert space.dim == 12 + 24 + 5 == len(vector)
    for name, value in space.unflatten(vector, BASE).items():
        assert torch.equal(value, BASE[name])


WINDOWS = [
    ("a", ((1, 3), (0, 4))),
    ("a", ((0, 3), (2, 3))),
    ("a", ((0, 2), (1, 3))),
    ("b", ((1, 2), (0, 3), (1, 4))),
    ("b", ((0, 1), (1, 2), (0, 2))),
]


@pytest.mark.parametrize(("name", "window"), WINDOWS)
def test_a_window_moves_alone_and_carries_gradients(name, window):
    piece = Piece(name, window)
    space = Space((piece,), ((name, tuple(BASE[name].shape)),))
    vector = space.flatten(BASE)
    assert torch.equal(vector, BASE[name][piece.slices].reshape(-1))
    moved = space.unflatten(vector + 1, BASE)
    expected = BASE[name].clone()
    expected[piece.slices] += 1
    assert torch.equal(moved[name], expected)
    assert all(torch.equal(moved[k], BASE[k]) for k in BASE if k != name)
    leaf = vector.clone().requires_grad_()
    weights = torch.randn(BASE[name].shape, generator=torch.Generator().manual_seed(0))
    (grad,) = torch.autograd.grad((space.unflatten(leaf, BASE)[name] * weights).sum(), leaf)
    assert torch.equal(grad, weights[piece.slices].reshape(-1))


def test_two_pieces_of_one_parameter():
    pieces = (Piece("a", ((0, 1), (0, 4))), Piece("a", ((2, 3), (1, 3))))
    space = Space(pieces, (("a", (3, 4)),))
    moved = space.unflatten(space.flatten(BASE) * 0, BASE)["a"]
    expected = BASE["a"].clone()
    expected[0] = 0
    expected[2, 1:3] = 0
    assert torch.equal(moved, expected)


def test_unknown_parameter_names_the_nearest():
    with pytest.raises(ComponentError, match="did you mean 'a'"):
        Space.of(BASE, ["aa"])
    with pytest.raises(ComponentError, match="at least one"):
        Space.of(BASE, [])
