"""Where a run's gradients and probe losses come from: the interface, and evaluation of its own.

A job gets its evaluator when it is made, and workers do not ask which one it is.  The other
implementation, evaluation in lockstep with other runs, is in `lockstep.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from slt_notebook.core.potential import Potential
from slt_notebook.core.types import Batch
from slt_notebook.runs.execute.probing import measure


class Evaluator(Protocol):
    """Gradients and probe losses for one run."""

    @property
    def potential(self) -> Potential:
        """The potential that is sampled, with one `nbeta` and `gamma` per chain of the task.

        Its `loss_and_grad` takes gradients by this evaluator.
        """
        ...

    @property
    def probes(self) -> Mapping[str, Batch]:
        """The probes by name, on the device."""
        ...

    @property
    def writers(self) -> int:
        """How many runs write checkpoints at the same time as this one, itself included."""
        ...

    def measure(self, name: str, position: Tensor, alive: Tensor, ask: bool) -> Tensor:
        """Losses of the probe `name`: float32 `[chain, example[, token]]`, NaN for dead chains.

        Args:
            name: of the probe.
            position: `[chain, dim]`.
            alive: bool `[chain]`.
            ask: whether the host may look which chains are alive, and leave the others out.
        """
        ...

    def after_step(self, alive: Tensor) -> None:
        """Is told after every step which chains are alive, bool `[chain]`."""
        ...

    def leave(self) -> None:
        """Say that the run asks for nothing more.  May be called twice."""
        ...

    def abort(self) -> None:
        """Say that the run has failed."""
        ...


@dataclass(frozen=True)
class OwnEvaluator:
    """Evaluation by the run itself.

    Attributes:
        potential: the potential, which takes its gradients itself.
        probe_loss: what probes are measured with: the loss, or the loss in half precision.
        probes: by name, on the device.
    """

    potential: Potential
    probe_loss: Any
    probes: Mapping[str, Batch]
    writers: int = 1

    def measure(self, name: str, position: Tensor, alive: Tensor, ask: bool) -> Tensor:
        """See `Evaluator.measure`."""
        return measure(self.probe_loss, self.potential, position, alive, self.probes[name], ask)

    def after_step(self, alive: Tensor) -> None:
        """Nothing: no other run waits for this one."""

    def leave(self) -> None:
        """Nothing: no other run waits for this one."""

    def abort(self) -> None:
        """Nothing: no other run depends on this one."""
