"""How the work of a run is divided: device, chunks, blocks of chains, coordinates."""

import itertools
import os
from typing import Any

import torch

from slt_notebook.core.space import Space
from slt_notebook.errors import ComponentError, InputError, say
from slt_notebook.models.components.catalog import parts
from slt_notebook.models.components.patterns import Parts
from slt_notebook.models.probes import Probe
from slt_notebook.runs.plan.settings import Task

PROBE_TOKENS = 4096
"""Losses per evaluation of a probe: enough to keep a CPU busy, few enough to stay in its cache."""


def pick_device(device: str | torch.device, like: torch.device) -> torch.device:
    """Return the device of a run; for `"auto"` the GPU if there is one, else where the model is.

    Args:
        device: as in `slt.sample`.
        like: where the model is.

    Raises:
        InputError: a device that torch does not know or does not have here.
    """
    if str(device) == "auto":
        return torch.device("cuda") if torch.cuda.is_available() else like
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as cause:
        raise InputError(
            say(f"device={device!r}", "'auto', 'cpu' or a device of this machine", f"({cause})")
        ) from cause
    return chosen


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on `device` now, or None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as info:
            for line in info:
                if line.startswith("MemAvailable"):
                    return int(line.split()[1]) * 1024
        return None
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def resolve(component: str, loss: Any, known: Parts | None = None) -> Space:
    """Return the space of a component of the model behind `loss`: see `models/components`.

    Args:
        component: a name, glob or union; "full" is the whole model.
        loss: of the kit.
        known: the model's components, where they were derived already.

    Raises:
        ComponentError: a name that means nothing, a glob that matches nothing, parts that overlap,
            or weights that are whole numbers.
    """
    if component == "full":
        space = Space.of(loss.params)
    elif component == "trainable":
        space = Space.of(loss.params, [n for n in loss.params if n in trainable(loss)])
    else:
        space = (known or parts(loss)).space(component)
    for piece in space.pieces:
        if not loss.params[piece.name].is_floating_point():
            got = f"component {component!r}, with whole numbers in {piece.name!r}"
            do = "choose a component without them: components='trainable'"
            raise ComponentError(say(got, "real weights (those of quantized layers are not)", do))
    return space


def trainable(loss: Any) -> frozenset[str]:
    """Return the names of the weights that take gradients: of all of them, where none is frozen."""
    return getattr(loss, "trainable", None) or frozenset(loss.params)


def frozen(loss: Any) -> tuple[int, int]:
    """Return how many coordinates of a loss are frozen, and how many it has."""
    moves = trainable(loss)
    total = sum(v.numel() for v in loss.params.values())
    return sum(v.numel() for n, v in loss.params.items() if n not in moves), total


def component_of(loss: Any, component: str | None) -> str:
    """Return the component of a run that may leave it to the model: what takes gradients."""
    if component is not None:
        return component
    return "trainable" if frozen(loss)[0] else "full"


def probe_rows(probe: Probe) -> int:
    """Examples per evaluation of a probe."""
    return max(1, PROBE_TOKENS // probe.tokens)


SMALL = 5e6
"""Multiply-adds of a chain's step below which Python takes the time, and not the arithmetic."""


def work(dim: int, task: Task, data: Probe) -> float:
    """About the multiply-adds of one forward pass of one chain: coordinates times losses."""
    return float(dim) * task.batch_size * data.tokens


def chunk(
    count: int, size: float, device: torch.device, per_chain: int, free: int | None, share: float
) -> int:
    """Chains per batched gradient.

    On a CPU batching pays while a chain's own products are too small to fill a core; on a GPU as
    long as gradients and activations of the chunk fit.

    Args:
        count: number of chains.
        size: multiply-adds of a chain's step, see `work`.
        device: where.
        per_chain: bytes of one chain's activations and gradients.
        free: bytes that are free on the device, or None where that is not known.
        share: of the free bytes that may be used.
    """
    if device.type == "cpu":
        return count if size < SMALL else 1
    return max(1, min(count, int((free or 0) * share / (per_chain + 1))))


def explain(at_once: int, count: int, size: float, device: torch.device, workers: int) -> str:
    """Return the choice of `chunk` and `blocks` in words."""
    many = f"{size:.2g} multiply-adds a chain and step"
    if device.type != "cpu":
        return f"{at_once} of {count} chains at once by vmap, as many as fit ({many})"
    if at_once > 1:
        return f"{at_once} chains at once by vmap: {many}, below {SMALL:.0e}"
    text = f"one chain after the other: {many}, {SMALL:.0e} or more"
    return text if workers == 1 else f"{text}; {workers} workers share the cores"


def blocks(count: int, executor: Any, device: torch.device, size: float) -> list[tuple[int, ...]]:
    """Return the places of the chains of each worker, for `count` chains.

    Without an executor, a CPU gives every worker thread a share of the chains and of the cores:
    small products scale better over chains than within one.

    Raises:
        InputError: an executor that cannot use a model in memory.
    """
    if executor is None:
        workers = 1
        if device.type == "cpu" and size >= SMALL:
            workers = min(count, torch.get_num_threads())
        ends = [count * i // workers for i in range(workers + 1)]
        return [tuple(range(a, b)) for a, b in itertools.pairwise(ends)]
    if not hasattr(executor, "submit"):
        raise InputError(say(f"executor={executor!r}", "something with submit()", "pass None"))
    if type(executor).__name__ == "ProcessPoolExecutor":
        raise InputError(
            say(
                "a process pool",
                "an executor of threads: a model in memory cannot be passed to another process",
                "pass a ThreadPoolExecutor, or run the chains [0, 1] and [2, 3] as two scripts",
            )
        )
    return [(row,) for row in range(count)]
