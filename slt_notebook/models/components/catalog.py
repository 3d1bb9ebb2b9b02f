"""The components of a model, by name.

    full  trainable  lora                                      the whole; what takes gradients;
                                                               adapters
    embed  positions  unembed  final_norm  rest                what is in no layer
    l0  l0.attn  l0.mlp  l0.norm                               layers and their parts
    l0.h3   l0.kv1   l0.g1   l0.shared                         heads; keys and values that heads of
                                                               a group share; the whole group; what
                                                               belongs to no head
Patterns: globs over these names (`"l*.h*"`), unions (`"l0.attn+l1.mlp"`), the field's `"l0h3"`, and
globs over parameters (`"param:*q_proj*"`): see `patterns`.  Heads are found in `ownership`.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.space import Piece
from slt_notebook.errors import ComponentError, InputError, say
from slt_notebook.models.components import ownership
from slt_notebook.models.components.layers import TOKENS, find_layers
from slt_notebook.models.components.patterns import Component, Heads, Parts, layer_of, whole
from slt_notebook.models.components.recording import Call
from slt_notebook.models.modules.intake import trainable_names
from slt_notebook.models.modules.shells import shell
from slt_notebook.models.modules.unwrapping import unwrapped

if TYPE_CHECKING:
    import pandas as pd

Shapes = Mapping[str, tuple[int, ...]]

COUPLED = "a norm over all heads couples them: ownership holds for fixed norm statistics"


def parts(model: Any, *, heads: bool = True) -> Parts:
    """Return the components of a model or of a loss made from one.

    Args:
        model: a Hugging Face causal LM, any torch module, or a loss of the kit.
        heads: whether heads are looked for, when they are first asked for; else attentions stay
            whole.

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
    causal = _is_causal_lm(module)
    found = _causal_lm(shell(module), shapes, heads) if causal else _plain(shapes)
    trainable = getattr(model, "trainable", None)
    if trainable is None:
        trainable = trainable_names(module)
    return replace(found, known=_with_chosen(found, trainable))


def _with_chosen(found: Parts, trainable: Collection[str]) -> dict[str, Component]:
    """Return the components with those that are chosen by what is trained: "trainable", "lora"."""
    known = dict(found.known)
    whole_model = known.pop("full")
    frozen = sum(p.size for p in whole_model.pieces if p.name not in trainable)
    first = {"full": whole_model}
    if frozen:
        note = f"{frozen:,} of its coordinates are frozen (requires_grad=False)"
        first["full"] = replace(whole_model, note=note)
        first["trainable"] = _chosen("trainable", found, trainable)
    adapters = [n for n in found.shapes if re.search(r"(^|\.)lora_", n)]
    if adapters:
        first["lora"] = _chosen("lora", found, adapters)
    return first | known


def _chosen(name: str, found: Parts, chosen: Collection[str]) -> Component:
    shapes = {n: s for n, s in found.shapes.items() if n in chosen}
    layers = [layer_of(n, found.layers) for n in shapes]
    known = [layer for layer in layers if layer is not None]
    first = min(known) if known and len(known) == len(layers) else None
    return Component(name, name, _wholes(list(shapes), shapes), first_layer=first)


