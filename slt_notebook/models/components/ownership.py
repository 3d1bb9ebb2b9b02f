"""Which entries of an attention's weights belong to which head: derived from gradients, verified.

No table of architectures: the output projection of an attention is the last matrix that it applies,
and head h is the h-th slot of that matrix' input.  One backward pass from a slot names the entries
that feed it (`feeding`).  This finds fused, interleaved and transposed layouts, and keys and values
that several heads share.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.space import Piece
from slt_notebook.errors import ComponentError, say
from slt_notebook.models.components.feeding import feeding, is_norm
from slt_notebook.models.components.outputs import first_tensor
from slt_notebook.models.components.recording import Call, random_parameters, recorded


@dataclass(frozen=True)
class Group:
    """Entries that several heads share: keys and values under grouped attention."""

    heads: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Attention:
    """The owners of the weights of one attention module.

    Attributes:
        prefix: the module's name in the model.
        heads: the pieces that head h alone uses, for each h.
        groups: entries that some heads share (keys and values), or all of them (multi-query).
        shared: entries that belong to no head: biases of the output, norms common to the heads.
        coupled: a norm over all heads ties them; ownership then holds for fixed norm statistics.
    """

    prefix: str
    heads: tuple[tuple[Piece, ...], ...]
    groups: tuple[Group, ...]
    shared: tuple[Piece, ...]
    coupled: bool


def derive(model: nn.Module, prefix: str, call: Call, heads: int) -> Attention:
    """The owners in the attention module `prefix`, from one backward pass per head; verified.

    Args:
        model: a shell.
        prefix: name of an attention in the model.
        call: `(args, kwargs)` of the attention.
        heads: how many there are.

    Raises:
        ComponentError: the slots do not divide among the heads, entries are scattered, the pieces
            do not tile the module, or moving one head moves the slot of another.
    """
    module = model.get_submodule(prefix)
    out_name, width = _output_projection(module, call)
    if width % heads:
        raise ComponentError(
            say(
                f"{prefix}.{out_name} with {width} inputs for {heads} heads",
                "as many inputs for every head",
                "name parameters instead: components='param:<glob>'",
            )
        )
    masks = feeding(module, out_name, call, heads)
    coupled = False
    if any(is_norm(part) for part in module.modules()):
        # A norm over all heads ties every head to the weights of the others by its statistics.
        held = feeding(module, out_name, call, heads, hold_norms=True)
        coupled = any(not torch.equal(masks[name], held[name]) for name in masks)
        masks = held
    own: list[list[Piece]] = [[] for _ in range(heads)]
    groups: dict[tuple[int, ...], list[Piece]] = {}
    shared: list[Piece] = []
    for name, mask in masks.items():
        full = f"{prefix}.{name}"
        parent = module.get_submodule(name.rpartition(".")[0])
        in_norm = all(p.dim() < 2 for p in parent.parameters(recurse=False))
        for owners, piece in _runs(full, mask):
            if len(owners) == 1:
                own[owners[0]].append(piece)
            elif owners and not in_norm and not name.startswith(f"{out_name}."):
                groups.setdefault(owners, []).append(piece)
            else:
                shared.append(piece)
    found = Attention(
        prefix,
        tuple(map(tuple, own)),
        tuple(Group(owners, tuple(pieces)) for owners, pieces in sorted(groups.items())),
        tuple(shared),
        coupled,
    )
    _verify(module, found, out_name, call)
    return found


def _output_projection(module: nn.Module, call: Call) -> tuple[str, int]:
    """Return the last matrix that the module applies, and the width of its input."""
    names = [
        name
        for name, part in module.named_modules()
        if any(p.dim() == 2 for p in part.parameters(recurse=False))
    ]
    with recorded(module, names) as calls, torch.no_grad():
        functional_call(module, random_parameters(module, 0), *call)
    if not calls:
        raise ComponentError(
            say("an attention without matrices", "projections", "use components='param:<glob>'")
        )
    last = list(calls)[-1]
    given = first_tensor(calls[last][0])
    assert given is not None
    return last, given.shape[-1]


def _runs(name: str, mask: Tensor) -> Iterator[tuple[tuple[int, ...], Piece]]:
    """`(owners, piece)` for each run of rows (or columns) of one parameter with the same owners."""
    shape = tuple(mask.shape[1:])
    axis = 0
    along = mask
    if len(shape) == 2:
        rows, columns = mask.any(2), mask.any(1)
        product = rows[:, :, None] & columns[:, None, :]
        by_rows = bool((columns | ~columns.any(1, keepdim=True)).all())
        by_columns = bool((rows | ~rows.any(1, keepdim=True)).all())
        if (
            not (by_rows or by_columns)
            or int(torch.count_nonzero(product != mask)) > 1e-3 * mask.numel()
        ):
            raise ComponentError(
                say(
                    f"{name}, whose entries of one head are scattered",
                    "whole rows or whole columns",
                    "name parameters instead: components='param:<glob>'",
                )
            )
        axis, along = (0, rows) if by_rows else (1, columns)
    elif len(shape) != 1:
        yield (), Piece(name, tuple((0, n) for n in shape))
        return
    start = 0
    for key, run in itertools.groupby(along.T.tolist()):
        stop = start + len(list(run))
        window = [(0, n) for n in shape]
        window[axis] = (start, stop)
        yield tuple(head for head, fed in enumerate(key) if fed), Piece(name, tuple(window))
        start = stop


def _verify(module: nn.Module, found: Attention, out_name: str, call: Call) -> None:
    """The pieces tile the module once, and moving those of some heads moves their slots alone."""
    params = random_parameters(module, 3)
    cut = len(found.prefix) + 1
    counts = {k: torch.zeros(v.shape, dtype=torch.int8) for k, v in params.items()}
    sets = [((h,), pieces) for h, pieces in enumerate(found.heads)]
    sets += [(group.heads, group.pieces) for group in found.groups]
    for pieces in [*(p for _, p in sets), found.shared]:
        for piece in pieces:
            counts[piece.name[cut:]][piece.slices] += 1
    wrong = [name for name, count in counts.items() if not bool((count == 1).all())]
    if wrong:
        raise ComponentError(
            say(
                f"heads of {found.prefix} that cover {wrong} not once",
                "every entry exactly once",
                "name parameters instead: components='param:<glob>'",
            )
        )
    part = module.get_submodule(out_name)
    generator = torch.Generator().manual_seed(4)
    before = _slots(module, part, params, call)
    width = before.shape[-1] // len(found.heads)
    for heads, pieces in sets:
        moved = {k: v.clone() for k, v in params.items()}
        inner = [p for p in pieces if not p.name[cut:].startswith(f"{out_name}.")]
        for piece in inner:
            block = moved[piece.name[cut:]][piece.slices]
            block += 0.5 * torch.randn(block.shape, generator=generator, dtype=torch.float32).to(
                block
            )
        change = (_slots(module, part, moved, call) - before).abs().flatten(0, -2).amax(0)
        change = change.reshape(len(found.heads), width).amax(1) / before.abs().max()
        outside = [h for h in range(len(found.heads)) if h not in heads]
        still = found.coupled or not outside or float(change[outside].max()) < 1e-5
        if not still or (inner and float(change[list(heads)].min()) < 1e-6):
            raise ComponentError(
                say(
                    f"weights of heads {heads} of {found.prefix} that move the slots of others",
                    f"changes of slots {heads} alone",
                    "name parameters instead: components='param:<glob>'",
                )
            )


def _slots(module: nn.Module, part: nn.Module, params: dict[str, Tensor], call: Call) -> Tensor:
    """Return the input of the output projection `part`."""
    kept: list[Tensor] = []
    handle = part.register_forward_pre_hook(lambda _m, args: kept.append(args[0]))
    try:
        with torch.no_grad():
            functional_call(module, params, *call)
    finally:
        handle.remove()
    return kept[-1]
