"""Which runs of a sweep are evaluated in lockstep, and the barrier of such a group."""

from collections.abc import Sequence

import torch

from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.space import dtype_of
from slt_notebook.runs.execute.lockstep import Lockstep
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.settings import Speed, Task

# Constants, all of them: which runs are grouped must not depend on the day.
ROWS = 64
"""Chains of one group, at most."""
BYTES = 1 << 30
"""Parameters of all rows, gradients and what leads to them."""
GROUP_WORK = 25
"""A group does at most so many times what is small for one chain: past that its activations leave
the cache, and one by one is as fast (8 heads of width 32: 2.9 x at 120 tokens, 1.0 x at 480)."""


def lockstep_groups(
    shared: Shared, entries: Sequence[tuple[str, Task]], speed: Speed
) -> list[list[int]]:
    """Neighbours in `entries` that are evaluated in lockstep: lists of places in `entries`.

    Grouped are runs of the same loss (one kept prefix) that are small as a whole model; runs with
    closed-form gradients, an executor or a `chain_chunk` of the user's stay single, and so do runs
    on a GPU, where nothing of this has been measured.

    Args:
        shared: of all entries.
        entries: (component, task) of each run.
        speed: of all entries.
    """
    out: list[list[int]] = []
    before = None
    for place, (component, task) in enumerate(entries):
        key = shared.depth(component, task.evaluations)
        if out and key == before and len(out[-1]) < _largest_group(shared, task, speed):
            out[-1].append(place)
        else:
            out.append([place])
        before = key
    return out


def _largest_group(shared: Shared, task: Task, speed: Speed) -> int:
    """How many runs may be in one group."""
    single = speed.executor is not None or speed.chain_chunk is not None or bool(speed.compile)
    single |= dtype_of(shared.loss.params) != torch.float32
    single |= task.probe_dtype != "float32" or shared.device.type != "cpu"
    count = len(task.chains)
    if single or count < 2 or capabilities(shared.loss).gradient is not None:
        return 1
    size = sum(value.numel() for value in shared.loss.params.values())
    work = partition.work(size, task, shared.data)
    if work >= partition.SMALL or shared.batching_refusal is not None:
        return 1
    rows = min(ROWS, BYTES // (32 * size), int(GROUP_WORK * partition.SMALL / work))
    return max(1, rows // count)


def make_lockstep(shared: Shared, entries: Sequence[tuple[str, Task]]) -> Lockstep:
    """Return the barrier of one group of `lockstep_groups`, which no run has joined yet."""
    component, task = entries[0]
    inputs = shared.at(component, task.evaluations)
    known = None if all(name == "full" for name, _ in entries) else shared.parts
    return Lockstep(
        loss=inputs.loss,
        probes=inputs.probes,
        spaces=[partition.resolve(name, shared.loss, known) for name, _ in entries],
        chain_count=len(task.chains),
        filler={key: value[: task.batch_size] for key, value in inputs.data.items()},
        probe_rows=max(map(partition.probe_rows, shared.probes), default=1),
    )
