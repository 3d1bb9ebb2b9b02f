"""How do small runs walk in step?  They meet at every gradient, and one `vmap` takes it for all.

The step of a small network takes Python's time, not the arithmetic's: a sweep over its components
pays it once a component.  Here each run keeps its own thread, store and step counter, and asks for
gradients and probe losses at a meeting.  When all that still walk have asked, all are answered.

Every chain of every member has its row, always the same one of always as many, and rows of those
who are absent (finished, stopped, diverged) stand at w*.  What a row gives follows from that row
alone, so a run that was stopped goes on bit-equal on a CPU, whoever else is there.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from slt_notebook.core.potential import mean_loss
from slt_notebook.core.space import Space
from slt_notebook.core.types import Batch
from slt_notebook.runs.execute.progress import Board
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.handle import Run
from slt_notebook.runs.plan import partition as plan
from slt_notebook.runs.plan.task import Task

ROWS = 64
"""Chains of one group, at most."""
BYTES = 1 << 30
"""Parameters of all rows, gradients and what leads to them.  Constants, as all here: who walks with
whom must not depend on the day."""
TOGETHER = 25
"""A group does at most so many times what is small for one chain: past that its activations leave
the cache, and one by one is as fast (8 heads of width 32: 2.9 x at 120 tokens, 1.0 x at 480)."""


def cut(shared: Shared, entries: Sequence[tuple[str, Task]], settings: Mapping[str, Any]):
    """Neighbours in `entries` (component, task) that should walk in step: lists of places.

    Together go runs of the same loss (one kept prefix) that are small as a whole model; closed-form
    gradients, executors and a `chain_chunk` of the user's are left alone, and so are runs on a GPU,
    where nothing of this has been measured.
    """
    out: list[list[int]] = []
    before = None
    for place, (component, task) in enumerate(entries):
        key = shared.depth(component, task.steps * task.batch_size * len(task.chains))
        most = _most(shared, task, settings)
        if out and key == before and len(out[-1]) < most:
            out[-1].append(place)
        else:
            out.append([place])
        before = key
    return out


def _most(shared: Shared, task: Task, settings: Mapping[str, Any]) -> int:
    """How many runs may walk together."""
    own = settings["executor"] is not None or settings["chain_chunk"] is not None
    own = own or bool(settings.get("compile")) or shared.probe_dtype != "float32"
    chains = len(task.chains)
    own |= shared.device.type != "cpu"
    if own or chains < 2 or getattr(shared.loss, "gradient", None) is not None:
        return 1
    size = sum(value.numel() for value in shared.loss.params.values())
    work = plan.work(size, task, shared.data)
    if work >= plan.SMALL:
        return 1
    rows = min(ROWS, BYTES // (32 * size), int(TOGETHER * plan.SMALL / work))
    return max(1, rows // chains)


@dataclass(eq=False)
class _Ask:
    """A question to the meeting: `probe` is None where the gradient is asked for."""

    probe: str | None
    position: Tensor
    batches: list[Batch]
    answer: Any = None
    error: BaseException | None = None
    done: bool = False


@dataclass(eq=False)
class Group:
    """Where runs of one loss meet.

    Attributes:
        loss, data, probes: as in the jobs of its members.
        spaces: of all members, present or not.
        chains: rows of each.
        filler: a batch, for the rows of those who are absent.
        probe_rows: examples that one run measures at once.
        boards: of the members that are present.
    """

    loss: Any
    spaces: Sequence[Space]
    chains: int
    filler: Batch
    probes: Mapping[str, Batch]
    probe_rows: int
    boards: Sequence[Board]
    _present: set[int] = field(default_factory=set)
    _asked: dict[int, _Ask] = field(default_factory=dict)
    # One member walks at a time: threads that contend for the interpreter take longer than in turn.
    _walking: int | None = None

    def __post_init__(self):
        self._turn = threading.Condition()
        self._names = list(dict.fromkeys(p.name for space in self.spaces for p in space.pieces))
        # A thread of its own, since the loss keeps a module for every thread that calls it.
        self._pool = ThreadPoolExecutor(1, "slt-group")
        form = getattr(self.loss, "batched", self.loss)
        fixed = {k: v for k, v in self.loss.params.items() if k not in self._names}

        def losses(moving, batch):
            return form({**fixed, **moving}, batch)

        def mean(moving, batch):
            return mean_loss(losses(moving, batch))

        self._gradient = vmap(grad_and_value(mean, has_aux=True), randomness="error")
        self._losses = vmap(losses, in_dims=(0, None), randomness="error")

    # Members ------------------------------------------------------------------------------------

    def join(self, number: int) -> "Seat":
        self._present.add(number)
        return Seat(self, number)

    def leave(self, number: int) -> None:
        """The others no longer wait for this one.  May be said twice."""
        with self._turn:
            self._present.discard(number)
            self._pass_on(number)
            self._begin_if_all_asked()
            if not self._present:
                self._pool.shutdown(wait=False)

    def ask(self, number: int, question: _Ask) -> Any:
        with self._turn:
            self._asked[number] = question
            self._pass_on(number)
            self._begin_if_all_asked()
            self._turn.wait_for(lambda: question.done and self._walking is None)
            self._walking = number
        if question.error is not None:
            raise question.error
        return question.answer

    def _pass_on(self, number: int) -> None:
        if self._walking == number:
            self._walking = None
            self._turn.notify_all()

    def _begin_if_all_asked(self) -> None:
        if self._asked and self._present <= set(self._asked):
            asked, self._asked = self._asked, {}
            self._pool.submit(self._answer, asked)

    # Answers ------------------------------------------------------------------------------------

    def _answer(self, asked: Mapping[int, _Ask]) -> None:
        try:
            for probe in dict.fromkeys(question.probe for question in asked.values()):
                some = {n: q for n, q in asked.items() if q.probe == probe}
                answers = self._gradients(some) if probe is None else self._measured(probe, some)
                for question, answer in zip(some.values(), answers, strict=True):
                    question.answer = answer
        except BaseException as error:  # raised by all who asked
            for question in asked.values():
                question.error = error
        with self._turn:
            for question in asked.values():
                question.done = True
            self._turn.notify_all()

    def _rows(self, asked: Mapping[int, _Ask]) -> Iterator[tuple[_Ask, Space, slice]]:
        for number, question in asked.items():
            first = number * self.chains
            yield question, self.spaces[number], slice(first, first + len(question.position))

    def _stacked(self, asked: Mapping[int, _Ask]) -> dict[str, Tensor]:
        """The parameters that any member moves: name -> `[row, *shape]`."""
        base = self.loss.params
        count = self.chains * len(self.spaces)
        out = {name: base[name].expand(count, *base[name].shape).clone() for name in self._names}
        for question, space, rows in self._rows(asked):
            parts = torch.split(question.position, [p.size for p in space.pieces], 1)
            for piece, part in zip(space.pieces, parts, strict=True):
                block = part.reshape(-1, *piece.shape).to(base[piece.name].dtype)
                out[piece.name][(rows, *piece.slices)] = block
        return out

    def _gradients(self, asked: Mapping[int, _Ask]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        batches = [self.filler] * (self.chains * len(self.spaces))
        for question, _, rows in self._rows(asked):
            batches[rows] = question.batches
        batch = {key: torch.stack([one[key] for one in batches]) for key in self.filler}
        grads, (loss, counted) = self._gradient(self._stacked(asked), batch)
        loss = loss.detach()
        for _, space, rows in self._rows(asked):
            parts = [grads[p.name][(rows, *p.slices)].flatten(1).float() for p in space.pieces]
            yield loss[rows], torch.cat(parts, 1).detach(), counted[rows]

    def _measured(self, name: str, asked: Mapping[int, _Ask]) -> Iterator[Tensor]:
        probe = self.probes[name]
        step = max(1, self.probe_rows // (self.chains * len(self.spaces)))
        size = len(next(iter(probe.values())))
        with torch.no_grad():
            stacked = self._stacked(asked)
            parts = [
                self._losses(stacked, {k: v[i : i + step] for k, v in probe.items()})
                for i in range(0, size, step)
            ]
        losses = torch.cat(parts, 1).float()
        for _, _, rows in self._rows(asked):
            yield losses[rows]


@dataclass(frozen=True, eq=False)
class Seat:
    """One run's place in a group."""

    group: Group
    number: int

    @property
    def members(self) -> int:
        return len(self.group.boards)

    def loss_and_grad(self, position: Tensor, batches: list[Batch]):
        """As `Potential.loss_and_grad`."""
        return self.group.ask(self.number, _Ask(None, position, batches))

    def measure(self, name: str, position: Tensor, alive: Tensor, alone) -> Tensor:
        """As `probing.measure`; `alone()` is what a run does without a group."""
        probe = self.group.probes[name]
        size = len(next(iter(probe.values())))
        if not bool(alive.any()) or size > self.group.probe_rows // 2:
            return alone()  # so much at once needs no company
        rows = alive.nonzero()[:, 0]
        found = self.group.ask(self.number, _Ask(name, position[rows], []))
        out = found.new_full((len(position), *found.shape[1:]), torch.nan)
        out[rows] = found
        return out

    def leave(self) -> None:
        self.group.leave(self.number)

    def stop_all(self) -> None:
        """After an error of one the others stop, too, and keep what they have done."""
        for board in self.group.boards:
            board.stop()


def seat(runs: Mapping[int, Run], spaces: Sequence[Space]) -> None:
    """Makes runs that have not started walk in step.

    Args:
        runs: place in `spaces` -> run; places without a run stay empty.
    """
    jobs = {number: run._job for number, run in runs.items()}
    one = next(iter(jobs.values()))
    if any(j.loss is not one.loss for j in jobs.values()):
        return
    filler = {key: value[: one.task.batch_size] for key, value in one.data.items()}
    boards = [job.board for job in jobs.values()]
    chains = len(one.task.chains)
    group = Group(one.loss, spaces, chains, filler, one.probes, one.potential.fit.rows, boards)
    for number, job in jobs.items():
        job.seat = group.join(number)
        job.potential = replace(job.potential, together=job.seat.loss_and_grad)
