"""The memory of a run, item by item, and how its work is divided: before any work.

What can be counted is counted (weights, chains, states, gradients, losses of probes); what depends
on the architecture, the activations, is measured: one example goes forward once, and the tensors
that its backward pass would keep are added up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.chunking import Fit, out_of_memory
from slt_notebook.core.reductions import LONG
from slt_notebook.core.space import Space
from slt_notebook.core.steppers.blocked import LARGE
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.settings import Task

SHARE = 0.6
"""Share of the free memory for activations and gradients of a chunk; allocators need the rest."""


@dataclass(frozen=True)
class MemoryPlan:
    """What a run will hold in memory, and how its work is divided.

    Attributes:
        items: (what, bytes, how it comes about).
        disk: bytes of the finished store, before compression.
        free: bytes that are free on the device now, or None where that is not known.
        device: where it is computed.
        fit: chains per batched gradient, examples per backward pass, examples per probe evaluation.
        workers: blocks of chains that are sampled at the same time.
        rule: why chains are batched or looped, in words.
    """

    items: tuple[tuple[str, int, str], ...]
    disk: int
    free: int | None
    device: str
    fit: Fit
    workers: int
    rule: str

    @property
    def total(self) -> int:
        """Bytes of all items together."""
        return sum(size for _, size, _ in self.items)

    @property
    def table(self) -> pd.DataFrame:
        """The items as a table: megabytes, share, reckoning."""
        rows = [(what, size / 1e6, how) for what, size, how in self.items]
        out = pd.DataFrame(rows, columns=["what", "MB", "how"])
        out.insert(2, "share", out.MB / max(out.MB.sum(), 1e-9))
        return out.set_index("what")

    def __str__(self) -> str:
        width = max(len(what) for what, _, _ in self.items)
        lines = [f"{w:<{width}} {_mb(size / 1e6):>10} MB  {how}" for w, size, how in self.items]
        free = "unknown" if self.free is None else f"{self.free / 1e6:,.0f} MB"
        lines += [
            f"{'total':<{width}} {_mb(self.total / 1e6):>10} MB  free on {self.device}: {free}"
        ]
        lines += [f"{'store, on disk':<{width}} {_mb(self.disk / 1e6):>10} MB  before compression"]
        lines += [f"gradients: {self.rule}"]
        lines += [f"probes: up to {self.fit.rows} examples at once"]
        return "\n".join([*lines, *self.fit.halved])

    def _repr_html_(self) -> str:
        notes = "".join(f"<br>{_text(line)}" for line in self.fit.halved)
        free = "unknown" if self.free is None else f"{self.free / 1e6:,.0f} MB"
        styler = self.table.style
        styler.format({"MB": _mb, "share": "{:.0%}"})
        shown = styler.to_html()
        return (
            f"{shown}<p>Total {_mb(self.total / 1e6)} MB, free on {_text(self.device)}: {free}; "
            f"store {_mb(self.disk / 1e6)} MB before compression.<br>"
            f"Gradients: {_text(self.rule)}; probes: up to {self.fit.rows} examples at once."
            f"{notes}</p>"
        )

    def one_by_one(self, rule: str) -> "MemoryPlan":
        """Return the plan of the same run whose chains are not batched, for the reason `rule`."""
        fit = Fit(1, self.fit.examples, self.fit.rows)
        fit.halved.append(rule)
        return replace(self, fit=fit, rule=rule)

    def check(self) -> None:
        """Refuses a run that does not fit.

        Raises:
            InputError: with the largest items and what is free.
        """
        if self.free is None or self.total <= 0.9 * self.free:
            return
        largest = sorted(self.items, key=lambda item: -item[1])[:3]
        parts = "; ".join(f"{_bytes(size)} for {what} ({how})" for what, size, how in largest)
        raise InputError(
            say(
                f"work that needs about {_bytes(self.total)}: {parts}",
                f"at most {_bytes(0.9 * self.free)}, nine tenths of what is free on {self.device}",
                "use fewer chains, a smaller component, shorter sequences, or split the probe",
            )
        )


def _bytes(size: float) -> str:
    unit, scale = ("GB", 1e9) if size >= 1e9 else ("MB", 1e6)
    return f"{size / scale:,.3g} {unit}"


def _mb(megabytes: float) -> str:
    """One decimal; two digits of what would round to nothing."""
    return f"{megabytes:,.1f}" if megabytes >= 0.05 or not megabytes else f"{megabytes:.2g}"


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;")


def memory_plan_of(
    task: Task, loss: Any, space: Space, states: int, data: Probe, probes: Sequence[Probe],
    batch: Batch, device: torch.device, workers: int, chain_chunk: int | None,
) -> MemoryPlan:  # fmt: skip
    """Return the plan of a run.

    Args:
        task: what is sampled.
        loss: on the device.
        space: the coordinates that move.
        states: rows that a kernel keeps besides the position (moments, momenta).
        data: the examples of the loss.
        probes: what is recorded.
        batch: one example of the data on the device, to measure activations with.
        device: where the run is computed.
        workers: blocks of chains that are sampled at the same time.
        chain_chunk: chains per batched gradient that the user asked for, or None.
    """
    count, dim, free = len(task.chains), space.dim, partition.free_memory(device)
    row = 4 * dim
    one, largest = activations(loss, space, loss.params, batch)
    size = partition.work(dim, task, data)
    per_chain = one * task.batch_size + 3 * row
    at_once = chain_chunk or partition.chunk(count, size, device, per_chain, free, SHARE)
    block = -(-count // workers)
    examples = None
    most = None if free is None else SHARE * free / workers
    if most is not None and at_once == 1 and one * task.batch_size > most:
        examples = max(1, int(most / max(one, 1)))
    rows = max(map(partition.probe_rows, probes), default=1)
    at_a_time = max((min(len(p), rows) for p in probes), default=0)
    at_once = min(at_once, block)
    long = device.type == "cpu" and dim >= LONG and at_once == 1
    tests = 1 if dim >= LARGE else workers  # each holds the new position and its gradient
    held = workers * (1 + states) + 2 * tests if long else count * 3 + workers * 2
    reads = examples or task.batch_size
    losses = {p.name: len(p) * p.tokens for p in probes}
    weights = sum(v.nbytes for v in loss.params.values()) if device.type != "cpu" else 0
    items = [
        ("weights", weights, "on the device" if weights else "the model's own"),
        ("w*", row, f"{dim:,} coordinates"),
        ("chains", count * row, f"{count} positions"),
        ("states", states * count * row, f"{states} a chain: moments, momenta"),
        ("gradients", held * row, f"{held} rows of {row / 1e6:,.1f} MB, what a step needs besides"),
        ("activations", workers * at_once * reads * one,
         f"{workers} x {at_once} chains x {reads} examples of {one / 1e6:,.2f} MB, measured"),
        ("probe evaluation", workers * at_a_time * 4 * largest, f"{at_a_time} examples at once"),
    ]  # fmt: skip
    # A draw is held three times: as measured, stacked, and while it is written.
    items += [
        (
            f"losses of probe {name!r}",
            3 * 4 * count * number,
            f"{count} x {number:,}, three times",
        )
        for name, number in losses.items()
    ]
    items = [item for item in items if item[1] or item[0] == "weights"]
    disk = _disk(task, losses.values(), 2 * (1 + states) * count * row)
    how = partition.explain(at_once, count, size, device, workers)
    if examples:
        how += f"; {examples} of {task.batch_size} examples per backward pass"
    fit = Fit(at_once, examples, rows)
    return MemoryPlan(tuple(items), disk, free, str(device), fit, workers, how)


def _disk(task: Task, losses: Iterable[int], checkpoint: int) -> int:
    """Bytes of the finished store before compression; names and texts of examples come on top.

    Args:
        task: what is sampled.
        losses: numbers of each probe at a draw.
        checkpoint: bytes of the kernel states.
    """
    count, each = len(task.chains), list(losses)
    # Loss, baseline and virial ratio of a step; gradient norm, distance and acceptance of a draw.
    series = 4 * count * (3 * task.steps + (3 + sum(each)) * task.draws)
    indices = 8 * (task.steps + (1 + len(each)) * task.draws)
    return series + indices + checkpoint


def activations(loss: Any, space: Space, params: Params, batch: Batch) -> tuple[int, int]:
    """Bytes that the backward pass of one example keeps, and those of the largest tensor.

    Weights are not counted.
    """
    own = {v.untyped_storage().data_ptr() for v in params.values()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place not in own:
            size = min(storage.nbytes(), tensor.nbytes)  # of a view, and of an expanded tensor
            seen[place] = max(seen.get(place, 0), size)
        # If it kept an operation's own output, the graph would refer to itself and never be freed.
        return tensor.detach()

    leaf = space.flatten(params).requires_grad_(True)
    own.add(leaf.untyped_storage().data_ptr())
    one = {key: value[:1] for key, value in batch.items()}
    try:
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with torch.enable_grad(), hooks:
            loss(space.unflatten(leaf, params), one)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            say(
                "a model of which not even one example fits in memory",
                "memory for one",
                "use a smaller component, shorter sequences or another device",
            )
        ) from error
    finally:
        capabilities(loss).release()
    return sum(seen.values()), max(seen.values(), default=0)
