"""How is the work cut?  Devices, chunks, blocks of chains, components: before any work."""

import itertools
import os
from collections.abc import Mapping

import torch
from torch import Tensor

from slt_notebook.core.chunking import Fit
from slt_notebook.core.space import Space
from slt_notebook.errors import InputError, NotReproducible, say
from slt_notebook.models.components.catalog import parts
from slt_notebook.models.components.patterns import Parts
from slt_notebook.models.probes import Probe
from slt_notebook.runs.execute.probing import evaluate

PROBE_TOKENS = 4096
"""Losses per evaluation of a probe: enough to keep a CPU busy, few enough to stay in its cache."""


def pick_device(device: str | torch.device, like: torch.device) -> torch.device:
    """`"auto"`: the GPU if there is one, else where the model is.

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
    """Bytes that can be taken on `device` now, or None where that is not known."""
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


def resolve(component: str, loss, known: Parts | None = None) -> Space:
    """The space of a component of the model behind `loss`: see `models.components`.

    Args:
        known: the model's components, where they were derived already.

    Raises:
        ComponentError: a name that means nothing, a glob that matches nothing, parts that overlap.
    """
    if component == "full":
        return Space.of(loss.params)
    return (known or parts(loss)).space(component)


def init_losses(loss, probe: Probe, tensors: Mapping[str, Tensor], rows: int) -> Tensor:
    """Losses of a probe at w* `[example[, token]]`, asked twice.

    Raises:
        NotReproducible: the model answered differently the second time.
        InputError: losses that are not finite where they count, or nothing that counts.
    """
    fit = Fit(rows=rows)
    few = {key: value[: min(rows, len(probe))] for key, value in tensors.items()}
    value, again = (evaluate(loss, loss.params, few, fit) for _ in range(2))
    # Rounding may differ between calls on some devices; randomness differs by far more.
    worst = float(((value - again).abs() / value.abs().clamp(min=1)).nan_to_num().max())
    if worst > 1e-4 or not torch.equal(value.isnan(), again.isnan()):
        raise NotReproducible(
            say(
                f"a model that answers one question twice with a difference of {worst:.2g}",
                "the same losses each time",
                "remove randomness from its forward pass (dropout is already off)",
            )
        )
    rest = {key: given[rows:] for key, given in tensors.items()}
    parts = [value] if len(probe) <= rows else [value, evaluate(loss, loss.params, rest, fit)]
    out = torch.cat(parts)
    if out.dim() not in (1, 2) or len(out) != len(probe):
        raise InputError(
            say(
                f"losses of shape {tuple(out.shape)} for {len(probe)} examples",
                "[example] or [example, token]",
                "mend the loss function",
            )
        )
    counts = torch.ones_like(out, dtype=torch.bool)
    if probe.kind == "text":
        counts = tensors["attention_mask"][:, 1:] > 0
    bad = counts & ~out.isfinite()
    if probe.kind == "array" and out.dim() == 2:
        bad = out.isinf() | (out.isnan().all(1, keepdim=True))
    if bool(bad.any()):
        row = int(bad.reshape(len(out), -1).any(1).nonzero()[0])
        raise InputError(
            say(
                f"a loss that is not finite at w* (example {probe.examples[row]!r})",
                "finite losses at the trained weights",
                "check weights and data; drop that example",
            )
        )
    return out


def probe_rows(probe: Probe) -> int:
    """Examples per evaluation of a probe."""
    return max(1, PROBE_TOKENS // probe.tokens)


SMALL = 5e6
"""Multiply-adds of a chain's step below which Python, not arithmetic, takes the time."""


def work(dim: int, task, data: Probe) -> float:
    """Multiply-adds of one forward pass of one chain, about: coordinates times losses."""
    return float(dim) * task.batch_size * data.tokens


def chunk(
    chains: int, size: float, device: torch.device, per_chain: int, free: int | None, share: float
) -> int:
    """Chains per batched gradient.

    On a CPU batching pays while a chain's own products are too small to fill a core; on a GPU as
    long as gradients and activations of the chunk fit.

    Args:
        size: multiply-adds of a chain's step, see `work`.
        per_chain: bytes of one chain's activations and gradients.
        free: bytes that can be taken; `share` of them are.
    """
    if device.type == "cpu":
        return chains if size < SMALL else 1
    return max(1, min(chains, int((free or 0) * share / (per_chain + 1))))


def explain(at_once: int, chains: int, size: float, device: torch.device, workers: int) -> str:
    """The choice of `chunk` and `blocks` in words."""
    many = f"{size:.2g} multiply-adds a chain and step"
    if device.type != "cpu":
        return f"{at_once} of {chains} chains at once by vmap, as many as fit ({many})"
    if at_once > 1:
        return f"{at_once} chains at once by vmap: {many}, below {SMALL:.0e}"
    text = f"one chain after the other: {many}, {SMALL:.0e} or more"
    return text if workers == 1 else f"{text}; {workers} workers share the cores"


def blocks(chains: int, executor, device: torch.device, size: float) -> list[tuple[int, ...]]:
    """How chains are dealt out to workers.

    Without an executor, a CPU gives every worker thread a share of the chains and of the cores:
    small products scale better over chains than within one.

    Raises:
        InputError: an executor that cannot run a live model.
    """
    if executor is None:
        workers = 1
        if device.type == "cpu" and size >= SMALL:
            workers = min(chains, torch.get_num_threads())
        cuts = [chains * i // workers for i in range(workers + 1)]
        return [tuple(range(a, b)) for a, b in itertools.pairwise(cuts)]
    if not hasattr(executor, "submit"):
        raise InputError(say(f"executor={executor!r}", "something with submit()", "pass None"))
    if type(executor).__name__ == "ProcessPoolExecutor":
        raise InputError(
            say(
                "a process pool",
                "an executor of threads: a live model cannot travel to another process",
                "pass a ThreadPoolExecutor, or run the chains [0, 1] and [2, 3] as two scripts",
            )
        )
    return [(row,) for row in range(chains)]
