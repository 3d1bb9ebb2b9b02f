"""The noise of a row that is stepped in blocks."""

import pytest
import torch

from slt_notebook.core import streams
from slt_notebook.core.steppers import blocked
from tests.core.steppers.cases import DIM


@pytest.mark.parametrize("dim", [1, 15, 16, 17, 4 * 16 + 3, DIM, 2 * blocked.BLOCK])
def test_noise_in_blocks_is_the_noise_of_the_row(dim, monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK", 32 if dim < 1000 else blocked.BLOCK)

    class Target:
        space = type("Space", (), {"dim": dim})

    stepper = blocked.Blocked(Target(), 5, (7,))
    parts = [scratch.noise.clone() for _, scratch in stepper._noise(7, 11)]
    assert torch.equal(torch.cat(parts, 1), streams.noise(5, (7,), 11, dim, "cpu"))
