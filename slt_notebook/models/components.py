"""Which parts does a model have, and which coordinates does a name mean?

    full  embed  positions  unembed  final_norm  rest          the whole, and what stands alone
    l0  l0.attn  l0.mlp  l0.norm                               layers and their parts
    l0.h3   l0.kv1   l0.g1   l0.shared                         heads; keys and values that heads of
                                                               a group share; the group whole; what
                                                               belongs to no head
Patterns: globs over these names (`"l*.h*"`), unions (`"l0.attn+l1.mlp"`), the field's `"l0h3"`, and
globs over parameters (`"param:*q_proj*"`).  Who owns what is derived in `ownership`.
"""

import fnmatch
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from slt_notebook.core.space import Piece, Space
from slt_notebook.errors import ComponentError, InputError, nearest, say
from slt_notebook.models import ownership
from slt_notebook.models.losses import Shells, shell

COUPLED = "a norm over all heads ties them: owners hold for fixed norm statistics"


@dataclass(frozen=True)
class Component:
    """A named part of a model.

    Attributes:
        kind: "full", "embed", "layer", "attention", "head", "group", ...
        layer, head: numbers, where it has them.
        first_layer: no layer before this one depends on it; None where all of them may.
        note: what a reader must know (tied weights, coupled heads).
    """

    name: str
    kind: str
    pieces: tuple[Piece, ...]
    layer: int | None = None
    head: int | None = None
    first_layer: int | None = None
    note: str = ""

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)


@dataclass(frozen=True)
class Parts:
    """All components of a model, its parameters' shapes, and the names of its layers."""

    components: Mapping[str, Component]
    shapes: Mapping[str, tuple[int, ...]]
    layers: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)  # component -> the one it is tied to

    def __getitem__(self, name: str) -> Component:
        return self.components[name]

    # What a pattern means -----------------------------------------------------------------------

    def expand(self, pattern: str) -> list[str]:
        """Names that one entry of a list of components stands for; a union is one component.

        Raises:
            ComponentError: a glob or name that means nothing here, with the nearest names.
        """
        pattern = pattern.strip()
        if "+" in pattern or pattern.startswith("param:"):
            self.resolve(pattern)
            return ["+".join(part.strip() for part in pattern.split("+"))]
        return self._match(pattern)

    def resolve(self, pattern: str) -> Component:
        """The component that a name, glob or union means; a glob means the union of its matches.

        Raises:
            ComponentError: something unknown, nothing at all, or parts that overlap.
        """
        pattern = pattern.strip()
        if pattern in self.components:
            return self.components[pattern]
        chosen: list[Component] = []
        for part in pattern.split("+"):
            part = part.strip()
            if part.startswith("param:"):
                chosen.append(self._parameters(part))
            else:
                chosen += [self.components[name] for name in self._match(part)]
        if len({c.name for c in chosen}) < len(chosen):
            raise ComponentError(
                say(f"{pattern!r}, which names a part twice", "each once", "name it once")
            )
        refuse_overlap(chosen, pattern)
        pieces = tuple(p for c in chosen for p in c.pieces)
        firsts = [c.first_layer for c in chosen]
        first = None if None in firsts else min(firsts, default=None)  # pyright: ignore
        if len(chosen) == 1 and not pattern.startswith("param:"):
            return chosen[0]
        note = "; ".join(dict.fromkeys(c.note for c in chosen if c.note))
        return Component(pattern, "union", pieces, first_layer=first, note=note)

    def space(self, pattern: str) -> Space:
        """The coordinates of a component, in the order of the model's parameters."""
        found = self.resolve(pattern)
        order = {name: i for i, name in enumerate(self.shapes)}
        pieces = tuple(sorted(found.pieces, key=lambda p: (order[p.name], p.window)))
        held = dict.fromkeys(piece.name for piece in pieces)
        return Space(pieces, tuple((name, tuple(self.shapes[name])) for name in held))

    def _match(self, pattern: str) -> list[str]:
        name = canonical(pattern)
        if name in self.components:
            return [name]
        found = [n for n in self.components if fnmatch.fnmatchcase(n, name)]
        found = [n for n in found if n != "full"]
        if not found:
            raise ComponentError(
                say(
                    f"component {pattern!r}",
                    f"one of {_shortened(self.components)}, a glob over them, or "
                    f"'param:<glob over parameter names>'{nearest(name, self.components)}",
                    "list them with slt.components(model)",
                )
            )
        return found

    def _parameters(self, part: str) -> Component:
        pattern = part.partition(":")[2]
        matched = [n for n in self.shapes if pattern and fnmatch.fnmatchcase(n, pattern)]
        if not matched:
            raise ComponentError(
                say(
                    f"component {part!r}, which matches nothing",
                    f"a glob over the {len(self.shapes)} parameter names"
                    f"{nearest(pattern, self.shapes)}",
                    "list them with list(loss.params)",
                )
            )
        pieces = tuple(_whole(n, self.shapes[n]) for n in matched)
        layers = [_layer_of(n, self.layers) for n in matched]
        first = None if None in layers or not layers else min(layers)  # pyright: ignore
        return Component(part, "parameters", pieces, first_layer=first)


