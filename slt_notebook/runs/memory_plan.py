"""`slt.memory_plan`: what a run would hold in memory, before it is started."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.space import dtype_of
from slt_notebook.models.probes import Probe
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.memory import MemoryPlan, memory_plan_of
from slt_notebook.runs.plan.settings import Speed, from_keywords
from slt_notebook.runs.prepare import check_inputs, device_of, layout

_NO_MATTER = ("store", "blocking", "progress", "checkpoints")
"""Parameters of `slt.sample` that do not change what one run holds."""


@in_plain_modes
def memory_plan(
    loss,
    data: Probe,
    *,
    probes: Sequence[Probe] = (),
    components: str | None = None,
    device: str | torch.device = Speed.device,
    **settings: Any,
) -> MemoryPlan:
    """What `slt.sample` with the same arguments would hold in memory, and how it would be divided.

    Nothing is sampled or written.  Activations are measured on one example.  A run whose chunk does
    not fit after all halves it and continues: `run.memory.fit.halved` says so.

    Args:
        loss: as in `slt.sample`.
        data: as in `slt.sample`.
        probes: as in `slt.sample`.
        components: one component, as in `slt.sample`.
        device: as in `slt.sample`.
        settings: the other parameters of `slt.sample`, with the same defaults.

    Returns:
        A `MemoryPlan`: print it, or take its `table`.

    Raises:
        InputError, ComponentError: bad input, as `slt.sample` raises it.
    """
    others = [*list(inspect.signature(memory_plan).parameters)[:-1], *_NO_MATTER]
    chosen, speed = from_keywords({**settings, "device": device}, "slt.memory_plan", others)
    data, probes = check_inputs(loss, data, probes)
    where = device_of(loss, speed)
    shared = Shared(loss, data, probes, where, chosen.probe_dtype)
    plan = layout(shared, partition.component_of(shared.loss, components), chosen, speed)
    return memory_plan_of(
        plan.task, shared.loss, plan.space, plan.states, data, probes,
        data.take(1).tensors(where, dtype_of(loss.params)), where, len(plan.blocks),
        speed.chain_chunk,
    )  # fmt: skip
