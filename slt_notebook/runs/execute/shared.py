"""What runs with the same weights and data share: computed once.

Losses at w* of every probe, the paired baseline, the fingerprint of the weights, the components,
and for a run restricted to later layers the hidden states before them.  A single run has a `Shared`
of its own; the runs of a sweep over components share one per checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from slt_notebook.core.batching import refusal
from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.potential import Potential
from slt_notebook.core.space import Space, dtype_of
from slt_notebook.core.types import Batch
from slt_notebook.models.components.catalog import parts
from slt_notebook.models.components.patterns import Component, Parts
from slt_notebook.models.components.restriction import Restricted, Restrictor
from slt_notebook.models.losses.half_precision import probe_loss
from slt_notebook.models.modules.trial import try_out
from slt_notebook.models.probes import Probe
from slt_notebook.models.weights import fingerprint
from slt_notebook.runs.execute.baseline import Baseline
from slt_notebook.runs.execute.probing import init_losses
from slt_notebook.runs.plan.partition import probe_rows


@dataclass(frozen=True)
class Inputs:
    """A loss with its data and probes on the device, ready for a run.

    Attributes:
        loss: what is sampled; one that computes less than the model where that pays.
        probe_loss: what probes are measured with: the same, or the same in half precision.
        data: the fields of the data.
        probes: the fields of each probe, by its name.
        init: losses at w* of each probe, by its name.
        baseline: losses at w* of the data.
        space: the coordinates, where the loss has parameters of other shapes than the model.
    """

    loss: Any
    probe_loss: Any
    data: Batch
    probes: Mapping[str, Batch]
    init: dict[str, np.ndarray]
    baseline: Baseline
    space: Space | None = None


class Shared:
    """Everything that follows from weights, data and probes, and not from what is sampled."""

    def __init__(
        self,
        loss: Any,
        data: Probe,
        probes: Sequence[Probe],
        device: torch.device,
        probe_dtype: str = "float32",
    ) -> None:
        """Hold what runs of `loss` on `data` share.

        Args:
            loss: of the whole model.
            data: what is sampled on.
            probes: what is measured.
            device: where it is computed.
            probe_dtype: of the products when probes are measured.

        Raises:
            InputError: a loss that is no differentiable function of its weights: see `try_out`.
        """
        loss = loss.to(device)
        self._dtype = dtype_of(loss.params)
        few = data.take(2).tensors(device, self._dtype)
        trial = try_out(loss, few, differentiable=capabilities(loss).gradient is None)
        self.loss, self.reached, self.probe_dtype = trial.loss, trial.reached, probe_dtype
        self.data, self.probes, self.device = data, tuple(probes), device
        self._known: Parts | None = None
        self._depth, self._after = 0, None  # the last inputs after some layers, and how many

    @cached_property
    def batching_refusal(self) -> str | None:
        """Why gradients of the whole model cannot be batched by `vmap`; None where they can."""
        return self.refusal(self.whole, Space.of(self.loss.params))

    def refusal(self, inputs: Inputs, space: Space) -> str | None:
        """Why gradients in `space` cannot be batched by `vmap`; None where they can."""
        one = torch.ones(2, device=self.device, dtype=torch.float32)
        potential = Potential(
            inputs.loss, space, inputs.loss.params, space.flatten(inputs.loss.params), one, one
        )
        if potential.closed_form:
            return None
        few = {key: value[:2] for key, value in inputs.data.items()}
        return refusal(potential, few)

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights."""
        return fingerprint(self.loss.params)

    @property
    def parts(self) -> Parts:
        """The components of the model."""
        if self._known is None:
            self._known = parts(self.loss)
        return self._known

    def know(self, known: Parts) -> None:
        """Take over the components of another checkpoint, if it has the same architecture."""
        if dict(known.shapes) == {n: tuple(v.shape) for n, v in self.loss.params.items()}:
            self._known = known

    def component(self, name: str) -> Component | None:
        """Return the component that `name` means; None for the whole model."""
        return None if name == "full" else self.parts.resolve(name)

    def forget_prefix(self) -> None:
        """Free the hidden states that are kept for runs of later layers."""
        self._depth, self._after = 0, None

    @cached_property
    def whole(self) -> Inputs:
        """Data, probes and their losses at w*, checked, for a loss that computes all layers.

        Raises:
            NotReproducible, InputError: a loss that answers differently, or not with numbers.
        """
        return self._inputs(self._tensors)

    @cached_property
    def _tensors(self) -> Restricted:
        data = self.data.tensors(self.device, self._dtype)
        probes = {p.name: p.tensors(self.device, self._dtype) for p in self.probes}
        return Restricted(self.loss, data, probes)

    @cached_property
    def _restrictor(self) -> Restrictor | None:
        """What makes losses of components, where the loss has such."""
        restrict = capabilities(self.loss).restrict
        if restrict is None:
            return None
        return restrict(self.parts, self.data, self.probes, probe_rows)

    def at(self, component: str, evaluations: int, single: bool = False) -> Inputs:
        """Return the inputs for a run of `component`; what does not change is kept where that pays.

        Args:
            component: what moves.
            evaluations: how many examples of the data the run reads in all.
            single: whether the loss may be one for this component alone, and not one that runs of
                other components can share.
        """
        depth = self.depth(component, evaluations)
        if depth and depth != self._depth:
            assert self._restrictor is not None
            found = self._restrictor.after(depth, self._tensors)
            self._after = None if found is None else self._inputs(found)
            self._depth = depth
        inputs = (self._after if depth else None) or self.whole
        return (self._single(inputs, component, evaluations) if single else None) or inputs

    def depth(self, component: str, evaluations: int) -> int:
        """How many layers a run of `component` need not compute at every draw; see `at`."""
        found = self.component(component)
        if found is None or self._restrictor is None:
            return 0
        return self._restrictor.depth(found, evaluations)

    def _single(self, inputs: Inputs, component: str, evaluations: int) -> Inputs | None:
        """Return the inputs for `component` alone, or None where there are none."""
        found = self.component(component)
        if found is None or self._restrictor is None:
            return None
        whole = Restricted(inputs.loss, inputs.data, inputs.probes)
        one = self._restrictor.single(found, evaluations, whole)
        if one is None:
            return None
        return replace(
            inputs, loss=one.loss, probe_loss=probe_loss(one.loss, self.probe_dtype),
            space=one.space, data=one.data, probes=one.probes,
        )  # fmt: skip

    def _inputs(self, given: Restricted) -> Inputs:
        """Return the inputs of a loss, with its losses at w*, checked."""
        loss, data = given.loss, given.data
        init, measured = {}, probe_loss(loss, self.probe_dtype)
        for probe in self.probes:
            rows = probe_rows(probe)
            value = init_losses(measured, probe, given.probes[probe.name], rows)
            init[probe.name] = value.float().cpu().numpy()
        rows = min(len(self.data), probe_rows(self.data))
        few = {k: v[:rows] for k, v in data.items()}
        init_losses(loss, self.data.take(rows), few, rows)
        return Inputs(
            loss, measured, data, given.probes, init, Baseline(loss, data, rows, self.data.kind)
        )
