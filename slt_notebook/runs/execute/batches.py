"""The batches of some chains: pure functions of (seed, chain, step)."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from slt_notebook.core import streams
from slt_notebook.core.types import Batch
from slt_notebook.runs.execute.job import Job


class Batches:
    """Makes the batches of each step.

    Attributes:
        baseline: mean loss at w* of each batch of the last step that was asked for, `[chain]`.
    """

    baseline: Tensor

    def __init__(self, job: Job, chains: tuple[int, ...]):
        """Batches of the chains with the indices `chains`."""
        self._job, self._chains = job, chains
        self._device = job.potential.center.device

    def at(self, step: int) -> tuple[list[Batch], Tensor]:
        """Return a batch for every chain, and how many losses each must count, `[chain]`."""
        task = self._job.task
        if task.batch_size == task.data["examples"]:
            every = [self._whole] * len(self._chains)
        elif task.batches == "shared":
            every = [self._batch_of(0, step)] * len(self._chains)
        else:
            every = [self._batch_of(chain, step) for chain in self._chains]
        batches, losses, counts = zip(*every, strict=True)
        self.baseline = torch.stack(losses)
        return list(batches), torch.stack(counts)

    @cached_property
    def _whole(self) -> tuple[Batch, Tensor, Tensor]:
        """All of the data, which every chain reads at every step."""
        return self._batch_of(0, 0)

    def _batch_of(self, chain: int, step: int) -> tuple[Batch, Tensor, Tensor]:
        """Return the batch of a chain, its mean loss at w*, and how many losses count in it."""
        job = self._job
        size = job.task.data["examples"]
        index = streams.batch(job.task.seed, chain, step, job.task.batch_size, size)
        places = to_device(index, self._device)
        return {k: v[places] for k, v in job.data.items()}, *job.baseline.at(index, places)


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on the device; from pinned memory, so that the host need not wait."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
