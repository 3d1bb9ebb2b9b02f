"""Losses of single components that compute less than the whole model: which, and whether they pay.

What a component does not change can be computed once and kept: the layers before it (`prefix`), and
the other heads of an attention (`single_head`).  A loss whose `capabilities.restrict` is set gives
a `Restrictor`; runs use it and need not know what layers and heads are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from slt_notebook.core.space import Space
from slt_notebook.core.types import Batch
from slt_notebook.models.components.patterns import Component, Parts
from slt_notebook.models.components.prefix import hidden_before, suffix
from slt_notebook.models.components.single_head import (
    agrees,
    attention_of,
    keys_and_values,
    rest_of,
    single_head,
)
from slt_notebook.models.losses.token_losses import PREFIX, REST, LayeredLoss
from slt_notebook.models.probes import Probe

PREFIX_BYTES = 1 << 30
"""Hidden states kept for a restricted run.  A constant: what is kept must not depend on the day."""


@dataclass(frozen=True)
class Restricted:
    """A loss with what it reads.

    Attributes:
        loss: of the whole model, or one that computes less.
        data, probes: their fields on the device, with those that the loss reads besides.
        space: the coordinates, where the loss has parameters of other shapes than the model.
    """

    loss: Any
    data: Batch
    probes: Mapping[str, Batch]
    space: Space | None = None


class Restrictor(Protocol):
    """Makes the losses of components for one set of weights, data and probes."""

    def depth(self, component: Component, evaluations: int) -> int:
        """How many layers a run of `component` need not compute at every draw; 0 for none.

        Runs of the same depth share one loss.

        Args:
            component: what moves.
            evaluations: how many examples of the data the run reads in all.
        """
        ...

    def after(self, depth: int, whole: Restricted) -> Restricted | None:
        """The loss after `depth` layers; None where it does not give the losses of the model."""
        ...

    def single(
        self, component: Component, evaluations: int, whole: Restricted
    ) -> Restricted | None:
        """A loss for runs of `component` alone; None where there is none, or it does not agree.

        Args:
            component: what moves.
            evaluations: how many examples of the data the run reads in all.
            whole: the loss of the model, or the one after the layers before `component`.
        """
        ...


class LayerRestrictor:
    """Restricts the loss of a causal language model to layers and heads; see `Restrictor`."""

    def __init__(
        self,
        loss: LayeredLoss,
        parts: Parts,
        data: Probe,
        probes: Sequence[Probe],
        rows: Callable[[Probe], int],
    ) -> None:
        """Make a restrictor of `loss`.

        Args:
            loss: of the whole model, on the device.
            parts: components of the model.
            data: what is sampled on.
            probes: what is measured.
            rows: examples of a probe per evaluation.
        """
        self._loss, self._parts = loss, parts
        self._data, self._probes, self._rows = data, tuple(probes), rows
        self._not_separable: set[str] = set()  # attentions that do not work with one head

    def depth(self, component: Component, evaluations: int) -> int:
        """See `Restrictor.depth`."""
        if not component.first_layer:
            return 0
        return component.first_layer if self._pays(evaluations) else 0

    def after(self, depth: int, whole: Restricted) -> Restricted | None:
        """See `Restrictor.after`."""
        loss, names = self._loss, self._parts.layers
        lengths: set[int] = set()

        def with_hidden(tensors: Batch, rows: int) -> Batch:
            parts: list[Tensor] = []
            for batch in _batches(tensors, rows):
                value, length = hidden_before(loss, names, depth, batch)
                lengths.add(length)
                parts.append(value)
            return {**tensors, PREFIX: torch.cat(parts)}

        expected = loss.evaluate(loss.params, _first(whole.data))
        data = with_hidden(whole.data, self._rows(self._data))
        probes = {p.name: with_hidden(whole.probes[p.name], self._rows(p)) for p in self._probes}
        short = suffix(loss, names, depth, lengths.pop())
        got = short.evaluate(short.params, _first(data))
        if got.shape != expected.shape or not torch.allclose(
            got, expected, rtol=1e-4, atol=1e-4, equal_nan=True
        ):
            return None
        return Restricted(short, data, probes)

    def single(
        self, component: Component, evaluations: int, whole: Restricted
    ) -> Restricted | None:
        """See `Restrictor.single`: for heads."""
        attention = attention_of(component)
        if attention is None or attention in self._not_separable or not self._pays(evaluations):
            return None
        space = self._parts.space_of(component)
        try:
            fixed = keys_and_values(self._parts, component)
            loss, small = single_head(whole.loss, space, attention, fixed)
            few = self._with_rest(whole.loss, loss, attention, _first(whole.data))
            same = agrees(whole.loss, space, loss, small, attention, few)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
            same, loss, small = False, None, None  # its module needs all of its heads
        if loss is None or not same:
            self._not_separable.add(attention)
            return None
        add = partial(self._with_rest, whole.loss, loss, attention)
        probes = {name: add(tensors) for name, tensors in whole.probes.items()}
        return Restricted(loss, add(whole.data), probes, small)

    def _pays(self, evaluations: int) -> bool:
        """Whether the output of a layer can be kept for all data and probes, and is read again."""
        if not self._loss.shells.get().split or evaluations < len(self._data):
            return False
        width = self._loss.params[next(iter(self._parts["embed"].pieces)).name].shape[-1]
        places = sum(p.fields["input_ids"].size for p in (self._data, *self._probes))
        return 4 * width * places <= PREFIX_BYTES

    def _with_rest(
        self, whole: LayeredLoss, loss: LayeredLoss, attention: str, tensors: Batch
    ) -> Batch:
        """`tensors` with what the other heads of `attention` add."""
        rows = self._rows(self._data)
        parts = [rest_of(whole, loss, attention, batch) for batch in _batches(tensors, rows)]
        return {**tensors, REST: torch.cat(parts)}


def _first(tensors: Batch) -> Batch:
    """Return the first two examples."""
    return {key: value[:2] for key, value in tensors.items()}


def _batches(tensors: Batch, rows: int) -> list[Batch]:
    """`tensors` in parts of up to `rows` examples."""
    size = len(tensors["input_ids"])
    return [{k: v[i : i + rows] for k, v in tensors.items()} for i in range(0, size, rows)]