def canonical(name: str) -> str:
    """The kit's spelling of the field's: `l0h1`, `l0 mlp`, `l0_attn` -> `l0.h1`, `l0.mlp`, ...

    >>> canonical("l0h1"), canonical("l0 mlp"), canonical("l1g0"), canonical("l*.h*")
    ('l0.h1', 'l0.mlp', 'l1.g0', 'l*.h*')
    """
    name = name.strip()
    found = re.fullmatch(r"l(\d+)[ ._]?(h\d+|g\d+|kv\d+|attn|mlp|norm|shared)", name)
    return f"l{found[1]}.{found[2]}" if found else name


def refuse_overlap(parts: Sequence[Component], pattern: str) -> None:
    """Raises where two parts hold one coordinate, and says whether their weights are tied."""
    by_name: dict[str, list[tuple[Component, Piece]]] = {}
    for part in parts:
        for piece in part.pieces:
            by_name.setdefault(piece.name, []).append((part, piece))
    for name, held in by_name.items():
        for (one, p), (other, q) in itertools.combinations(held, 2):
            apart = any(
                a[1] <= b[0] or b[1] <= a[0] for a, b in zip(p.window, q.window, strict=True)
            )
            if one is not other and not apart:
                why = (
                    "tied: one weight under two names" if "tied" in one.note + other.note else name
                )
                raise ComponentError(
                    say(
                        f"{pattern!r}, in which {one.name!r} and {other.name!r} overlap ({why})",
                        "parts that share no weights",
                        "keep one of the two",
                    )
                )


# Deriving them ------------------------------------------------------------------------------------


def parts(model: Any, *, heads: bool = True) -> Parts:
    """The components of a model or of a loss made from one.

    Args:
        model: a Hugging Face causal LM, any torch module, or a loss of the kit.
        heads: False leaves attentions whole.

    Raises:
        InputError: something without parameters.
    """
    module = _module_of(model)
    if module is None:
        if not hasattr(model, "params"):
            raise InputError(
                say(f"a {type(model).__name__}", "a model or a loss of the kit", "pass a model")
            )
        return _plain({n: tuple(v.shape) for n, v in model.params.items()})
    shapes = {n: tuple(p.shape) for n, p in module.named_parameters()}
    if not _is_causal_lm(module):
        return _plain(shapes)
    return _causal_lm(shell(module), shapes, heads)


def components(model: Any):
    """The components of a model: a table to read, whose index names what can be sampled.

    Heads are derived from gradients and verified: in every attention, heads, shared keys and values
    and the rest tile the weights exactly once, and moving the weights of one head moves its slot of
    the output projection's input alone.

    Args:
        model: a Hugging Face causal LM, any torch module, or a loss of the kit.

    Returns:
        DataFrame indexed by component, with `kind`, `layer`, `head`, `parameters`, `share` of all
        parameters, and `note` (tied weights, coupled heads).

    Raises:
        InputError: not a model.  ComponentError: an attention whose heads cannot be told apart.

    References: the components of 2410.02984 and 2504.18274.
    """
    import pandas as pd

    found = parts(model)
    total = found["full"].size
    rows = {
        name: {
            "kind": c.kind,
            "layer": c.layer,
            "head": c.head,
            "parameters": c.size,
            "share": c.size / total,
            "note": c.note,
        }
        for name, c in found.components.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "component"
    return table.astype({"layer": "Int64", "head": "Int64"})


def _module_of(model: Any) -> nn.Module | None:
    if isinstance(model, nn.Module):
        return model
    shells = getattr(model, "shells", None)
    if isinstance(shells, Shells):
        inner = shells.get()
        return getattr(inner, "model", inner) if getattr(model, "kind", "") == "text" else inner
    return None


def _is_causal_lm(module: nn.Module) -> bool:
    return hasattr(module, "config") and hasattr(module, "get_output_embeddings")


def _plain(shapes: Mapping[str, tuple[int, ...]]) -> Parts:
    pieces = tuple(_whole(n, s) for n, s in shapes.items())
    found = {"full": Component("full", "full", pieces)}
    for name, shape in shapes.items():
        found[f"param:{name}"] = Component(f"param:{name}", "parameter", (_whole(name, shape),))
    return Parts(found, shapes)


def _causal_lm(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], heads: bool) -> Parts:
    embedding = model.get_input_embeddings()  # pyright: ignore
    vocabulary = embedding.weight.shape[0]
    ids = torch.arange(2 * ownership.TOKENS, device=embedding.weight.device) * 7919 % vocabulary
    try:
        layers = ownership.find_layers(model, ids.reshape(2, ownership.TOKENS))
    except ComponentError:
        return _plain(shapes)
    found = {"full": Component("full", "full", tuple(_whole(n, s) for n, s in shapes.items()))}
    outside = [n for n in shapes if _layer_of(n, layers.names) is None]
    ends, tied = _ends(model, shapes, outside, len(layers.names))
    found |= {c.name: c for c in ends if c.name in ("embed", "positions")}
    for number, (name, attention) in enumerate(zip(layers.names, layers.attentions, strict=True)):
        for part in _layer(model, shapes, number, name, attention, layers.calls, heads):
            found[part.name] = part
    found |= {c.name: c for c in ends}
    return Parts(found, shapes, layers.names, tied)


