"""What the workers of one run share."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from slt_notebook.core.potential import Potential
from slt_notebook.core.types import Batch
from slt_notebook.runs.execute.baseline import Baseline
from slt_notebook.runs.execute.evaluation import Evaluator
from slt_notebook.runs.execute.progress import Progress
from slt_notebook.runs.plan.settings import Task
from slt_notebook.runs.store.run_store import RunStore


@dataclass(frozen=True)
class Job:
    """Everything that the workers of one run share.

    Attributes:
        task: what is sampled.
        loss: what is descended, on the device of `data`.
        data: all examples, `[example, ...]`.
        baseline: losses of the examples at w*.
        counts: which losses of each probe count (not padding), bool `[example[, token]]` by name.
        evaluator: where gradients and probe losses come from.
        store: where results go.
        progress: how far the chains are; also carries requests to pause and stop.
        writer: the one thread that writes to the store.
    """

    task: Task
    loss: Any
    data: Batch
    baseline: Baseline
    counts: Mapping[str, Tensor]
    evaluator: Evaluator
    store: RunStore
    progress: Progress
    writer: ThreadPoolExecutor

    @property
    def potential(self) -> Potential:
        """The potential with the hyperparameters of all chains of the task."""
        return self.evaluator.potential
