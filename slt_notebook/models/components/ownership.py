"""Which entries of an attention's weights belong to which head?  Asked of gradients, then verified.

No table of architectures: the layers are the largest list of modules of one class, the attention is
the part of a layer whose output at the last position depends on its input at the first, its output
projection is the last matrix that it applies, and head h is the h-th slot of that matrix' input.
One backward pass from a slot names the entries that feed it.  This finds fused, interleaved and
transposed layouts, and keys and values that several heads share, by itself.

The attention is asked in isolation, at random weights and at inputs that the model itself made, so
that a dead head or a saturated softmax of the trained model hides nothing.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.space import Piece
from slt_notebook.errors import ComponentError, say
from slt_notebook.models.components.outputs import first_tensor

TOKENS = 12
"""Length of the two made-up texts that the model is shown."""


@dataclass(frozen=True)
class Group:
    """Entries that several heads share: keys and values under grouped attention."""

    heads: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Attention:
    """Who owns what in one attention module.

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


@dataclass(frozen=True)
class Layers:
    """The repeated layers of a model: their names, their attentions and the inputs of these."""

    names: tuple[str, ...]
    attentions: tuple[str | None, ...]
    calls: dict[str, tuple]  # attention's name -> (args, kwargs) that the model gave it


def find_layers(model: nn.Module, ids: Tensor) -> Layers:
    """The layers of `model`, and in each the module that mixes positions.

    Args:
        model: a shell, whose hooks may be set.
        ids: token ids `[text, position]`.

    Raises:
        ComponentError: no list of modules of one class.
    """
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(m) for m in module}) == 1
    }
    sizes = {n: sum(p.numel() for p in m.parameters()) for n, m in lists.items()}
    if not sizes:
        raise ComponentError(
            say(
                f"a {type(model).__name__} without a list of layers",
                "repeated layers in a torch.nn.ModuleList",
                "name parameters instead: components='param:<glob>'",
            )
        )
    found = max(sizes, key=lambda name: (sizes[name], -len(name)))
    names = [f"{found}.{i}" for i in range(len(lists[found]))]
    children = [
        f"{name}.{child}"
        for name in names
        for child, _ in model.get_submodule(name).named_children()
    ]
    with recorded(model, children) as calls, torch.no_grad():
        model(input_ids=ids, use_cache=False)
    attentions = []
    for name in names:
        mixing = [c for c in children if c.startswith(f"{name}.") and c in calls]
        mixing = [c for c in mixing if _mixes(model.get_submodule(c), *calls[c])]
        attentions.append(mixing[0] if len(mixing) == 1 else None)
    kept = {name: calls[name] for name in attentions if name is not None}
    return Layers(tuple(names), tuple(attentions), kept)


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, tuple]]:
    """The arguments `(args, kwargs)` with which the named modules are called within."""
    calls: dict[str, tuple] = {}

    def keep(name: str):
        def hook(_module, args, kwargs):
            calls.setdefault(name, (args, kwargs))

        return hook

    handles = [
        model.get_submodule(name).register_forward_pre_hook(keep(name), with_kwargs=True)
        for name in names
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def random_parameters(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights of the right shapes at which nothing is dead and no softmax saturates."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        wide = parameter.dim() >= 2
        value = noise / max(parameter.shape) ** 0.5 if wide else 1 + 0.2 * noise
        out[name] = value.to(parameter.device, parameter.dtype)
    return out


def _mixes(module: nn.Module, args: tuple, kwargs: dict) -> bool:
    """Whether the output at the last position depends on the input at the first."""
    params = random_parameters(module, 0)
    if not params:
        return False

    def moved(value):
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 3:
            value = value.clone()
            value[:, 0] += torch.linspace(-1, 1, value.shape[-1], device=value.device)
        return value

    first = next((i for i, a in enumerate(args) if isinstance(a, Tensor)), None)
    other_args = tuple(moved(a) if i == first else a for i, a in enumerate(args))
    other = {
        k: moved(v) if first is None and k == "hidden_states" else v for k, v in kwargs.items()
    }
    with torch.no_grad():
        before = first_tensor(functional_call(module, params, args, kwargs))
        after = first_tensor(functional_call(module, params, other_args, other))
    if before is None or after is None or before.dim() != 3:
        return False
    return float((before[:, -1] - after[:, -1]).abs().max()) > 1e-6


def derive(model: nn.Module, prefix: str, call: tuple, heads: int) -> Attention:
    """The owners in the attention module `prefix`, from one backward pass a head; verified.

    Args:
        call: `(args, kwargs)` of the module.
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
    masks = _feeding(module, out_name, call, heads)
    coupled = False
    if any(_is_norm(part) for part in module.modules()):
        # A norm over all heads ties every head to the weights of the others by its statistics.
        held = _feeding(module, out_name, call, heads, hold_norms=True)
        coupled = any(not torch.equal(masks[name], held[name]) for name in masks)
        masks = held
    own: list[list[Piece]] = [[] for _ in range(heads)]
    groups: dict[tuple[int, ...], list[Piece]] = {}
    shared: list[Piece] = []
    for name, mask in masks.items():
        full = f"{prefix}.{name}"
        parent = module.get_submodule(name.rpartition(".")[0])
        is_norm = all(p.dim() < 2 for p in parent.parameters(recurse=False))
        for owners, piece in _runs(full, mask):
            if len(owners) == 1:
                own[owners[0]].append(piece)
            elif owners and not is_norm and not name.startswith(f"{out_name}."):
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


def _output_projection(module: nn.Module, call: tuple) -> tuple[str, int]:
    """The last matrix that the module applies, and the width of its input."""
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
    return last, first_tensor(calls[last][0]).shape[-1]


def _feeding(
    module: nn.Module, out_name: str, call: tuple, heads: int, hold_norms: bool = False
) -> dict[str, Tensor]:
    """For every parameter, which heads it feeds: bool `[head, *shape]`."""
    params = {k: v.requires_grad_() for k, v in random_parameters(module, 1).items()}
    handles = []
    for name, part in module.named_modules():
        kinds = {p.dim() for p in part.parameters(recurse=False)}
        if name != out_name and 2 in kinds:
            # A bias of the keys shifts all scores alike, and softmax forgets it; a gain that
            # differs from position to position makes it felt, and changes nobody's owner.
            handles.append(part.register_forward_hook(_gain))
        elif hold_norms and _is_norm(part):
            handles.append(part.register_forward_hook(_held))
    slots: list[Tensor] = []
    part = module.get_submodule(out_name)
    handles.append(part.register_forward_pre_hook(lambda _m, args: slots.append(args[0])))
    try:
        with torch.enable_grad():
            functional_call(module, params, *call)
    finally:
        for handle in handles:
            handle.remove()
    slot = slots[-1]
    inner = {k: v for k, v in params.items() if not k.startswith(f"{out_name}.")}
    masks = {k: torch.zeros(heads, *v.shape, dtype=torch.bool) for k, v in params.items()}
    width = slot.shape[-1] // heads
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(slot.shape, generator=generator).to(slot)
    for head in range(heads):
        part_of = slice(head * width, (head + 1) * width)
        target = (slot[..., part_of] * weight[..., part_of]).sum()
        grads = torch.autograd.grad(
            target, list(inner.values()), retain_graph=True, allow_unused=True
        )
        for name, grad in zip(inner, grads, strict=True):
            if grad is not None:
                masks[name][head] = (grad != 0).cpu()
        alone = torch.zeros_like(slot)
        alone[..., part_of] = weight[..., part_of]
        outer = {k: v for k, v in params.items() if k not in inner}
        names = {k: k[len(out_name) + 1 :] for k in outer} if out_name else {k: k for k in outer}
        with torch.enable_grad():
            made = functional_call(part, {names[k]: v for k, v in outer.items()}, (alone,))
            target = (made * torch.randn(made.shape, generator=generator).to(made)).sum()
        for name, grad in zip(
            outer, torch.autograd.grad(target, list(outer.values())), strict=True
        ):
            masks[name][head] = (grad != 0).cpu()
    return masks


def _is_norm(part: nn.Module) -> bool:
    return {p.dim() for p in part.parameters(recurse=False)} == {1}


def _gain(_module, _args, output):
    gains = torch.linspace(0.5, 1.5, output.shape[1], device=output.device, dtype=output.dtype)
    return output * gains[:, None]


def _held(module, args, output):
    """A norm as the linear map that it is while its statistics stand still."""
    x = args[0]
    weight = next(p for n, p in module.named_parameters() if n.endswith("weight"))
    bias = dict(module.named_parameters()).get("bias", torch.zeros_like(weight))
    return x * ((output - bias) / (x * weight)).detach() * weight + bias


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


def _verify(module: nn.Module, found: Attention, out_name: str, call: tuple) -> None:
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
            block += 0.5 * torch.randn(block.shape, generator=generator).to(block)
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


def _slots(module, part, params, call) -> Tensor:
    kept: list[Tensor] = []
    handle = part.register_forward_pre_hook(lambda _m, args: kept.append(args[0]))
    try:
        with torch.no_grad():
            functional_call(module, params, *call)
    finally:
        handle.remove()
    return kept[-1]
