"""Losses of a probe: at the positions of the chains, at w*, and their copy to host memory.

No gradient is taken; as many examples are evaluated at once as fit.  On a GPU the losses are copied
to pinned memory in the background, and only the thread that writes them waits for them.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.chunking import Fit, attempt, refuse
from slt_notebook.core.compilation import Compiler
from slt_notebook.core.potential import Potential, shapes
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, NotReproducible, say
from slt_notebook.models.probes import Probe, counted_tokens


def measure(
    loss: Any, potential: Potential, position: Tensor, alive: Tensor, probe: Batch, ask: bool
) -> Tensor:
    """Losses of a probe at every position: float32 `[chain, example[, token]]`, NaN if dead.

    Args:
        loss: with a method `evaluate`.
        potential: whose coordinates `position` holds; its chunk sizes are used.
        position: `[chain, dim]`.
        alive: bool `[chain]`.
        probe: fields of the probe on the device.
        ask: whether to look which chains are alive, and leave the others out.

    Raises:
        OutOfMemory: not even one example fits.
    """
    out: list[Tensor | None] = []
    for place, row in enumerate(position):
        if ask and not bool(alive[place]):
            out.append(None)
            continue
        # Rows of a block lie differently in memory, and vector instructions round by that.
        row = row if not row.data_ptr() % 64 else row.clone()
        params = potential.space.unflatten(row, potential.base)
        out.append(evaluate(loss, params, probe, potential.fit, potential.compiler))
    first = next((values for values in out if values is not None), None)
    if first is None:
        one = {key: value[:1] for key, value in probe.items()}
        shape = loss.evaluate(loss.params, one).shape[1:]
        size = len(next(iter(probe.values())))
        return position.new_full((len(position), size, *shape), torch.nan, dtype=torch.float32)
    nan = torch.full_like(first, torch.nan)
    every = torch.stack([nan if values is None else values for values in out])
    if ask:
        return every
    return torch.where(alive.reshape(-1, *[1] * first.dim()), every, torch.nan)


def evaluate(
    loss: Any, params: Params, probe: Batch, fit: Fit, compiler: Compiler | None = None
) -> Tensor:
    """Losses of all examples at `params`, float32 `[example[, token]]`, in parts that fit.

    With a compiler the parts are of one size where that is possible, so that one compiled form
    serves them all.

    Raises:
        OutOfMemory: not even one example fits.
    """
    size = len(next(iter(probe.values())))
    ask = loss.evaluate if compiler is None else partial(_compiled, compiler, loss)
    parts, start = [], 0
    with torch.no_grad():
        while start < size:
            rows = fit.rows if compiler is None else -(-size // -(-size // fit.rows))
            rows = min(rows, size - start)
            part = {key: value[start : start + rows] for key, value in probe.items()}
            value = attempt(partial(ask, params, part))
            if value is None:
                if rows == 1:
                    raise refuse("one example of a probe", next(iter(probe.values())).device)
                fit.fewer_rows(rows)
                continue
            parts.append(value.float())
            start += rows
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _compiled(compiler: Compiler, loss: Any, params: Params, part: Batch) -> Tensor:
    make = lambda compiled: compiled(capabilities(loss).traceable_evaluate())
    what = f"probe evaluation of {len(next(iter(part.values())))} examples"
    return compiler.call(what, shapes(part), make, loss.evaluate, dict(params), part)


def init_losses(loss: Any, probe: Probe, tensors: Batch, rows: int) -> Tensor:
    """Losses of a probe at w*, `[example[, token]]`, checked.

    Args:
        loss: of the kit, or its form in half precision.
        probe: whose losses these are.
        tensors: the fields of the probe on the device.
        rows: examples per evaluation.  The first evaluation is made twice, to see whether the
            model answers alike.

    Raises:
        NotReproducible: the model answered differently the second time.
        InputError: losses that are not finite where they count, or nothing that counts.
    """
    fit = Fit(rows=rows)
    few = {key: value[: min(rows, len(probe))] for key, value in tensors.items()}
    value, again = (evaluate(loss, loss.params, few, fit) for _ in range(2))
    # Rounding may differ between calls on some devices; randomness differs by far more.
    worst = float(((value - again).abs() / value.abs().clamp(min=1)).nan_to_num().max())
    if worst > 1e-4 or not torch.equal(value.isnan(), again.isnan()):
        raise NotReproducible(
            say(
                f"a model whose losses differ by {worst:.2g} when evaluated twice",
                "the same losses each time",
                "remove randomness from its forward pass (dropout is already off)",
            )
        )
    rest = {key: given[rows:] for key, given in tensors.items()}
    parts = [value] if len(probe) <= rows else [value, evaluate(loss, loss.params, rest, fit)]
    out = torch.cat(parts)
    if out.dim() not in (1, 2) or len(out) != len(probe):
        raise InputError(
            say(
                f"losses of shape {tuple(out.shape)} for {len(probe)} examples",
                "[example] or [example, token]",
                "correct the loss function",
            )
        )
    row = first_not_finite(out, probe.kind, tensors)
    if row is not None:
        raise not_finite_at_center(repr(probe.examples[row]))
    return out


def first_not_finite(losses: Tensor, kind: str, fields: Batch) -> int | None:
    """Return the first example with a loss that counts and is not finite; None if there is none.

    Args:
        losses: `[example[, token]]`; of a text what is masked does not count, of other losses per
            token what is NaN, unless all of the example is.
        kind: of the probe, "text" or "array".
        fields: of the same examples.
    """
    bad = ~losses.isfinite()
    if losses.dim() == 2 and kind == "text":
        bad &= counted_tokens(fields)
    elif losses.dim() == 2:
        bad = losses.isinf() | losses.isnan().all(1, keepdim=True)
    rows = bad.reshape(len(losses), -1).any(1).nonzero()
    return int(rows[0]) if len(rows) else None


def not_finite_at_center(example: str) -> InputError:
    """Return the error for an example whose loss is not finite at w*."""
    return InputError(
        say(
            f"a loss that is not finite at w* (example {example})",
            "finite losses at the trained weights",
            "check weights and data; drop that example",
        )
    )


@dataclass(frozen=True)
class HostCopy:
    """A tensor that is being copied from the device to the host."""

    _held: Tensor
    _event: Any

    def arrived(self) -> bool:
        """Whether the copy is complete; never waits."""
        return self._event is None or self._event.query()

    def tensor(self) -> Tensor:
        """Return the values in host memory; waits for the copy."""
        if self._event is not None:
            self._event.synchronize()
        return self._held


def to_host(values: Tensor) -> HostCopy:
    """Start to copy `values` to host memory; the device does not wait for it."""
    values = values.detach()
    if values.device.type != "cuda":
        return HostCopy(values.cpu(), None)
    held = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    held.copy_(values, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return HostCopy(held, event)
