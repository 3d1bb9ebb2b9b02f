"""How are trained weights compressed?  Schemes with one knob, as pure functions of parameters.

A scheme makes *candidates* for a level of its knob: changed parameters, several where the scheme
has a free setting (the range of a grid: the best one counts) or is random (noise: the mean counts).
Weights that are not chosen stay as they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from slt_notebook.core.space import Piece
from slt_notebook.core.types import Params
from slt_notebook.errors import InputError, nearest, say


class Candidate(NamedTuple):
    """Parameters at one level of a scheme; `setting` is its free setting or the repeat's number."""

    setting: float
    params: dict[str, Tensor]


class Scheme(Protocol):
    """A way to compress.

    `levels` run from the least compression to the most; `unit` names them; `log` says whether they
    are read on a log scale, `between` whether there is anything between them; `pick` is "best" (of
    the candidates of a level) or "mean".
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    log: ClassVar[bool]
    between: ClassVar[bool]
    pick: ClassVar[str]

    @property
    def levels(self) -> tuple[float, ...]: ...

    def check(self, levels: tuple[float, ...]) -> None: ...

    def prepare(self, params: Params) -> object: ...

    def candidates(self, prepared: object, level: float) -> Iterator[Candidate]: ...


def chosen(params: Params, which: str) -> dict[str, Tensor]:
    """The weights to compress: "matrices" (two axes or more), "all", or a glob of names.

    Several globs are joined by `+`; of those named, tensors that are not floating are left out.

    Raises:
        InputError: nothing is left.
    """
    floating = {k: v.detach() for k, v in params.items() if v.is_floating_point()}
    if which == "all":
        out = floating
    elif which == "matrices":
        out = {k: v for k, v in floating.items() if v.ndim >= 2}
    else:
        globs = which.split("+")
        out = {k: v for k, v in floating.items() if any(fnmatchcase(k, g.strip()) for g in globs)}
    if not out:
        raise InputError(
            say(
                f"parameters={which!r}, which names none of {len(params)}{nearest(which, params)}",
                "'matrices', 'all' or a glob such as 'blocks.*'",
                "list them with `list(loss.params)`",
            )
        )
    return {k: v.float() for k, v in out.items()}


def _between(levels, low: float, high: float, what: str) -> None:
    bad = [v for v in levels if not low <= v < high]
    if bad:
        raise InputError(say(f"levels {bad}", f"{what}: {low:g} to below {high:g}", "mend levels="))


def odd_grid(low: int = 3, high: int = 1023, count: int = 26) -> tuple[int, ...]:
    """Odd numbers, log-spaced, from the finest down: grids that hold zero (255: int8, 15: int4)."""
    raw = torch.logspace(0, 1, count, high / low, dtype=torch.float64) * low
    return tuple(sorted({int(2 * round((float(v) - 1) / 2) + 1) for v in raw}, reverse=True))


@dataclass(frozen=True)
class Quantize:
    """Round every weight to a symmetric uniform grid of `n_q` levels on [-r, r].

        spacing 2 r / (n_q - 1),   r = f max|w|,   f the one of `ranges` with the least loss

    The maximum is over all of the chosen weights ("global"), over each tensor or over each of its
    rows ("channel", axis 0); f is shared.  An odd n_q holds zero; int8 has 255 and int4 15 of them.
    References: Urdshals et al. 2025 (arXiv:2510.12077), section 3.
    """

    granularity: str = "tensor"
    ranges: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)

    name: ClassVar[str] = "quantize"
    unit: ClassVar[str] = "levels of the grid"
    log: ClassVar[bool] = True
    between: ClassVar[bool] = True
    pick: ClassVar[str] = "best"

    def __post_init__(self):
        if self.granularity not in ("global", "tensor", "channel"):
            expected = "'global', 'tensor' or 'channel'"
            raise InputError(say(f"granularity={self.granularity!r}", expected, "choose one"))
        if not self.ranges or not all(f > 0 for f in self.ranges):
            raise InputError(say(f"ranges={self.ranges}", "fractions above 0", "leave it out"))

    @property
    def levels(self) -> tuple[int, ...]:
        return odd_grid()

    def check(self, levels) -> None:
        if any(v != int(v) or v < 2 for v in levels):
            raise InputError(say(f"levels {levels}", "whole numbers from 2 on", "pass odd ones"))

    def prepare(self, params: Params):
        top = max(float(v.abs().max()) for v in params.values())
        scale = {}
        for name, value in params.items():
            if self.granularity == "global":
                scale[name] = value.new_tensor(top)
            elif self.granularity == "tensor":
                scale[name] = value.abs().max()
            else:
                axes = tuple(range(1, value.ndim))
                scale[name] = value.abs().amax(axes, keepdim=True) if axes else value.abs()
        return params, scale

    def candidates(self, prepared, level):
        params, scale = prepared
        for fraction in self.ranges:
            out = {k: on_grid(v, fraction * scale[k], int(level)) for k, v in params.items()}
            yield Candidate(fraction, out)


def on_grid(value: Tensor, reach: Tensor, levels: int) -> Tensor:
    """The nearest of `levels` equally spaced values from -reach to reach (0 where reach is 0)."""
    spacing = 2 * reach / (levels - 1)
    safe = torch.where(spacing > 0, spacing, torch.ones_like(spacing))
    index = ((value + reach) / safe).round().clamp(0, levels - 1)
    return index * spacing - reach


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
        return tuple(k / 32 for k in range(32))

    def check(self, levels) -> None:
        _between(levels, 0, 1, "shares")

    def prepare(self, params: Params):
        wide = {k: v for k, v in params.items() if v.ndim >= 2}
        if not wide:
            raise InputError(say("no matrices", "weights with two axes", "parameters='matrices'"))
        return {k: (v.shape, torch.linalg.svd(v.flatten(1).double(), full_matrices=False))
                for k, v in wide.items()}  # fmt: skip

    def candidates(self, prepared, level):
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

    def __post_init__(self):
        if self.granularity not in ("global", "tensor"):
            raise InputError(say(f"granularity={self.granularity!r}", "'global' or 'tensor'", "-"))

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(k / 40 for k in range(40))

    def check(self, levels) -> None:
        _between(levels, 0, 1, "shares")

    def prepare(self, params: Params):
        flat = torch.cat([v.abs().flatten() for v in params.values()]).sort().values
        own = {k: v.abs().flatten().sort().values for k, v in params.items()}
        return params, {k: flat if self.granularity == "global" else own[k] for k in params}

    def candidates(self, prepared, level):
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

    def __post_init__(self):
        if self.repeats < 2:
            raise InputError(say(f"repeats={self.repeats}", "2 or more", "leave it out"))

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(float(v) for v in torch.logspace(-3, 0.5, 29, dtype=torch.float64))

    def check(self, levels) -> None:
        if any(not v > 0 for v in levels):
            raise InputError(say(f"levels {levels}", "above 0", "mend levels="))

    def prepare(self, params: Params):
        return params, {k: v.std(unbiased=False) for k, v in params.items()}

    def candidates(self, prepared, level):
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

    def __post_init__(self):
        if not self.heads or self.repeats < 2:
            got = f"{len(self.heads)} heads, repeats={self.repeats}"
            raise InputError(say(got, "a model with heads, 2 orders or more", "see slt.components"))

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(k / len(self.heads) for k in range(len(self.heads)))

    def check(self, levels) -> None:
        _between(levels, 0, 1, "shares")

    def prepare(self, params: Params):
        return params

    def candidates(self, prepared, level):
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