def _ends(model, shapes, outside: list[str], depth: int) -> tuple[list[Component], dict]:
    """What stands before and after the layers."""
    named = dict(model.named_parameters(remove_duplicate=False))
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()

    def owned(module) -> list[str]:
        mine = {id(p) for p in module.parameters()} if module is not None else set()
        return [n for n in shapes if id(named[n]) in mine]

    first, last = owned(embed), owned(head)
    places = [
        n
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        for n in (f"{name}.weight",)
        if n in outside and n not in first
    ]
    norms = [n for n in outside if len(shapes[n]) == 1 and n not in (*first, *last, *places)]
    rest = [n for n in outside if n not in (*first, *last, *places, *norms)]
    both = set(first) & set(last)
    out = [Component("embed", "embed", _wholes(first, shapes))]
    if places:
        out.append(Component("positions", "positions", _wholes(places, shapes)))
    if norms:
        modules = {n.rpartition(".")[0] for n in norms}
        note = "" if len(modules) == 1 else f"all norms outside the layers: {len(modules)}"
        out.append(Component("final_norm", "norm", _wholes(norms, shapes), note=note))
    if rest:
        out.append(Component("rest", "rest", _wholes(rest, shapes)))
    if both:
        out[0] = Component("embed", "embed", out[0].pieces, note="tied to unembed: one weight")
        note = "tied to embed: one weight"
        out.append(Component("unembed", "unembed", _wholes(last, shapes), note=note))
        return out, {"unembed": "embed"}
    if last:
        out.append(Component("unembed", "unembed", _wholes(last, shapes), first_layer=depth))
    return out, {}


def _layer(model, shapes, number, name, attention, calls, heads) -> Iterator[Component]:
    mine = [n for n in shapes if n.startswith(f"{name}.")]
    start = {"layer": number, "first_layer": number}
    tag = f"l{number}"
    yield Component(tag, "layer", _wholes(mine, shapes), **start)
    attended = [n for n in mine if attention and n.startswith(f"{attention}.")]
    if attended:
        yield Component(f"{tag}.attn", "attention", _wholes(attended, shapes), **start)
        if heads:
            yield from _heads(model, tag, attention, calls[attention], start)
    others = [n for n in mine if n not in attended]
    matrices = {n.rpartition(".")[0] for n in others if len(shapes[n]) > 1}
    mlp = [n for n in others if n.rpartition(".")[0] in matrices]
    norms = [n for n in others if n not in mlp]
    if mlp:
        yield Component(f"{tag}.mlp", "mlp", _wholes(mlp, shapes), **start)
    if norms:
        yield Component(f"{tag}.norm", "norm", _wholes(norms, shapes), **start)


def _heads(model, tag, attention, call, start) -> Iterator[Component]:
    config = model.config.get_text_config()
    count = getattr(config, "num_attention_heads", None)
    if not isinstance(count, int):
        return
    found = ownership.derive(model, attention, call, count)
    note = COUPLED if found.coupled else ""
    for head, pieces in enumerate(found.heads):
        yield Component(f"{tag}.h{head}", "head", pieces, head=head, note=note, **start)
    for number, group in enumerate(found.groups):
        who = f"heads {group.heads[0]} to {group.heads[-1]}"
        yield Component(f"{tag}.kv{number}", "keys and values", group.pieces, note=who, **start)
    for number, group in enumerate(found.groups):
        pieces = (*group.pieces, *(p for h in group.heads for p in found.heads[h]))
        who = f"{tag}.kv{number} with heads {group.heads[0]} to {group.heads[-1]}"
        yield Component(f"{tag}.g{number}", "group", pieces, note=who, **start)
    if found.shared:
        yield Component(f"{tag}.shared", "shared", found.shared, note="of no head", **start)


def _whole(name: str, shape: Sequence[int]) -> Piece:
    return Piece(name, tuple((0, size) for size in shape))


def _wholes(chosen: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Piece, ...]:
    return tuple(_whole(name, shapes[name]) for name in chosen)


def _layer_of(name: str, layers: Sequence[str]) -> int | None:
    return next((i for i, layer in enumerate(layers) if name.startswith(f"{layer}.")), None)


def _shortened(known: Mapping[str, Any], limit: int = 12) -> str:
    listed = list(known)
    more = f", ... ({len(listed)} in all)" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
