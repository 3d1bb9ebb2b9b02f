"""Losses of the very batch at w*: the paired baseline of the LLC.

The batch loss at a draw and at w* share the noise of the batch, which cancels in their difference.
Losses at w* are computed once per block of examples, in the same blocks whatever the batches are,
so that they do not depend on the order in which chains ask.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slt_notebook.core.chunking import Fit
from slt_notebook.core.types import Batch
from slt_notebook.runs.execute.probing import evaluate, first_not_finite, not_finite_at_center


@dataclass
class Baseline:
    """Sums and counts of the losses of each example at w*, filled in on demand.

    Attributes:
        loss: a loss of the kit, on the device of `data`.
        data: all fields, `[example, ...]`.
        block: examples per evaluation.
        kind: of the data, "text" or "array".
        sums: sum of the counted losses of each example, float64 `[example]`.
        counts: how many they are, int64 `[example]`.
        known: whether a block has been evaluated, one each.
    """

    loss: Any
    data: Batch
    block: int
    kind: str
    sums: Tensor = field(init=False)
    counts: Tensor = field(init=False)
    known: list[bool] = field(init=False)

    def __post_init__(self):
        size = len(next(iter(self.data.values())))
        device = next(iter(self.data.values())).device
        self.sums = torch.zeros(size, dtype=torch.float64, device=device)
        self.counts = torch.zeros(size, dtype=torch.int64, device=device)
        self.known = [False] * ((size + self.block - 1) // self.block)
        self._lock = threading.Lock()

    def at(self, indices: np.ndarray, places: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss at w* of the examples `indices`, and how many losses count in it.

        Args:
            indices: of examples, `[size]`.
            places: the same on the device of the data; the host does not ask the device for them.

        Raises:
            InputError: a loss that is not finite at w*.
        """
        with self._lock:
            for block in np.unique(indices // self.block).tolist():
                if not self.known[block]:
                    self._fill(block)
        count = self.counts[places].sum()
        return (self.sums[places].sum() / count).float(), count

    def _fill(self, block: int) -> None:
        rows = slice(block * self.block, (block + 1) * self.block)
        part = {key: value[rows] for key, value in self.data.items()}
        loss = evaluate(self.loss, self.loss.params, part, Fit(rows=self.block))
        row = first_not_finite(loss, self.kind, part)
        if row is not None:  # a NaN would else pass as padding
            raise not_finite_at_center(f"number {rows.start + row} of the data")
        loss = loss.reshape(len(loss), -1)
        self.sums[rows] = loss.double().nansum(1)
        self.counts[rows] = (~loss.isnan()).sum(1)
        self.known[block] = True
