"""The sampled coordinates, and the way from a flat vector to parameters and back.

A `Space` is a list of pieces of named parameters.  Its coordinates are one float32 vector
`[dim]` (float64 where one of the parameters is); what lies outside the pieces stays at the trained
values.  A restricted run therefore keeps gradients, noise and metric state for the coordinates that
move, and for nothing else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slt_notebook.core.types import Params
from slt_notebook.errors import ComponentError, nearest, say


@dataclass(frozen=True)
class Piece:
    """A block of one parameter: `window` holds (start, stop) for each of its axes."""

    name: str
    window: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the block."""
        return tuple(stop - start for start, stop in self.window)

    @property
    def size(self) -> int:
        """Number of its coordinates."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the block is in its parameter."""
        return tuple(slice(start, stop) for start, stop in self.window)


@dataclass(frozen=True)
class Space:
    """The sampled coordinates of a model.

    >>> import torch
    >>> Space.of({"w": torch.zeros(2, 3), "b": torch.zeros(3)}, ["w"]).dim
    6

    Attributes:
        pieces: blocks of parameters, in the order of their coordinates; they must not overlap.
        shapes: shapes of all parameters that `pieces` refer to.
    """

    pieces: tuple[Piece, ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, params: Params, names: Sequence[str] | None = None) -> "Space":
        """Return the space of all parameters, or of those named.

        Args:
            params: of the model.
            names: of parameters; None for all.

        Raises:
            ComponentError: no parameter, or one that the model does not have.
        """
        chosen = list(params) if names is None else list(names)
        for name in chosen:
            if name not in params:
                raise ComponentError(
                    say(
                        f"parameter {name!r}",
                        f"one of the {len(params)} parameters{nearest(name, params)}",
                        "list them with `list(loss.params)`",
                    )
                )
        if not chosen:
            raise ComponentError(
                say("no parameter", "at least one", "use a pattern that matches more")
            )
        pieces = tuple(Piece(n, tuple((0, size) for size in params[n].shape)) for n in chosen)
        return cls(pieces, tuple((n, tuple(params[n].shape)) for n in chosen))

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return sum(piece.size for piece in self.pieces)

    def flatten(self, params: Params) -> Tensor:
        """Return the coordinates of `params`: `[dim]`, see `dtype_of`."""
        dtype = dtype_of({p.name: params[p.name] for p in self.pieces})
        return torch.cat(
            [params[p.name][p.slices].detach().reshape(-1).to(dtype) for p in self.pieces]
        )

    def unflatten(self, vector: Tensor, base: Params) -> dict[str, Tensor]:
        """Parameters at `vector` `[dim]`; what is not sampled is taken from `base`.

        `torch.split` and not slicing: the backward pass of a slice fills a zero vector of the
        whole length for every parameter.
        """
        parts = torch.split(vector, [piece.size for piece in self.pieces])
        pairs = zip(self.pieces, parts, strict=True)
        return self.assemble([part.view(piece.shape) for piece, part in pairs], base)

    def blocks(self, vector: Tensor) -> list[Tensor]:
        """Return the pieces of `vector` `[dim]`, each in its shape; they share its memory."""
        parts = torch.split(vector.detach(), [piece.size for piece in self.pieces])
        return [part.view(piece.shape) for piece, part in zip(self.pieces, parts, strict=True)]

    def assemble(self, blocks: Sequence[Tensor], base: Params) -> dict[str, Tensor]:
        """Parameters with `blocks`, one for every piece; the rest is taken from `base`."""
        out = dict(base)
        shapes = dict(self.shapes)
        for piece, block in zip(self.pieces, blocks, strict=True):
            block = block.to(base[piece.name].dtype)
            if piece.shape == shapes[piece.name]:
                out[piece.name] = block
            else:
                out[piece.name] = _scatter(out[piece.name], block, piece)
        return out


def dtype_of(params: Params) -> torch.dtype:
    """Return the dtype in which weights are sampled: float64 where one of them is, else float32."""
    exact = any(value.dtype == torch.float64 for value in params.values())
    return torch.float64 if exact else torch.float32


def _scatter(whole: Tensor, block: Tensor, piece: Piece) -> Tensor:
    """`whole` with `block` in the window of `piece`, differentiable in `block`, out of place."""
    partial = [axis for axis, size in enumerate(whole.shape) if piece.shape[axis] != size]
    if not partial:
        return block
    inner = whole
    frames: list[tuple[Tensor, int, tuple[int, int]]] = []
    for axis in partial[:-1]:
        frames.append((inner, axis, piece.window[axis]))
        start, stop = piece.window[axis]
        inner = inner.narrow(axis, start, stop - start)
    axis = partial[-1]
    value = torch.slice_scatter(inner, block, axis, *piece.window[axis])
    for frame, axis, (start, stop) in reversed(frames):
        value = torch.slice_scatter(frame, value, axis, start, stop)
    return value
