"""Settings of a run as data: what is asked (`Settings`, `Speed`) and what follows (`Task`).

A setting is defined here with its default, and documented in `slt.sample`; no other file lists the
settings.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from slt_notebook.core.types import Floats, Kernel
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.parsing import numbers

CONTROLS = 8
"""Positions per chain drawn from the exact nbeta = 0 law, for `rho_loc`, at most."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is sampled, as the user asked for it; `slt.sample` documents each field.

    A store is compared with the `Task` that follows from these, so a change of one of them is
    another run.
    """

    kernel: Kernel | None = None  # None: SGLD
    nbeta: Floats | None = None  # None: n / log n
    gamma: Floats = 100.0
    chains: int | Sequence[int] = 4
    draws: int = 200
    burnin: int = 0
    thin: int = 1
    batch_size: int = 32
    batches: str = "per_chain"
    seed: int = 0
    probe_dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Where and how fast a run is computed; draws differ by rounding at most.

    `slt.sample` documents each field.
    """

    device: str | torch.device = "auto"
    chain_chunk: int | None = None
    compile: bool | str = False
    executor: Any = None


@dataclass(frozen=True)
class Task:
    """Everything that the draws of a run follow from: checked, and with one value per chain.

    A task is plain data that prints, pickles and turns into JSON.  The store keeps it, and a second
    run on the same store is compared with it field by field.

    Attributes:
        kernel: the transition rule, with its step size and metric.
        nbeta, gamma: one value per chain.
        chains: indices; they name the streams of noise and batches.
        draws, burnin, thin: draw d is the position after `burnin + (d + 1) * thin` steps.
        batch_size: examples per step.
        batches: `"per_chain"`, or `"shared"` (one batch for all chains: cheaper baselines, but it
            correlates the chains and makes R-hat too small).
        seed: of all randomness.
        component: the space that is sampled.
        model, data, probes: fingerprints, with names and sizes.
        probe_dtype: of the products behind recorded probe losses.
    """

    kernel: Kernel
    nbeta: tuple[float, ...]
    gamma: tuple[float, ...]
    chains: tuple[int, ...]
    draws: int
    burnin: int
    thin: int
    batch_size: int
    batches: str
    seed: int
    component: str
    model: str
    data: dict[str, Any]
    probes: tuple[dict[str, Any], ...]
    probe_dtype: str = "float32"

    def tests_at(self, draw: int) -> bool:
        """Whether the Metropolis diagnostic is measured at a draw: 0, 10, 30, 70, 150, 310 ...

        It takes one more gradient, so a tenth of a short run and ever less of a long one.  The
        draws do not depend on the length, so a run that is continued has those of one long run.
        """
        tens, rest = divmod(draw, 10)
        return rest == 0 and tens & (tens + 1) == 0

    @property
    def controls(self) -> int:
        """Controls of a chain: at most one in five steps (they take no gradient), at least 2."""
        return min(CONTROLS, max(2, self.steps // 5))

    @property
    def steps(self) -> int:
        """Steps of each chain, burn-in included."""
        return self.burnin + self.draws * self.thin

    @property
    def evaluations(self) -> int:
        """Examples of the data that all chains read in all steps."""
        return self.steps * self.batch_size * len(self.chains)

    def draws_at(self, steps: int) -> int:
        """How many draws are complete after `steps` steps."""
        return max(0, min(self.draws, (steps - self.burnin) // self.thin))

    def step_sizes(self) -> tuple[float, ...]:
        """Return the step size of each chain."""
        return per_chain("step_size", self.kernel.step_size, len(self.chains))

    def to_json(self) -> str:
        """Return the task as JSON with sorted keys, as stores keep it."""
        fields = _jsonable(self)
        if self.probe_dtype == "float32":  # as in stores that are older than this setting
            del fields["probe_dtype"]
        return json.dumps(fields, sort_keys=True)


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {f.name: _jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return fields if isinstance(value, Task) else {"kind": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [_jsonable(v) for v in value]
    if isinstance(value, dict):
        return {k: _jsonable(v) for k, v in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def per_chain(name: str, value: Any, count: int) -> tuple[float, ...]:
    """Return a hyperparameter as one number per chain.

    Args:
        name: of the hyperparameter, for the message.
        value: one number, or `count` of them.
        count: number of chains.

    Raises:
        InputError: not numbers, or another number of them.
    """
    found = numbers(name, value)
    if not isinstance(found, list):
        return (found,) * count
    if len(found) != count:
        raise InputError(
            say(
                f"{len(found)} values of {name} for {count} chains",
                "one number, or one per chain",
                f"pass {count} values, or chains={len(found)}",
            )
        )
    return tuple(found)


def fields_of(settings: Settings) -> dict[str, Any]:
    """Return the fields of `settings` by name, as they are."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def from_keywords(
    keywords: Mapping[str, Any], what: str, others: Iterable[str] = ()
) -> tuple[Settings, Speed]:
    """Return `Settings` and `Speed` from the keywords of a public function.

    Args:
        keywords: of fields of either; fields that are left out have their defaults.
        what: the public function, for the message.
        others: names of its other parameters, which `keywords` may hold too.

    Raises:
        InputError: a keyword that is none of these, with the nearest ones.
    """
    settings, speed = ([f.name for f in dataclasses.fields(c)] for c in (Settings, Speed))
    check_keywords(keywords, [*settings, *speed, *others], what)
    return (
        Settings(**{k: v for k, v in keywords.items() if k in settings}),
        Speed(**{k: v for k, v in keywords.items() if k in speed}),
    )


def check_keywords(keywords: Iterable[str], known: Sequence[str], what: str) -> None:
    """Refuses keywords that a public function does not have.

    Raises:
        InputError: with the nearest keywords that `what` has.
    """
    for name in keywords:
        if name not in known:
            raise InputError(
                say(
                    f"the keyword {name!r}",
                    f"one that {what} takes{nearest(name, known)}",
                    f"see help({what})",
                )
            )
