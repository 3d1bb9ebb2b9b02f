"""Compression schemes with one knob, as pure functions of parameters; see `protocol`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from slt_notebook.core.space import Piece
from slt_notebook.core.types import Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.compression.grids import Quantize
from slt_notebook.models.compression.protocol import Candidate, check_range


@dataclass(frozen=True)
class Factorize:
    """Keep the largest singular values of every matrix: the share `level` of them is dropped.

    Tensors with more axes are matrices of `[axis 0, the rest]`.  At least one value is kept.
    """

    name: ClassVar[str] = "factorize"
    unit: ClassVar[str] = "share of singular values dropped"
    log: ClassVar[bool] = False
    between: ClassVar[bool] = True
    pick: ClassVar[str] = "best"

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels by default, from the least compression to the most."""
        return tuple(k / 32 for k in range(32))

    def check(self, levels: Sequence[float]) -> None:
        """Raise `InputError` for levels out of range."""
        check_range(levels, 0, 1, "shares")

    def prepare(self, params: Params) -> Any:
        """Return what all levels need of the chosen weights."""
        wide = {k: v for k, v in params.items() if v.ndim >= 2}
        if not wide:
            raise InputError(say("no matrices", "weights with two axes", "parameters='matrices'"))
        return {k: (v.shape, torch.linalg.svd(v.flatten(1).double(), full_matrices=False))
                for k, v in wide.items()}  # fmt: skip

    def candidates(self, prepared: Any, level: float) -> Iterator[Candidate]:
        """Yield the changed parameters at one level."""
        out = {}
        for name, (shape, (u, s, vt)) in prepared.items():
            keep = max(1, len(s) - round(level * len(s)))
            out[name] = ((u[:, :keep] * s[:keep]) @ vt[:keep]).reshape(shape).float()
        yield Candidate(0.0, out)


@dataclass(frozen=True)
class Prune:
    """Set the share `level` of the chosen weights to zero: the smallest, over all or per tensor."""

    granularity: str = "global"

    name: ClassVar[str] = "prune"
    unit: ClassVar[str] = "share of weights set to zero"
    log: ClassVar[bool] = False
    between: ClassVar[bool] = True
    pick: ClassVar[str] = "best"

    def __post_init__(self) -> None:
        if self.granularity not in ("global", "tensor"):
            raise InputError(say(f"granularity={self.granularity!r}", "'global' or 'tensor'", "-"))

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels by default, from the least compression to the most."""
        return tuple(k / 40 for k in range(40))

    def check(self, levels: Sequence[float]) -> None:
        """Raise `InputError` for levels out of range."""
        check_range(levels, 0, 1, "shares")

    def prepare(self, params: Params) -> Any:
        """Return what all levels need of the chosen weights."""
        flat = torch.cat([v.abs().flatten() for v in params.values()]).sort().values
        own = {k: v.abs().flatten().sort().values for k, v in params.items()}
        return params, {k: flat if self.granularity == "global" else own[k] for k in params}

    def candidates(self, prepared: Any, level: float) -> Iterator[Candidate]:
        """Yield the changed parameters at one level."""
        params, order = prepared
        out = {}
        for name, value in params.items():
            drop = round(level * len(order[name]))
            bound = order[name][drop - 1] if drop else value.new_tensor(-1.0)
            out[name] = torch.where(value.abs() > bound, value, torch.zeros_like(value))
        yield Candidate(0.0, out)


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise of standard deviation `level` times that of each tensor; mean of repeats.

    A perturbation and no code: its critical level is a resolution that the loss needs.
    """

    repeats: int = 4
    seed: int = 0

    name: ClassVar[str] = "noise"
    unit: ClassVar[str] = "noise, in standard deviations of a tensor"
    log: ClassVar[bool] = True
    between: ClassVar[bool] = True
    pick: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        if self.repeats < 2:
            raise InputError(say(f"repeats={self.repeats}", "2 or more", "leave it out"))

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels by default, from the least compression to the most."""
        return tuple(float(v) for v in torch.logspace(-3, 0.5, 29, dtype=torch.float64))

    def check(self, levels: Sequence[float]) -> None:
        """Raise `InputError` for levels out of range."""
        if any(not v > 0 for v in levels):
            raise InputError(say(f"levels {levels}", "above 0", "correct levels="))

    def prepare(self, params: Params) -> Any:
        """Return what all levels need of the chosen weights."""
        return params, {k: v.std(unbiased=False) for k, v in params.items()}

    def candidates(self, prepared: Any, level: float) -> Iterator[Candidate]:
        """Yield the changed parameters at one level."""
        params, scale = prepared
        for repeat in range(self.repeats):
            # The same directions at every level: the loss is then smooth in the level.
            generator = torch.Generator().manual_seed(self.seed * 1000 + repeat)
            draw = {k: torch.randn(v.shape, generator=generator).to(v) for k, v in params.items()}
            out = {k: v + level * scale[k] * draw[k] for k, v in params.items()}
            yield Candidate(float(repeat), out)


@dataclass(frozen=True)
class Heads:
    """Set the weights of whole attention heads to zero, in random order; mean of `repeats` orders.

    The level is the share of heads; within one order a level removes what the one before removed.
    The authors found such curves noisy, and retrained after pruning; nothing is retrained here.
    """

    heads: tuple[tuple[Piece, ...], ...]
    repeats: int = 4
    seed: int = 0

    name: ClassVar[str] = "heads"
    unit: ClassVar[str] = "share of attention heads set to zero"
    log: ClassVar[bool] = False
    between: ClassVar[bool] = True
    pick: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        if not self.heads or self.repeats < 2:
            got = f"{len(self.heads)} heads, repeats={self.repeats}"
            raise InputError(say(got, "a model with heads, 2 orders or more", "see slt.components"))

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels by default, from the least compression to the most."""
        return tuple(k / len(self.heads) for k in range(len(self.heads)))

    def check(self, levels: Sequence[float]) -> None:
        """Raise `InputError` for levels out of range."""
        check_range(levels, 0, 1, "shares")

    def prepare(self, params: Params) -> Any:
        """Return what all levels need of the chosen weights."""
        return params

    def candidates(self, prepared: Any, level: float) -> Iterator[Candidate]:
        """Yield the changed parameters at one level."""
        for repeat in range(self.repeats):
            generator = torch.Generator().manual_seed(self.seed * 1000 + repeat)
            order = torch.randperm(len(self.heads), generator=generator).tolist()
            touched = {piece.name for head in self.heads for piece in head}
            out = {name: prepared[name].clone() for name in touched}
            for k in order[: round(level * len(order))]:
                for piece in self.heads[k]:
                    out[piece.name][piece.slices] = 0
            yield Candidate(float(repeat), out)


SCHEMES: Mapping[str, type] = {c.name: c for c in (Quantize, Factorize, Prune, Noise)}
