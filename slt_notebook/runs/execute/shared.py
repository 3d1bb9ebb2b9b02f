"""What do runs with the same weights and data have in common?  Computed once, and shared.

Losses at w* of every probe, the paired baseline, the fingerprint of the weights, the components,
and for a run restricted to later layers the hidden states before them.  A single run has a `Shared`
of its own; the runs of a sweep over components share one a checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slt_notebook.core.space import Space
from slt_notebook.core.types import Batch
from slt_notebook.models.causal_lm import PREFIX, REST, CausalLMLoss
from slt_notebook.models.components.catalog import parts
from slt_notebook.models.components.patterns import Component, Parts
from slt_notebook.models.components.prefix import hidden_before, suffix
from slt_notebook.models.components.single_head import (
    agrees,
    attention_of,
    keys_and_values,
    rest_of,
)
from slt_notebook.models.components.single_head import alone as one_head
from slt_notebook.models.half_precision import probe_loss
from slt_notebook.models.losses import fingerprint
from slt_notebook.models.probes import Probe
from slt_notebook.runs.execute.baseline import Baseline
from slt_notebook.runs.execute.probing import init_losses
from slt_notebook.runs.plan import partition as plan

PREFIX_BYTES = 1 << 30
"""Hidden states kept for a restricted run.  A constant: what is kept must not depend on the day."""


@dataclass(frozen=True)
class Inputs:
    """A loss with its data and probes on the device, ready for a run.

    Attributes:
        loss: what is sampled; the suffix of a model where a prefix is kept.
        probe_loss: what probes are measured with: the same, or the same in half precision.
        init: losses at w* of each probe, by its name.
        space: the coordinates, where the loss has parameters of other shapes than the model.
    """

    loss: Any
    probe_loss: Any
    data: Batch
    probes: dict[str, Batch]
    init: dict[str, np.ndarray]
    baseline: Baseline
    space: Space | None = None


class Shared:
    """Everything that follows from weights, data and probes, and not from what is sampled."""

    def __init__(
        self,
        loss,
        data: Probe,
        probes: Sequence[Probe],
        device: torch.device,
        probe_dtype: str = "float32",
    ):
        self.loss, self.probe_dtype = loss.to(device), probe_dtype
        self.data, self.probes, self.device = data, tuple(probes), device
        self._suffix: Inputs | None = None
        self._not_alone: set[str] = set()  # attentions that do not make one head
        self._known: Parts | None = None

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.loss.params)

    @property
    def parts(self) -> Parts:
        if self._known is None:
            self._known = parts(self.loss)
        return self._known

    def know(self, known: Parts) -> None:
        """Takes the components of another checkpoint of the same architecture."""
        if dict(known.shapes) == {n: tuple(v.shape) for n, v in self.loss.params.items()}:
            self._known = known

    def component(self, name: str) -> Component | None:
        return None if name == "full" else self.parts.resolve(name)

    def forget_prefix(self) -> None:
        self._suffix = None

    @cached_property
    def whole(self) -> Inputs:
        """Data, probes and their losses at w*, checked; nothing kept from before a layer.

        Raises:
            NotReproducible, InputError: a loss that answers differently, or not with numbers.
        """
        return self._inputs(self.loss, *self._tensors)

    @cached_property
    def _tensors(self) -> tuple[Batch, dict[str, Batch]]:
        data = self.data.tensors(self.device)
        return data, {p.name: p.tensors(self.device) for p in self.probes}

    def at(self, component: str, evaluations: int, alone: bool = False) -> Inputs:
        """Inputs for a run of `component`; what does not change is kept where that pays.

        Args:
            evaluations: how many examples of the data the run will read in all.
            alone: the run walks by itself, so that its loss may be its own: that of one head.
        """
        depth = self.depth(component, evaluations)
        if depth and (self._suffix is None or self._suffix.loss.depth != depth):
            self._suffix = self._cut(depth)
        inputs = (self._suffix if depth else None) or self.whole
        return (self._one_head(inputs, component, evaluations) if alone else None) or inputs

    def depth(self, component: str, evaluations: int) -> int:
        """How many layers a run of `component` need not compute again; see `at`."""
        found = self.component(component)
        if found is None or not found.first_layer or not isinstance(self.loss, CausalLMLoss):
            return 0
        return found.first_layer if self._kept(evaluations) else 0

    def _kept(self, evaluations: int) -> bool:
        """Whether what one layer gives can be kept of all data and probes, and is read again."""
        if not self.loss.shells.get().split or evaluations < len(self.data):
            return False
        width = self.loss.params[next(iter(self.parts["embed"].pieces)).name].shape[-1]
        places = sum(p.fields["input_ids"].size for p in (self.data, *self.probes))
        return 4 * width * places <= PREFIX_BYTES

    def _one_head(self, inputs: Inputs, component: str, evaluations: int) -> Inputs | None:
        """Inputs with one head of an attention, or None where that is not the model's loss."""
        found = self.component(component)
        attention = None if found is None else attention_of(found)
        if attention is None or attention in self._not_alone or not self._kept(evaluations):
            return None
        if not isinstance(inputs.loss, CausalLMLoss):
            return None
        space = self.parts.space(component)
        try:
            fixed = keys_and_values(self.parts, found)
            loss, small = one_head(inputs.loss, space, attention, fixed)
            few = {k: v[:2] for k, v in inputs.data.items()}
            few = self._with_rest(inputs, loss, attention, few)
            same = agrees(inputs.loss, space, loss, small, attention, few)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
            same = False  # its module wants all of its heads
        if not same:
            self._not_alone.add(attention)
            return None
        add = partial(self._with_rest, inputs, loss, attention)
        return replace(
            inputs, loss=loss, probe_loss=probe_loss(loss, self.probe_dtype), space=small,
            data=add(inputs.data), probes={name: add(v) for name, v in inputs.probes.items()},
        )  # fmt: skip

    def _with_rest(self, inputs: Inputs, loss: CausalLMLoss, attention: str, tensors: Batch):
        rows = plan.probe_rows(self.data)
        size = len(tensors["input_ids"])
        parts = [
            rest_of(inputs.loss, loss, attention, {k: v[i : i + rows] for k, v in tensors.items()})
            for i in range(0, size, rows)
        ]
        return {**tensors, REST: torch.cat(parts)}

    def _cut(self, depth: int) -> Inputs | None:
        """Inputs from layer `depth` on, or None where they do not give the model's losses."""
        names = self.parts.layers
        lengths: set[int] = set()

        def hidden(tensors: Batch, rows: int) -> dict[str, Tensor]:
            parts = []
            for start in range(0, len(tensors["input_ids"]), rows):
                batch = {k: v[start : start + rows] for k, v in tensors.items()}
                value, length = hidden_before(self.loss, names, depth, batch)
                lengths.add(length)
                parts.append(value)
            return {**tensors, PREFIX: torch.cat(parts)}

        data, probes = self._tensors
        one = {k: v[:2] for k, v in data.items()}
        expected = self.loss.evaluate(self.loss.params, one)
        data = hidden(data, plan.probe_rows(self.data))
        probes = {p.name: hidden(probes[p.name], plan.probe_rows(p)) for p in self.probes}
        cut = suffix(self.loss, names, depth, lengths.pop())
        got = cut.evaluate(cut.params, {k: v[:2] for k, v in data.items()})
        if got.shape != expected.shape or not torch.allclose(
            got, expected, rtol=1e-4, atol=1e-4, equal_nan=True
        ):
            return None
        return self._inputs(cut, data, probes)

    def _inputs(self, loss, data: Batch, probes: dict[str, Batch]) -> Inputs:
        init, measured = {}, probe_loss(loss, self.probe_dtype)
        for probe in self.probes:
            rows = plan.probe_rows(probe)
            value = init_losses(measured, probe, probes[probe.name], rows)
            init[probe.name] = value.float().cpu().numpy()
        rows = min(len(self.data), plan.probe_rows(self.data))
        few = {k: v[:rows] for k, v in data.items()}
        init_losses(loss, self.data.take(rows), few, rows)
        return Inputs(loss, measured, data, probes, init, Baseline(loss, data, rows))
