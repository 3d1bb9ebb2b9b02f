"""What of a language model does not change while one head moves?  The other heads of its attention.

Where nothing before an attention moves, what its other heads add to the residual stream is, for a
fixed text, the same at every draw.  It is computed once; the loss that `alone` makes computes the
one head and adds the rest:

    attention(x; w) = head(x; w_h) + rest(x),    rest(x) = attention(x; w*) - head(x; w*_h)

The module is the model's own: it is called with the rows and columns of one head in place of the
whole matrices, and makes of them as many heads as they hold (Llama, GPT-NeoX, Qwen and their kin
do; of grouped queries, with the keys and values of the head's group).  One that does not answers
otherwise or not at all, which `agrees` finds out before the loss is used.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.space import Piece, Space
from slt_notebook.core.types import Batch, Params
from slt_notebook.models.causal_lm import PREFIX, CausalLMLoss
from slt_notebook.models.components.ownership import first_tensor
from slt_notebook.models.components.patterns import Component, Parts
from slt_notebook.models.components.prefix import Enough


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


def alone(
    loss: CausalLMLoss, space: Space, attention: str, fixed: Sequence[Piece] = ()
) -> tuple[CausalLMLoss, Space]:
    """The loss of a model with one head in `attention`, and its coordinates.

    Its parameters are `loss.params` with the blocks of `space`, the head, in place of the matrices
    that they are cut from; its batches carry the field `rest`, from `rest_of`.

    Args:
        fixed: blocks that the head reads besides, and that do not move.
    """
    take = lambda pieces: {p.name: loss.params[p.name][p.slices].contiguous() for p in pieces}
    blocks = take(space.pieces)
    shapes = tuple((name, tuple(block.shape)) for name, block in blocks.items())
    pieces = tuple(Piece(name, tuple((0, size) for size in shape)) for name, shape in shapes)
    shells = loss.shells.changed(partial(_add_rest, attention=attention))
    params = {**loss.params, **take(fixed), **blocks}
    return replace(loss, shells=shells, params=params, rest=True), Space(pieces, shapes)


def rest_of(loss: CausalLMLoss, cut: CausalLMLoss, attention: str, batch: Batch) -> Tensor:
    """What the other heads add at w*: `[example, position, dim]`.

    Args:
        loss, cut: with all heads, and with the one, from `alone`.
        batch: with the field `prefix` where `loss` goes on from one.
    """
    whole = _answer(loss, loss.params, attention, batch)
    return (whole - _answer(cut, cut.params, attention, batch)).detach()


def agrees(
    loss: CausalLMLoss, space: Space, cut: CausalLMLoss, small: Space, attention: str, batch: Batch
) -> bool:
    """Whether the loss with one head is the model's loss, asked where the head has moved far.

    Moved by noise of its own size, the head must change the attention's output in the same way in
    both, to a thousandth of the change; and the losses must be the same, there and at w*.

    Args:
        space, small: coordinates of the head in either.
        batch: with the field `rest`.
    """
    center = space.flatten(loss.params)
    noise = torch.randn(len(center), generator=torch.Generator().manual_seed(0)).to(center)
    moved = center + noise * center.square().mean().sqrt()
    changes = []
    for one, coordinates in ((loss, space), (cut, small)):
        there, here = coordinates.unflatten(moved, one.params), one.params
        answers = [_answer(one, params, attention, batch) for params in (there, here)]
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


def _answer(loss: CausalLMLoss, params: Params, attention: str, batch: Batch) -> Tensor:
    """The output of `attention`, without a rest."""
    module = loss.shells.get()
    caught: list[Tensor] = []

    def catch(_module, _args, output):
        caught.append(first_tensor(output))
        raise Enough

    handle = module.model.get_submodule(attention).register_forward_hook(catch)
    counted = batch["attention_mask"][:, 1:] > 0
    params = {f"model.{name}": value for name, value in params.items()}
    try:
        with torch.no_grad():
            functional_call(module, params, (batch["input_ids"], "chunked", counted,
                                             batch.get(PREFIX)))  # fmt: skip
    except Enough:
        pass
    finally:
        handle.remove()
    return caught[0]


def _add_rest(module: nn.Module, attention: str) -> None:
    """Makes an attention of a shell add `rest`, where there is one."""
    inner = module.model.get_submodule(attention)  # pyright: ignore
    if hasattr(inner, "num_key_value_groups"):
        inner.num_key_value_groups = 1  # one head reads one of keys and values
    inner.forward = partial(_with_rest, module, inner.forward)


def _with_rest(holder: nn.Module, forward, *args, **kwargs):
    output = forward(*args, **kwargs)
    rest = holder.rest
    if rest is None:
        return output
    if isinstance(output, tuple):
        return (output[0] + rest.to(output[0].dtype), *output[1:])  # pyright: ignore
    return output + rest.to(output.dtype)  # pyright: ignore
