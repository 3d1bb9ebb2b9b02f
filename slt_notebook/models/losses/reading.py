"""How a model turns token ids into logits: found by calling it.

Models of transformers answer `model(input_ids=ids).logits`; others take the ids as their first
argument and return logits, a tuple or dict that holds them, or logits only where they get targets
(nanoGPT returns those of the last position otherwise).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.chunking import out_of_memory
from slt_notebook.errors import InputError, SLTError, say
from slt_notebook.models.modules.holding import Places

Reading = Callable[[nn.Module, Tensor], Tensor]
"""`(model, ids [example, position]) -> logits [example, position, vocabulary]`."""


def by_keyword(model: nn.Module, ids: Tensor) -> Tensor:
    """Read as the models of transformers are read, without a cache."""
    return model(input_ids=ids, use_cache=False).logits


def by_plain_keyword(model: nn.Module, ids: Tensor) -> Tensor:
    """Read by the keyword `input_ids` alone."""
    return _logits(model(input_ids=ids), ids)


def by_position(model: nn.Module, ids: Tensor) -> Tensor:
    """Read by one argument."""
    return _logits(model(ids), ids)


def with_targets(model: nn.Module, ids: Tensor) -> Tensor:
    """Read by two arguments: ids, and targets of the same shape, which do not matter."""
    return _logits(model(ids, ids), ids)


READINGS: tuple[Reading, ...] = (by_keyword, by_plain_keyword, by_position, with_targets)


def given(forward: Callable[[Any, Tensor], Any]) -> Reading:
    """Read by a function of the user's: `forward(model, ids)`."""

    def read(model: nn.Module, ids: Tensor) -> Tensor:
        return _logits(forward(model, ids), ids)

    return read


def _logits(output: Any, ids: Tensor) -> Tensor:
    """Return what is of the shape of logits in the output of a model.

    Raises:
        ValueError: nothing is, or several things are.
    """
    found = [v for v in _tensors(output) if v.dim() == 3 and v.shape[:2] == ids.shape]
    if len(found) != 1:
        shapes = [tuple(v.shape) for v in _tensors(output)]
        raise ValueError(f"outputs of shape {shapes}, and not one [example, position, vocabulary]")
    return found[0]


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(getattr(output, "logits", None), Tensor):
        yield output.logits
    elif isinstance(output, Mapping):
        named = output.get("logits")
        yield from [named] if isinstance(named, Tensor) else _all(output.values())
    elif isinstance(output, list | tuple):
        yield from _all(output)


def _all(values: Any) -> Iterator[Tensor]:
    return (v for v in values if isinstance(v, Tensor) and v.is_floating_point())


# Found by experiment ------------------------------------------------------------------------------

TRIED = (12, 8, 5, 4, 3, 2)
"""Lengths of sequences that a model is tried on, until it can read one."""


def find_reading(
    model: nn.Module,
    params: Mapping[str, Tensor],
    vocabulary: int | None,
    longest: int | None,
    kind: str,
    forward: Callable[[Any, Tensor], Any] | None,
) -> tuple[Reading, Tensor, int]:
    """Return how a model is called, ids `[2, position]` that it can read, and how many there are.

    Args:
        model: a copy of the model, which is called.
        params: its weights.
        vocabulary: how many ids there are, or None where the model does not say.
        longest: positions that it can read, or None where it does not say.
        kind: its class, for messages.
        forward: how the user says that it is called, or None.

    Raises:
        InputError: a model that reads none, or answers with something else than logits.
    """
    first: Exception | None = None
    device = next(iter(params.values())).device
    readings = READINGS if forward is None else (given(forward),)
    for length in [n for n in TRIED if longest is None or n <= longest] or [2]:
        # Without a known vocabulary: ids that every model has.
        places = torch.arange(2 * length, device=device)
        ids = (places * 7919 % (vocabulary or 2)).reshape(2, length)
        for read in readings:
            try:
                logits = _call(model, params, read, ids)
                known = vocabulary or logits.shape[-1]
                if logits.shape != (2, length, logits.shape[-1]) or logits.shape[-1] < known:
                    raise ValueError(f"logits of shape {tuple(logits.shape)}")
            except SLTError:
                raise
            except Exception as cause:  # whatever a model raises that is none of this kind
                if out_of_memory(cause):
                    raise
                first = first or cause
                continue
            sums = logits.float().sum(-1)
            if bool((logits >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
                got = f"a {kind} that returns probabilities"
                do = "return what goes into the softmax: pass forward=lambda model, ids: ..."
                raise InputError(say(got, "logits", do))
            return read, (places * 7919 % known).reshape(2, length), known
    assert first is not None
    why = (str(first).strip().splitlines() or [""])[0][:160]
    raise InputError(
        say(
            f"a {kind} that does not answer model(input_ids=...).logits or "
            f"model(ids) with logits [example, position, vocabulary] "
            f"({type(first).__name__}: {why})",
            "a causal LM: from token ids to logits",
            "pass forward=lambda model, ids: logits; for other models use slt.supervised or "
            "slt.loss_fn",
        )
    ) from first


def _call(model: nn.Module, params: Mapping[str, Tensor], read: Reading, ids: Tensor) -> Tensor:
    """Return the logits of `model` with `params` in place."""
    places = Places(model)
    places.put(params)
    try:
        return read(model, ids)
    finally:
        places.release()


def check_causal(
    module: nn.Module, named: Mapping[str, Tensor], ids: Tensor, vocabulary: int, kind: str
) -> None:
    """Check by experiment that no loss depends on tokens that come after its own.

    Raises:
        InputError: a model that looks ahead: its losses are no log-probabilities of the text.
    """
    if vocabulary < 2 or ids.shape[1] < 3:
        return
    losses = functional_call(module, dict(named), (ids,))
    moved = 0.0
    for keep in {max(2, ids.shape[1] // 2), ids.shape[1] - 1, 2}:
        for shift in (1, 1 + vocabulary // 3):
            other = ids.clone()
            other[:, keep:] = (other[:, keep:] + shift) % vocabulary
            now = functional_call(module, dict(named), (other,))
            change = (now - losses)[:, : keep - 1].abs()
            moved = max(moved, float((change / losses[:, : keep - 1].abs().clamp(min=1)).max()))
    eps = max(torch.finfo(v.dtype).eps for v in named.values() if v.is_floating_point())
    if moved > 200 * eps:  # rounding differs by the values that share a product
        raise InputError(
            say(
                f"a {kind}, whose losses move by {moved:.2g} when later tokens are changed",
                "a causal LM: each position sees those before it alone",
                "masked and encoder models have no losses of next tokens; use slt.supervised or "
                "slt.loss_fn with a loss of your own",
            )
        )
