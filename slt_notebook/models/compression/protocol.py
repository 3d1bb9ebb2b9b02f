"""The protocol of compression schemes, and the weights that they are applied to.

A scheme makes *candidates* for a level of its knob: changed parameters, several where the scheme
has a free setting (the range of a grid: the best one counts) or is random (noise: the mean counts).
Weights that are not chosen stay as they are.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from slt_notebook.core.types import Params
from slt_notebook.errors import InputError, nearest, say


class Candidate(NamedTuple):
    """Parameters at one level of a scheme; `setting` is its free setting or the repeat's number."""

    setting: float
    params: dict[str, Tensor]


class Scheme(Protocol):
    """A way to compress.

    `unit` names the levels; `log` says whether they are read on a log scale, `between` whether
    there is anything between them; `pick` is "best" (of the candidates of a level) or "mean".
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    log: ClassVar[bool]
    between: ClassVar[bool]
    pick: ClassVar[str]

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels by default, from the least compression to the most."""
        ...

    def check(self, levels: Sequence[float]) -> None:
        """Raise `InputError` for levels out of range."""
        ...

    def prepare(self, params: Params) -> Any:
        """Return what all levels need of the chosen weights."""
        ...

    def candidates(self, prepared: Any, level: float) -> Iterator[Candidate]:
        """Yield the changed parameters at one level."""
        ...


def chosen(params: Params, which: str) -> dict[str, Tensor]:
    """Return the weights to compress: "matrices" (two axes or more), "all", or a glob of names.

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


def check_range(levels: Sequence[float], low: float, high: float, what: str) -> None:
    """Raise `InputError` unless all levels are from `low` to below `high`."""
    bad = [v for v in levels if not low <= v < high]
    if bad:
        raise InputError(
            say(f"levels {bad}", f"{what}: {low:g} to below {high:g}", "correct levels=")
        )
