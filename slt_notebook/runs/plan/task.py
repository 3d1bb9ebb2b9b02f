"""Checks of what a user asked for: from `Settings` to a `Task`, before any work starts."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from slt_notebook.core.kernels.sgld import SGLD
from slt_notebook.core.types import Kernel
from slt_notebook.errors import InputError, StoreMismatch, say
from slt_notebook.models.losses.half_precision import DTYPES
from slt_notebook.models.probes import Probe
from slt_notebook.parsing import numbers, plain, whole_number
from slt_notebook.runs.plan.settings import Settings, Task, fields_of, per_chain


def make_task(
    settings: Settings, component: str, model: str, data: Probe, probes: Sequence[Probe]
) -> Task:
    """Return the `Task` of a run, with defaults resolved and every value checked.

    Args:
        settings: as the user asked for them.
        component: the space that is sampled.
        model: fingerprint of the trained weights.
        data: the examples of the loss.
        probes: examples whose losses are recorded.

    Raises:
        InputError: a value out of its range, with the range and a remedy.
    """
    chains = _chain_indices(settings.chains)
    count, size = len(chains), len(data)
    settings = _check_counts(settings, data)
    kernel = _checked_kernel(settings.kernel or default_kernel(), settings, data, count)
    nbeta = settings.nbeta
    if nbeta is None:
        nbeta = size / np.log(size) if size > 1 else 1.0
    names = [p.name for p in probes]
    if len(set(names)) != len(names):
        raise InputError(say(f"probes named {names}", "distinct names", "rename one of them"))
    fields = fields_of(settings) | {
        "kernel": kernel, "chains": chains,
        "nbeta": _strengths("nbeta", nbeta, count),
        "gamma": _strengths("gamma", settings.gamma, count),
    }  # fmt: skip
    return Task(
        **fields, component=component, model=model, data=describe(data),
        probes=tuple(describe(p) for p in probes),
    )  # fmt: skip


def default_kernel() -> Kernel:
    """Return the kernel of a run where none is passed."""
    return SGLD(step_size=1e-4)


def describe(probe: Probe) -> dict[str, Any]:
    """Return what a task keeps of a probe: name, number of examples, fingerprint."""
    return {"name": probe.name, "examples": len(probe), "fingerprint": probe.fingerprint}


def _chain_indices(chains: int | Sequence[int]) -> tuple[int, ...]:
    found = plain(chains)
    each = found if isinstance(found, list) else [found]
    if any(isinstance(c, bool) or not isinstance(c, int) for c in each):
        expected = "a whole number of chains, or their indices"
        raise InputError(say(f"chains={chains!r}", expected, "pass chains=4"))
    indices = tuple(each) if isinstance(found, list) else tuple(range(found))
    if not indices or len(set(indices)) != len(indices) or min(indices) < 0:
        raise InputError(
            say(f"chains={chains!r}", "at least 1, or distinct indices", "pass chains=4")
        )
    return indices


def _check_counts(settings: Settings, data: Probe) -> Settings:
    """Return the settings with whole numbers where something is counted, all checked."""
    least = {"draws": 1, "burnin": 0, "thin": 1, "batch_size": 1, "seed": 0}
    counts = {n: whole_number(n, getattr(settings, n), low) for n, low in least.items()}
    settings = dataclasses.replace(settings, **counts)
    if settings.batch_size > len(data):
        raise InputError(
            say(
                f"batch_size={settings.batch_size} for {len(data)} examples in {data.name!r}",
                f"at most {len(data)}",
                "pass a smaller batch_size, or more data",
            )
        )
    if settings.batches not in ("per_chain", "shared"):
        raise InputError(
            say(f"batches={settings.batches!r}", "'per_chain' or 'shared'", "choose one")
        )
    if settings.probe_dtype not in DTYPES:
        raise InputError(
            say(
                f"probe_dtype={settings.probe_dtype!r}",
                f"one of {tuple(DTYPES)}",
                "pass probe_dtype='float32'",
            )
        )
    return settings


def _strengths(name: str, value: Any, count: int) -> tuple[float, ...]:
    """`nbeta` or `gamma`: one number per chain, finite and at least 0."""
    values = per_chain(name, value, count)
    if not all(math.isfinite(v) and v >= 0 for v in values):
        raise InputError(say(f"{name}={value}", "finite and at least 0", f"pass {name}=100"))
    return values


def _checked_kernel(kernel: Any, settings: Settings, data: Probe, count: int) -> Kernel:
    """Return the kernel with tuples where it has one number per chain."""
    wanted = ("init", "step", "step_size", "metric", "per_chain", "full_batch", "uniforms")
    missing = [name for name in wanted if not hasattr(kernel, name)]
    if missing or isinstance(kernel, type) or not hasattr(kernel, "__dataclass_fields__"):
        raise InputError(
            say(f"kernel={kernel!r}", "a kernel such as slt.SGLD(step_size=1e-3)", "pass one")
        )
    if kernel.full_batch and settings.batch_size != len(data):
        raise InputError(
            say(
                f"{type(kernel).__name__} with batches of {settings.batch_size} of {len(data)} "
                "examples",
                "all of the data at every step: a Metropolis test on a batch accepts by the "
                "batch's noise and corrects nothing",
                f"pass batch_size={len(data)}, or use slt.SGLD, whose acceptance on the batch is "
                "recorded as a diagnostic",
            )
        )
    if kernel.metric.adapt == "burnin" and settings.burnin == 0:
        raise InputError(
            say(
                f"{type(kernel.metric).__name__}(adapt='burnin') with burnin=0",
                "a burn-in in which the metric can adapt",
                "pass burnin=200, or adapt='always'",
            )
        )
    kernel = _plain_fields(kernel)
    steps = per_chain("step_size", kernel.step_size, count)
    if not all(math.isfinite(s) and s > 0 for s in steps):
        raise InputError(
            say(f"step_size={kernel.step_size}", "positive and finite", "try SGLD(step_size=1e-4)")
        )
    several = {f: getattr(kernel, f) for f in kernel.per_chain if np.ndim(getattr(kernel, f))}
    # Tuples, because a list in a kernel that comes back from JSON would not compare equal.
    tuples = {f: per_chain(f, value, count) for f, value in several.items()}
    return dataclasses.replace(kernel, **tuples)


def _plain_fields(kernel: Any) -> Any:
    """Return a kernel or a metric with Python's numbers in its fields, as JSON knows them."""
    changed = {}
    for field in dataclasses.fields(kernel):
        value = getattr(kernel, field.name)
        if dataclasses.is_dataclass(value):
            changed[field.name] = _plain_fields(value)
        elif not isinstance(value, bool | int | float | None) and (
            not isinstance(value, str) or not isinstance(plain(value), str)
        ):
            found = numbers(field.name, value)
            changed[field.name] = tuple(found) if isinstance(found, list) else found
    return dataclasses.replace(kernel, **changed) if changed else kernel


def compare(stored: str, asked: Task) -> str:
    """Return what to do with a store that holds the task `stored` (JSON) when `asked` comes.

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
