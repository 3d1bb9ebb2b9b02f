"""Per-head evaluation: the other heads of an attention are computed once while one head moves.

Where nothing before an attention moves, what its other heads add to the residual stream is, for a
fixed text, the same at every draw.  It is computed once; the loss that `single_head` makes computes
the one head and adds the rest:

    attention(x; w) = head(x; w_h) + rest(x),    rest(x) = attention(x; w*) - head(x; w*_h)

The module is the model's own: it is called with the rows and columns of one head in place of the
whole matrices, and makes of them as many heads as they hold (Llama, GPT-NeoX, Qwen and similar
ones do; of grouped queries, with the keys and values of the head's group).  One that does not gives
another answer or an error, which `agrees` finds out before the loss is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from slt_notebook.core.space import Piece, Space
from slt_notebook.core.types import Batch, Params
from slt_notebook.models.components.outputs import first_tensor, output_of
from slt_notebook.models.components.patterns import Component, Parts
from slt_notebook.models.losses.token_losses import LayeredLoss


def attention_of(component: Component) -> str | None:
    """The module whose head `component` is, or None where it is no head or not by whole blocks."""
    names = [piece.name for piece in component.pieces]
    if component.kind != "head" or component.layer is None or len(set(names)) < len(names):
        return None
    paths = [name.split(".")[:-1] for name in names]
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common) or None


def keys_and_values(parts: Parts, component: Component) -> tuple[Piece, ...]:
    """What a head reads of keys and values that heads of a group share; nothing without groups."""
    same = next((h.found for h in parts.heads.values() if component.name in h.names), {})
    groups = [c for c in same.values() if c.kind == "keys and values"]
    heads = sum(c.kind == "head" for c in same.values())
    if not groups or component.head is None:
        return ()
    return groups[component.head * len(groups) // heads].pieces


def single_head(
    loss: LayeredLoss, space: Space, attention: str, fixed: Sequence[Piece] = ()
) -> tuple[LayeredLoss, Space]:
    """Return the loss of a model with one head in `attention`, and its coordinates.

    Its parameters are `loss.params` with the blocks of `space`, the head, in place of the matrices
    that they are cut from; its batches carry the field `rest`, from `rest_of`.

    Args:
        loss: of the model, or of its layers after a prefix.
        space: coordinates of the head in the model.
        attention: name of the module.
        fixed: blocks that the head reads besides, and that do not move.
    """
    take = lambda pieces: {p.name: loss.params[p.name][p.slices].contiguous() for p in pieces}
    blocks = take(space.pieces)
    shapes = tuple((name, tuple(block.shape)) for name, block in blocks.items())
    pieces = tuple(Piece(name, tuple((0, size) for size in shape)) for name, shape in shapes)
    shells = loss.shells.changed(partial(_add_rest, attention=attention))
    params = {**loss.params, **take(fixed), **blocks}
    return replace(loss, shells=shells, params=params, rest=True), Space(pieces, shapes)


def rest_of(loss: LayeredLoss, cut: LayeredLoss, attention: str, batch: Batch) -> Tensor:
    """Return what the other heads add at w*: `[example, position, dim]`.

    Args:
        loss: with all heads.
        cut: with one head, from `single_head`.
        attention: name of the module.
        batch: with the field `prefix` where `loss` starts from one.
    """
    whole = _output(loss, loss.params, attention, batch)
    return (whole - _output(cut, cut.params, attention, batch)).detach()


def agrees(
    loss: LayeredLoss, space: Space, cut: LayeredLoss, small: Space, attention: str, batch: Batch
) -> bool:
    """Whether the loss with one head is the model's loss, also where the head has moved far.

    Moved by noise of its own size, the head must change the attention's output in the same way in
    both, to a thousandth of the change; and the losses must be the same, there and at w*.

    Args:
        loss: with all heads.
        space: coordinates of the head in it.
        cut: with one head, from `single_head`.
        small: coordinates of the head in it.
        attention: name of the module.
        batch: with the field `rest`.
    """
    center = space.flatten(loss.params)
    noise = torch.randn(
        len(center), generator=torch.Generator().manual_seed(0), dtype=torch.float32
    ).to(center)
    moved = center + noise * center.square().mean().sqrt()
    changes = []
    for one, coordinates in ((loss, space), (cut, small)):
        there, here = coordinates.unflatten(moved, one.params), one.params
        answers = [_output(one, params, attention, batch) for params in (there, here)]
        changes.append(answers[0] - answers[1])
    change, same = changes
    if change.shape != same.shape or not change.norm() > 0:
        return False
    if not (change - same).norm() <= 1e-3 * change.norm():
        return False
    for position in (center, moved):
        expected = loss.evaluate(space.unflatten(position, loss.params), batch)
        got = cut.evaluate(small.unflatten(position, cut.params), batch)
        if got.shape != expected.shape or not torch.allclose(
            got, expected, rtol=1e-4, atol=1e-4, equal_nan=True
        ):
            return False
    return True


def _output(loss: LayeredLoss, params: Params, attention: str, batch: Batch) -> Tensor:
    """Return the output of `attention`, without a rest."""
    output = first_tensor(output_of(loss, attention, params, batch))
    assert output is not None
    return output


def _add_rest(module: nn.Module, attention: str) -> None:
    """Make an attention of a shell add `rest`, where there is one."""
    inner = module.get_submodule(f"model.{attention}")
    if hasattr(inner, "num_key_value_groups"):
        inner.num_key_value_groups = 1  # pyright: ignore[reportArgumentType]  # one head reads one
    inner.forward = partial(_with_rest, module, inner.forward)


def _with_rest(holder: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the forward pass of an attention with one head."""
    output = forward(*args, **kwargs)
    rest = holder.rest
    if rest is None:
        return output
    if isinstance(output, tuple):
        return (output[0] + rest.to(output[0].dtype), *output[1:])
    return output + rest.to(output.dtype)
