"""What would a run hold in memory?  Asked before it is started."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from slt_notebook.models.probes import Probe
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.plan import partition as plan
from slt_notebook.runs.plan.memory import MemoryPlan, memory_plan_of
from slt_notebook.runs.plan.prepare import check_inputs, shape_of
from slt_notebook.runs.plan.task import refuse_unknown
from slt_notebook.runs.sample import sample

_OTHERS = ("loss", "data", "probes", "components", "device", "store", "blocking", "progress",
           "checkpoints", "unknown")  # fmt: skip


def memory_plan(
    loss,
    data: Probe,
    *,
    probes: Sequence[Probe] = (),
    components: str = "full",
    device: str | torch.device = "auto",
    **settings: Any,
) -> MemoryPlan:
    """What `slt.sample` with the same arguments would hold in memory, and how it would be cut.

    Nothing is sampled or written.  Activations are measured on one example.  A run whose chunk does
    not fit after all halves it and goes on: `run.memory.fit.halved` says so.

    Args:
        loss, data, probes, components, device, settings: as in `slt.sample` (one component).

    Returns:
        A `MemoryPlan`: print it, or take its `table`.

    Raises:
        InputError, ComponentError: bad input, as `slt.sample` raises it.
    """
    known = {name: p.default for name, p in inspect.signature(sample).parameters.items()}
    refuse_unknown(
        {k: v for k, v in settings.items() if k not in known}, list(known), "slt.memory_plan"
    )
    chosen = {k: settings.get(k, v) for k, v in known.items() if k not in _OTHERS}
    probes = check_inputs(loss, data, probes)
    where = plan.pick_device(device, next(iter(loss.params.values())).device)
    shared = Shared(loss, data, probes, where)
    task, space, states, blocks = shape_of(shared, components, chosen)
    tensors = data.take(1).tensors(where)
    return memory_plan_of(
        task, shared.loss, space, states, data, probes, tensors, where, len(blocks),
        chosen["chain_chunk"],
    )  # fmt: skip
