"""What does a run do?  A `Task`: plain data that decides, with the step counter, all that happens.

It prints, pickles and turns into JSON; the store keeps it, and a second run on the same store is
compared with it field by field.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slt_notebook.core.kernels.sgld import SGLD
from slt_notebook.core.types import Kernel
from slt_notebook.errors import InputError, StoreMismatch, nearest, say
from slt_notebook.models.probes import Probe

CONTROLS = 8
"""Positions per chain drawn from the exact nbeta = 0 law, for `rho_loc`, at most."""


@dataclass(frozen=True)
class Task:
    """All that a run follows from.

    Attributes:
        kernel: the transition rule, with its step size and metric.
        nbeta, gamma: one value per chain.
        chains: indices; they name the streams of noise and batches.
        draws, burnin, thin: draw d is the position after `burnin + (d + 1) * thin` steps.
        batch_size: examples per step.
        batches: `"per_chain"`, or `"shared"` (one batch for all chains: cheaper baselines, but it
            correlates the chains and flatters R-hat).
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
        """Whether the Metropolis diagnostic is spent at a draw: 0, 10, 30, 70, 150, 310 ...

        It takes one more gradient, so a tenth of a short run and ever less of a long one; and a run
        that is made longer later is the run that was long from the start.
        """
        tens, rest = divmod(draw, 10)
        return rest == 0 and tens & (tens + 1) == 0

    @property
    def controls(self) -> int:
        """Controls of a chain: at most one in five steps (they take no gradient), at least 2."""
        return min(CONTROLS, max(2, self.steps // 5))

    @property
    def steps(self) -> int:
        return self.burnin + self.draws * self.thin

    def draws_at(self, steps: int) -> int:
        """How many draws are complete after `steps` steps."""
        return max(0, min(self.draws, (steps - self.burnin) // self.thin))

    def to_json(self) -> str:
        fields = _plain(self)
        if self.probe_dtype == "float32":  # stores that were made before there was a choice
            del fields["probe_dtype"]
        return json.dumps(fields, sort_keys=True)

    def step_sizes(self) -> tuple[float, ...]:
        return per_chain("step_size", self.kernel.step_size, len(self.chains))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return fields if isinstance(value, Task) else {"kind": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def describe(probe: Probe) -> dict[str, Any]:
    return {"name": probe.name, "examples": len(probe), "fingerprint": probe.fingerprint}


def per_chain(name: str, value: Any, chains: int) -> tuple[float, ...]:
    """A hyperparameter as one number per chain.

    Raises:
        InputError: not numbers, or as many as there are no chains.
    """
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as cause:
        raise InputError(
            say(f"{name}={value!r}", "a number, or one per chain", f"pass {name}=1.0")
        ) from cause
    if numbers.ndim == 0:
        return (float(numbers),) * chains
    if numbers.shape != (chains,):
        raise InputError(
            say(
                f"{numbers.size} values of {name} for {chains} chains",
                "one number, or one per chain",
                f"pass {chains} values, or chains={numbers.size}",
            )
        )
    return tuple(numbers.tolist())


def make_task(
    *,
    kernel: Kernel,
    nbeta: Any,
    gamma: Any,
    chains: int | Sequence[int],
    draws: int,
    burnin: int,
    thin: int,
    batch_size: int,
    batches: str,
    seed: int,
    component: str,
    model: str,
    data: Probe,
    probes: Sequence[Probe],
    probe_dtype: str = "float32",
) -> Task:
    """A `Task` from what a user wrote, or a clear error before any work starts.

    Raises:
        InputError: a value out of its range, with the range and a remedy.
    """
    indices = tuple(range(chains)) if isinstance(chains, int) else tuple(int(c) for c in chains)
    if not indices or len(set(indices)) != len(indices) or min(indices) < 0:
        raise InputError(
            say(f"chains={chains!r}", "at least 1, or distinct indices", "pass chains=4")
        )
    for name, value, low in (
        ("draws", draws, 1),
        ("burnin", burnin, 0),
        ("thin", thin, 1),
        ("batch_size", batch_size, 1),
        ("seed", seed, 0),
    ):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
            raise InputError(
                say(
                    f"{name}={value!r}",
                    f"a whole number, at least {low}",
                    f"pass {name}={max(low, 1)}",
                )
            )
    if batch_size > len(data):
        raise InputError(
            say(
                f"batch_size={batch_size} for {len(data)} examples in {data.name!r}",
                f"at most {len(data)}",
                "pass a smaller batch_size, or more data",
            )
        )
    if batches not in ("per_chain", "shared"):
        raise InputError(say(f"batches={batches!r}", "'per_chain' or 'shared'", "choose one"))
    count = len(indices)
    _check_kernel(kernel, batch_size, burnin, data)
    steps = per_chain("step_size", kernel.step_size, count)
    if not all(math.isfinite(s) and s > 0 for s in steps):
        raise InputError(
            say(f"step_size={kernel.step_size}", "positive and finite", "try SGLD(step_size=1e-4)")
        )
    values = {}
    for name, value in (("nbeta", nbeta), ("gamma", gamma)):
        values[name] = per_chain(name, value, count)
        if not all(math.isfinite(v) and v >= 0 for v in values[name]):
            raise InputError(say(f"{name}={value}", "finite and at least 0", f"pass {name}=100"))
    names = [p.name for p in probes]
    if len(set(names)) != len(names):
        raise InputError(say(f"probes named {names}", "distinct names", "rename one of them"))
    several = {f: getattr(kernel, f) for f in kernel.per_chain if np.ndim(getattr(kernel, f))}
    # Tuples, because a list in a kernel that comes back from JSON would not compare equal.
    tuples = {f: per_chain(f, value, count) for f, value in several.items()}
    kernel = dataclasses.replace(kernel, **tuples)  # pyright: ignore
    return Task(
        kernel, values["nbeta"], values["gamma"], indices, int(draws), int(burnin), int(thin),
        int(batch_size), batches, int(seed), component, model, describe(data),
        tuple(describe(p) for p in probes), probe_dtype,
    )  # fmt: skip


def _check_kernel(kernel: Any, batch_size: int, burnin: int, data: Probe) -> None:
    wanted = ("init", "step", "step_size", "metric", "per_chain", "full_batch", "uniforms")
    missing = [name for name in wanted if not hasattr(kernel, name)]
    if missing or isinstance(kernel, type) or not hasattr(kernel, "__dataclass_fields__"):
        raise InputError(
            say(f"kernel={kernel!r}", "a kernel such as slt.SGLD(step_size=1e-3)", "pass one")
        )
    if kernel.full_batch and batch_size != len(data):
        raise InputError(
            say(
                f"{type(kernel).__name__} with batches of {batch_size} of {len(data)} examples",
                "all of the data at every step: a Metropolis test on a batch accepts by the "
                "batch's noise and corrects nothing",
                f"pass batch_size={len(data)}, or use slt.SGLD, whose acceptance on the batch is "
                "recorded as a diagnostic",
            )
        )
    if kernel.metric.adapt == "burnin" and burnin == 0:
        raise InputError(
            say(
                f"{type(kernel.metric).__name__}(adapt='burnin') with burnin=0",
                "a burn-in in which the metric can adapt",
                "pass burnin=200, or adapt='always'",
            )
        )


def compare(stored: str, asked: Task) -> str:
    """What to do with a store that holds the task `stored` (JSON) when `asked` comes.

    Returns:
        `"same"`, or `"more"` when only `draws` is larger.

    Raises:
        StoreMismatch: any other difference, listed.
    """
    old, new = json.loads(stored), json.loads(asked.to_json())
    differences = [
        f"  {key}: stored {old.get(key)!r}, asked {new.get(key)!r}"
        for key in sorted(set(old) | set(new))
        if old.get(key) != new.get(key) and key != "draws"
    ]
    if differences or new["draws"] < old["draws"]:
        if new["draws"] < old["draws"]:
            differences.append(f"  draws: stored {old['draws']}, asked {new['draws']}")
        raise StoreMismatch(
            "the store holds another run:\n"
            + "\n".join(differences)
            + "\nWhat to do: pass another store=..., repeat the stored settings (more draws may be "
            "asked for), or open what is there with slt.open_run(path)."
        )
    return "more" if new["draws"] > old["draws"] else "same"


def refuse_unknown(unknown: dict[str, Any], known: Sequence[str], what: str) -> None:
    """Raises for keywords that a function does not have, with the nearest ones that it has."""
    for name in unknown:
        raise InputError(
            say(
                f"the keyword {name!r}",
                f"one that {what} takes{nearest(name, known)}",
                f"see help({what})",
            )
        )


def default_kernel() -> Kernel:
    return SGLD(step_size=1e-4)
