"""Names, globs and unions of components, and the coordinates that they mean.

Heads cost a backward pass each to find, so they are found when a name, a glob or the table of all
components first needs them, attention by attention; see `ownership`.
"""

import fnmatch
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from slt_notebook.core.space import Piece, Space
from slt_notebook.errors import ComponentError, nearest, say


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
        """Number of coordinates."""
        return sum(piece.size for piece in self.pieces)


class Heads:
    """The components that one attention is made of, found when they are first asked for.

    Attributes:
        names: what they may be called; how many groups there are is known once they are found.
    """

    def __init__(self, tag: str, count: int, find: Callable[[], Mapping[str, Component]]):
        numbered = tuple(f"{tag}.{k}{i}" for k in ("h", "kv", "g") for i in range(count))
        self.names = (*numbered, f"{tag}.shared")
        self._sure = numbered[:count]
        self._find = find
        self._lock = threading.Lock()
        self._found: Mapping[str, Component] | None = None

    @property
    def found(self) -> Mapping[str, Component]:
        """Name to component.

        Raises:
            ComponentError: an attention whose heads cannot be told apart.
        """
        with self._lock:
            if self._found is None:
                self._found = dict(self._find())
            return self._found

    @property
    def sure(self) -> Sequence[str]:
        """Names of some that there are, without looking for them."""
        return tuple(self._found) if self._found is not None else self._sure


@dataclass(frozen=True)
class Parts:
    """All components of a model, its parameters' shapes, and the names of its layers.

    Attributes:
        known: components that follow from the names of the parameters.
        heads: name of an attention -> its heads, which follow it in the table.
        tied: component -> the one it is tied to.
    """

    known: Mapping[str, Component]
    shapes: Mapping[str, tuple[int, ...]]
    layers: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, Heads] = field(default_factory=dict)

    @property
    def components(self) -> dict[str, Component]:
        """All of them in order, heads included, which are found now if they were not yet."""
        return dict(self._listed("*"))

    def __getitem__(self, name: str) -> Component:
        found = dict(self.known if name in self.known else self._listed(name))
        return found[name]

    def _listed(self, pattern: str) -> Iterator[tuple[str, Component]]:
        """All that `pattern` may match, and more; heads only of attentions where it may."""
        for name, component in self.known.items():
            yield name, component
            heads = self.heads.get(name)
            if heads is not None and any(fnmatch.fnmatchcase(n, pattern) for n in heads.names):
                yield from heads.found.items()

    # What a pattern means -----------------------------------------------------------------------

    def expand(self, pattern: str) -> list[str]:
        """Names that one entry of a list of components means; a union is one component.

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
        if pattern in self.known:
            return self.known[pattern]
        chosen: list[Component] = []
        for part in pattern.split("+"):
            part = part.strip()
            if part.startswith("param:"):
                chosen.append(self._parameters(part))
            else:
                chosen += [self[name] for name in self._match(part)]
        if len({c.name for c in chosen}) < len(chosen):
            raise ComponentError(
                say(f"{pattern!r}, which names a part twice", "each once", "name it once")
            )
        check_disjoint(chosen, pattern)
        pieces = tuple(p for c in chosen for p in c.pieces)
        firsts = [c.first_layer for c in chosen]
        first = None if None in firsts else min(firsts, default=None)  # pyright: ignore
        if len(chosen) == 1 and not pattern.startswith("param:"):
            return chosen[0]
        note = "; ".join(dict.fromkeys(c.note for c in chosen if c.note))
        return Component(pattern, "union", pieces, first_layer=first, note=note)

    def space(self, pattern: str) -> Space:
        """Return the coordinates of what `pattern` means; see `resolve` and `space_of`."""
        return self.space_of(self.resolve(pattern))

    def space_of(self, found: Component) -> Space:
        """Return the coordinates of a component, in the order of the model's parameters."""
        order = {name: i for i, name in enumerate(self.shapes)}
        pieces = tuple(sorted(found.pieces, key=lambda p: (order[p.name], p.window)))
        held = dict.fromkeys(piece.name for piece in pieces)
        return Space(pieces, tuple((name, tuple(self.shapes[name])) for name in held))

    def _match(self, pattern: str) -> list[str]:
        name = canonical(pattern)
        if name in self.known:
            return [name]
        found = [n for n, _ in self._listed(name) if fnmatch.fnmatchcase(n, name)]
        found = [n for n in found if n not in ("full", "trainable", "lora")]
        if not found:
            known = self._names(name)
            raise ComponentError(
                say(
                    f"component {pattern!r}",
                    f"one of {_shortened(known)}, a glob over them, or "
                    f"'param:<glob over parameter names>'{nearest(name, known)}",
                    "list them with slt.components(model)",
                )
            )
        return found

    def _names(self, near: str) -> list[str]:
        """Names to suggest in place of `near`; heads are found in its layer at most."""
        layer = re.match(r"l\d+(?=\.(kv|g)\d)", near)
        if layer:
            list(self._listed(f"{layer[0]}.h*"))
        out = []
        for name in self.known:
            out += [name, *(self.heads[name].sure if name in self.heads else ())]
        return out

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
        pieces = tuple(whole(n, self.shapes[n]) for n in matched)
        layers = [layer_of(n, self.layers) for n in matched]
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


def check_disjoint(parts: Sequence[Component], pattern: str) -> None:
    """Raise `ComponentError` where two parts share a coordinate; it says if weights are tied."""
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


def whole(name: str, shape: Sequence[int]) -> Piece:
    """All of a parameter."""
    return Piece(name, tuple((0, size) for size in shape))


def layer_of(name: str, layers: Sequence[str]) -> int | None:
    """Return the number of the layer that a parameter belongs to; None outside the layers."""
    return next((i for i, layer in enumerate(layers) if name.startswith(f"{layer}.")), None)


def _shortened(listed: Sequence[str], limit: int = 12) -> str:
    more = f", ... ({len(listed)} in all)" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