@in_plain_modes
def components(model: Any) -> "pd.DataFrame":
    """Return the table of the components of a model, whose index names what can be sampled.

    Heads are derived from gradients and verified: in every attention, heads, shared keys and values
    and the rest tile the weights exactly once, and moving the weights of one head moves its slot of
    the output projection's input alone.

    Args:
        model: a Hugging Face causal LM, any torch module, or a loss of the kit.

    Returns:
        DataFrame indexed by component, with `kind`, `layer`, `head`, `parameters`, `share` of all
        parameters, and `note` (tied weights, coupled heads).

    Raises:
        InputError: not a model.
        ComponentError: an attention whose heads cannot be told apart.

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
    model = unwrapped(model)
    if isinstance(model, nn.Module):
        return model
    inside = capabilities(model).module
    return None if inside is None else inside()


def _is_causal_lm(module: nn.Module) -> bool:
    return hasattr(module, "config") and hasattr(module, "get_output_embeddings")


def _plain(shapes: Shapes) -> Parts:
    pieces = tuple(whole(n, s) for n, s in shapes.items())
    found = {"full": Component("full", "full", pieces)}
    for name, shape in shapes.items():
        found[f"param:{name}"] = Component(f"param:{name}", "parameter", (whole(name, shape),))
    return Parts(found, shapes)


def _causal_lm(model: nn.Module, shapes: Shapes, heads: bool) -> Parts:
    causal: Any = model
    embedding = causal.get_input_embeddings()
    vocabulary = embedding.weight.shape[0]
    ids = torch.arange(2 * TOKENS, device=embedding.weight.device) * 7919 % vocabulary
    try:
        layers = find_layers(model, ids.reshape(2, TOKENS))
    except ComponentError:
        return _plain(shapes)
    found = {"full": Component("full", "full", tuple(whole(n, s) for n, s in shapes.items()))}
    outside = [n for n in shapes if layer_of(n, layers.names) is None]
    ends, tied = _ends(model, shapes, outside, len(layers.names))
    found |= {c.name: c for c in ends if c.name in ("embed", "positions")}
    later: dict[str, Heads] = {}
    count = getattr(causal.config.get_text_config(), "num_attention_heads", None)
    for number, (name, attention) in enumerate(zip(layers.names, layers.attentions, strict=True)):
        found |= {c.name: c for c in _layer(shapes, number, name, attention)}
        if heads and isinstance(count, int) and attention and f"l{number}.attn" in found:
            find = partial(_heads, model, number, attention, layers.calls[attention], count)
            later[f"l{number}.attn"] = Heads(f"l{number}", count, find)
    found |= {c.name: c for c in ends}
    return Parts(found, shapes, layers.names, tied, later)


def _ends(
    model: nn.Module, shapes: Shapes, outside: list[str], depth: int
) -> tuple[list[Component], dict[str, str]]:
    """Return what comes before and after the layers, and which of it is tied to what."""
    named = dict(model.named_parameters(remove_duplicate=False))
    causal: Any = model
    embed, head = causal.get_input_embeddings(), causal.get_output_embeddings()

    def owned(module: Any) -> list[str]:
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


def _layer(shapes: Shapes, number: int, name: str, attention: str | None) -> Iterator[Component]:
    """Yield a layer and its parts, but for heads."""
    mine = [n for n in shapes if n.startswith(f"{name}.")]
    tag = f"l{number}"
    component = partial(Component, layer=number, first_layer=number)
    yield component(tag, "layer", _wholes(mine, shapes))
    attended = [n for n in mine if attention and n.startswith(f"{attention}.")]
    if attended:
        yield component(f"{tag}.attn", "attention", _wholes(attended, shapes))
    others = [n for n in mine if n not in attended]
    matrices = {n.rpartition(".")[0] for n in others if len(shapes[n]) > 1}
    mlp = [n for n in others if n.rpartition(".")[0] in matrices]
    norms = [n for n in others if n not in mlp]
    if mlp and attended:  # else what looks like an MLP may hold an attention that was not found
        yield component(f"{tag}.mlp", "mlp", _wholes(mlp, shapes))
    if norms:
        yield component(f"{tag}.norm", "norm", _wholes(norms, shapes))


def _heads(
    model: nn.Module, layer: int, attention: str, call: Call, count: int
) -> dict[str, Component]:
    found = ownership.derive(model, attention, call, count)
    tag, component = f"l{layer}", partial(Component, layer=layer, first_layer=layer)
    note = COUPLED if found.coupled else ""
    out: list[Component] = []
    for head, pieces in enumerate(found.heads):
        out.append(component(f"{tag}.h{head}", "head", pieces, head=head, note=note))
    for number, group in enumerate(found.groups):
        who = f"heads {group.heads[0]} to {group.heads[-1]}"
        name = f"{tag}.kv{number}"
        out.append(component(name, "keys and values", group.pieces, note=who))
    for number, group in enumerate(found.groups):
        pieces = (*group.pieces, *(p for h in group.heads for p in found.heads[h]))
        who = f"{tag}.kv{number} with heads {group.heads[0]} to {group.heads[-1]}"
        out.append(component(f"{tag}.g{number}", "group", pieces, note=who))
    if found.shared:
        out.append(component(f"{tag}.shared", "shared", found.shared, note="of no head"))
    return {c.name: c for c in out}


def _wholes(chosen: Sequence[str], shapes: Shapes) -> tuple[Piece, ...]:
    return tuple(whole(name, shapes[name]) for name in chosen)
