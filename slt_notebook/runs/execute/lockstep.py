"""Evaluation of several small runs in lockstep: one `vmap` call answers all of them at every step.

A step of a small network takes the time of Python, not of the arithmetic, and a sweep over its
components pays it once per component.  Here each run keeps its own thread, store and step counter,
and hands its requests for gradients and probe losses to a barrier.  When all runs that still sample
have asked, all are answered at once.

Every chain of every member has its own row of the batched call, and the number of rows never
changes; rows of absent members (finished, stopped, diverged) hold w*.  What a row gives follows
from that row alone, so a run that was stopped continues bit-equal on a CPU, whichever other members
are present.  Which runs are grouped is decided in `grouping.py`.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.potential import Potential, mean_loss
from slt_notebook.core.space import Space
from slt_notebook.core.types import Batch
from slt_notebook.runs.execute.evaluation import Evaluator, OwnEvaluator
from slt_notebook.runs.execute.progress import Progress


@dataclass(eq=False)
class _Request:
    """What one member asks for: losses of `probe`, or the gradient where that is None."""

    probe: str | None
    position: Tensor
    batches: list[Batch]
    answer: Any = None
    error: BaseException | None = None
    done: bool = False


@dataclass(eq=False)
class Lockstep:
    """The barrier at which runs of one loss ask for evaluations.

    Attributes:
        loss: of all members.
        probes: of all members, by name.
        spaces: of all members, present or not.
        chain_count: chains of each member.
        filler: a batch, for the rows of absent members.
        probe_rows: examples of a probe that one run evaluates at once.
    """

    loss: Any
    probes: Mapping[str, Batch]
    spaces: Sequence[Space]
    chain_count: int
    filler: Batch
    probe_rows: int
    _joined: list[Progress] = field(default_factory=list)
    _present: set[int] = field(default_factory=set)
    _requests: dict[int, _Request] = field(default_factory=dict)
    # One member computes at a time: threads that contend for the interpreter take longer than in
    # turn.
    _computing: int | None = None

    def __post_init__(self):
        self._turn = threading.Condition()
        self._names = list(dict.fromkeys(p.name for space in self.spaces for p in space.pieces))
        # A thread of its own, since the loss keeps a module for every thread that calls it.
        self._pool = ThreadPoolExecutor(1, "slt-lockstep")
        form = capabilities(self.loss).batched
        fixed = {k: v for k, v in self.loss.params.items() if k not in self._names}

        def losses(moving, batch):
            return form({**fixed, **moving}, batch)

        def mean(moving, batch):
            return mean_loss(losses(moving, batch))

        self._gradient = vmap(grad_and_value(mean, has_aux=True), randomness="error")
        self._losses = vmap(losses, in_dims=(0, None), randomness="error")

    # Members ------------------------------------------------------------------------------------

    def join(self, number: int, own: OwnEvaluator, progress: Progress) -> Evaluator:
        """Return the evaluator of the member at place `number` in `spaces`.

        Args:
            number: place in `spaces`.
            own: what the run would do by itself.
            progress: of the run, which is asked to stop when another member fails.

        Returns:
            A `LockstepEvaluator`, or `own` where the run has another loss.
        """
        if own.potential.loss is not self.loss:
            return own
        self._present.add(number)
        self._joined.append(progress)
        return LockstepEvaluator(self, number, own)

    @property
    def members(self) -> int:
        """How many runs have joined."""
        return len(self._joined)

    def leave(self, number: int) -> None:
        """Let the others no longer wait for this member.  May be called twice."""
        with self._turn:
            self._present.discard(number)
            self._release(number)
            self._answer_if_all_asked()
            if not self._present:
                self._pool.shutdown(wait=False)

    def abort(self) -> None:
        """Asks all members to stop; they keep what they have done."""
        for progress in self._joined:
            progress.stop()

    def gradients(self, number: int, position: Tensor, batches: list[Batch]):
        """As `Potential.loss_and_grad`, for one member; waits for the others."""
        return self._ask(number, _Request(None, position, batches))

    def losses(self, number: int, name: str, position: Tensor) -> Tensor:
        """Losses of the probe `name`: float32 `[chain, example[, token]]`; waits for the others."""
        return self._ask(number, _Request(name, position, []))

    def _ask(self, number: int, request: _Request) -> Any:
        with self._turn:
            self._requests[number] = request
            self._release(number)
            self._answer_if_all_asked()
            self._turn.wait_for(lambda: request.done and self._computing is None)
            self._computing = number
        if request.error is not None:
            raise request.error
        return request.answer

    def _release(self, number: int) -> None:
        if self._computing == number:
            self._computing = None
            self._turn.notify_all()

    def _answer_if_all_asked(self) -> None:
        if self._requests and self._present <= set(self._requests):
            requests, self._requests = self._requests, {}
            self._pool.submit(self._answer, requests)

    # Answers ------------------------------------------------------------------------------------

    def _answer(self, requests: Mapping[int, _Request]) -> None:
        try:
            for probe in dict.fromkeys(request.probe for request in requests.values()):
                some = {n: r for n, r in requests.items() if r.probe == probe}
                answers = self._gradients(some) if probe is None else self._measured(probe, some)
                for request, answer in zip(some.values(), answers, strict=True):
                    request.answer = answer
        except BaseException as error:  # raised by all who asked
            for request in requests.values():
                request.error = error
        with self._turn:
            for request in requests.values():
                request.done = True
            self._turn.notify_all()

    def _rows(self, requests: Mapping[int, _Request]) -> Iterator[tuple[_Request, Space, slice]]:
        for number, request in requests.items():
            first = number * self.chain_count
            yield request, self.spaces[number], slice(first, first + len(request.position))

    def _stacked(self, requests: Mapping[int, _Request]) -> dict[str, Tensor]:
        """Return the parameters that any member moves: name -> `[row, *shape]`."""
        base = self.loss.params
        count = self.chain_count * len(self.spaces)
        out = {name: base[name].expand(count, *base[name].shape).clone() for name in self._names}
        for request, space, rows in self._rows(requests):
            parts = torch.split(request.position, [p.size for p in space.pieces], 1)
            for piece, part in zip(space.pieces, parts, strict=True):
                block = part.reshape(-1, *piece.shape).to(base[piece.name].dtype)
                out[piece.name][(rows, *piece.slices)] = block
        return out

    def _gradients(
        self, requests: Mapping[int, _Request]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        batches = [self.filler] * (self.chain_count * len(self.spaces))
        for request, _, rows in self._rows(requests):
            batches[rows] = request.batches
        batch = {key: torch.stack([one[key] for one in batches]) for key in self.filler}
        grads, (loss, counted) = self._gradient(self._stacked(requests), batch)
        loss = loss.detach()
        for _, space, rows in self._rows(requests):
            parts = [grads[p.name][(rows, *p.slices)].flatten(1).float() for p in space.pieces]
            yield loss[rows], torch.cat(parts, 1).detach(), counted[rows]

    def _measured(self, name: str, requests: Mapping[int, _Request]) -> Iterator[Tensor]:
        probe = self.probes[name]
        step = max(1, self.probe_rows // (self.chain_count * len(self.spaces)))
        size = len(next(iter(probe.values())))
        with torch.no_grad():
            stacked = self._stacked(requests)
            parts = [
                self._losses(stacked, {k: v[i : i + step] for k, v in probe.items()})
                for i in range(0, size, step)
            ]
        losses = torch.cat(parts, 1).float()
        for _, _, rows in self._rows(requests):
            yield losses[rows]


@dataclass(frozen=True, eq=False)
class LockstepEvaluator:
    """Evaluation of one run together with the other members of `lockstep`; see `Evaluator`.

    Attributes:
        lockstep: the barrier.
        number: place of this run in `lockstep.spaces`.
        own: what the run does by itself, for probes so large that batching gains nothing.
    """

    lockstep: Lockstep
    number: int
    own: OwnEvaluator

    @property
    def potential(self) -> Potential:
        """The potential of the run; its gradients come from the barrier."""
        return replace(self.own.potential, joint_gradient=self._gradients)

    def _gradients(self, position: Tensor, batches: list[Batch]):
        return self.lockstep.gradients(self.number, position, batches)

    @property
    def probes(self) -> Mapping[str, Batch]:
        """See `Evaluator.probes`."""
        return self.own.probes

    @property
    def writers(self) -> int:
        """See `Evaluator.writers`."""
        return self.lockstep.members

    def measure(self, name: str, position: Tensor, alive: Tensor, ask: bool) -> Tensor:
        """See `Evaluator.measure`."""
        size = len(next(iter(self.probes[name].values())))
        if not bool(alive.any()) or size > self.lockstep.probe_rows // 2:
            return self.own.measure(name, position, alive, ask)
        found = self.lockstep.losses(self.number, name, position)
        return torch.where(alive.reshape(-1, *[1] * (found.dim() - 1)), found, torch.nan)

    def after_step(self, alive: Tensor) -> None:
        """Leaves once no chain is alive: the run only counts on, and asks for nothing."""
        if not bool(alive.any()):
            self.leave()

    def leave(self) -> None:
        """Let the other members no longer wait for this run."""
        self.lockstep.leave(self.number)

    def abort(self) -> None:
        """Asks the other members to stop, too; they keep what they have done."""
        self.lockstep.abort()
