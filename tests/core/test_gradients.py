"""The gradient of a long row goes to its place piece by piece: the numbers of the joined one."""

from dataclasses import replace

import pytest
import torch

import slt_notebook as slt
from slt_notebook.core import potential as potentials
from slt_notebook.core.backward import backward_into
from slt_notebook.core.chunking import Fit
from slt_notebook.core.potential import Potential
from slt_notebook.core.space import Piece, Space
from tests.bench.parts.models import build

IDS = torch.randint(0, 96, (4, 12), generator=torch.Generator().manual_seed(1))
BATCH = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def target(pieces=None) -> Potential:
    loss = slt.causal_lm(build("smoke"))
    space = Space.of(loss.params)
    if pieces is not None:
        space = replace(space, pieces=tuple(pieces(space)))
    one = torch.ones(1)
    return Potential(loss, space, loss.params, space.flatten(loss.params), one, one, Fit())


def some(space: Space):
    """A block of a matrix and all of another parameter, in another order."""
    matrix = next(p for p in space.pieces if len(p.shape) == 2 and p.shape[0] > 3)
    yield space.pieces[-1]
    yield Piece(matrix.name, ((1, 3), (0, matrix.shape[1] - 1)))


@pytest.mark.parametrize("pieces", [None, some], ids=["all", "blocks"])
def test_piece_by_piece_is_bit_equal_to_one_long_vector(pieces, monkeypatch):
    case = target(pieces)
    loss, grad, counted = case.one(case.center, BATCH)
    monkeypatch.setattr(potentials, "LONG", 1)
    room = torch.full_like(case.center, torch.nan)
    placed = case.one(case.center, BATCH, room)
    assert placed[1] is room and grad.abs().max() > 0
    assert torch.equal(placed[0], loss) and torch.equal(room, grad) and placed[2] == counted


def test_parts_add_up_in_place(monkeypatch):
    case = target()
    _, grad, _ = case.one(case.center, BATCH)
    parts = replace(case, fit=Fit(examples=3))
    room = torch.full_like(case.center, torch.nan)
    assert parts.one(case.center, BATCH, room)[1] is room
    torch.testing.assert_close(room, grad, rtol=1e-4, atol=1e-6)


def test_what_the_loss_does_not_depend_on_gets_zeros():
    used, unused = (torch.ones(3).requires_grad_() for _ in range(2))
    places = [torch.full((3,), 7.0), torch.full((3,), 7.0)]
    backward_into((2 * used).sum() + (used * used).sum(), [used, unused], places)
    assert places[0].tolist() == [4.0] * 3 and places[1].tolist() == [0.0] * 3
    backward_into(used.sum(), [used, unused], places, add=True)
    assert places[0].tolist() == [5.0] * 3 and places[1].tolist() == [0.0] * 3
    assert used.grad is None
