"""The matrix products of a piece of work alone: their shapes, FLOPs, and a replay.

A dispatch mode writes down every matrix product and every fused attention that a gradient or a
probe asks for, with shapes and strides.  The replay does exactly these, in their order, on buffers
that are ready, and nothing else: no loss, no norm, no update, no copy.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

import slt_notebook as slt
from slt_notebook.core.backward import backward_into
from slt_notebook.core.space import Space
from slt_notebook.models.components.catalog import parts
from slt_notebook.runs.execute.threads import threads_sharing_cores
from tests.bench.parts.machine import seconds
from tests.bench.parts.memory import Peak
from tests.bench.parts.models import Work

PROBE_TOKENS = 4096
"""Losses that the kit evaluates of a probe at once (`runs.plan`)."""


@dataclass(frozen=True)
class Like:
    """A tensor that was seen: how it lay in memory."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def make(self, device: torch.device) -> Tensor:
        out = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=device)
        # Small values: scores of replayed attention stay finite.
        return out.normal_(0, 0.05) if out.is_floating_point() else out.zero_()


@dataclass(frozen=True)
class Product:
    """One call: the operation, its arguments (tensors as `Like`) and its FLOPs."""

    call: Any
    args: tuple
    kwargs: dict
    flops: float


class Recorder(TorchDispatchMode):
    """`with Recorder() as seen: work()`; then `seen.products`."""

    def __init__(self):
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        flops = flops_of(func.overloadpacket.__name__, args)
        if flops:
            like = lambda x: Like(tuple(x.shape), x.stride(), x.dtype) if _is_tensor(x) else x
            args, kwargs = tree_map(like, (tuple(args), dict(kwargs)))
            self.products.append(Product(func, args, kwargs, flops))
        return out

    @property
    def flops(self) -> float:
        return sum(product.flops for product in self.products)


def flops_of(name: str, args: Sequence) -> float:
    """FLOPs of an operation; 0 for all that is neither a matrix product nor fused attention.

    Of causal attention the half below the diagonal is counted, which is what has to be computed.
    """
    plain = name.rstrip("_")
    if plain in ("mm", "bmm"):
        a, b = args[:2]
    elif plain in ("addmm", "baddbmm"):
        a, b = args[1:3]
    elif "scaled_dot_product" in name:
        backward = name.endswith("backward")
        q, k, v = args[1:4] if backward else args[:3]
        scores = math.prod(q.shape[:-1]) * k.shape[-2]
        # Forward: q k and p v.  Backward: q k once more, then by v, p, q and k.
        each = 3 * q.shape[-1] + 2 * v.shape[-1] if backward else q.shape[-1] + v.shape[-1]
        flags = [x for x in args if isinstance(x, bool)]
        return 2.0 * scores * each * (0.5 if any(flags) else 1)
    else:
        return 0.0
    return 2.0 * math.prod(a.shape) * b.shape[-1]


@dataclass(frozen=True)
class Passes:
    """The products of one chain's gradient and of one measurement of the probe."""

    gradient: list[Product]
    probe: list[Product]

    @property
    def flops(self) -> float:
        """Of one step with a draw."""
        return sum(product.flops for product in (*self.gradient, *self.probe))


def passes(work: Work, component: str = "full", probes: bool = True) -> Passes:
    """Records the products of the kit's loss on this work.

    For a component: the gradient by its coordinates alone, forward pass from the start (a prefix
    that the kit keeps would save some of it).
    """
    loss = slt.causal_lm(work.model)
    space = Space.of(loss.params) if component == "full" else parts(work.model).space(component)
    leaf = space.flatten(loss.params).requires_grad_(True)
    batch = _fields(work, work.data[: work.size.batch])
    with Recorder() as gradient:
        losses = loss(space.unflatten(leaf, loss.params), batch)
        torch.autograd.grad(losses.nanmean(), leaf)
    with Recorder() as probe:
        if probes:
            rows = max(1, PROBE_TOKENS // (work.size.length - 1))
            for start in range(0, len(work.probe), rows):
                loss.evaluate(loss.params, _fields(work, work.probe[start : start + rows]))
    return Passes(gradient.products, probe.products)


def replay(products: Sequence[Product], device: torch.device) -> Callable[[], None]:
    """A function that does these products once, on buffers made here."""
    pool: dict[tuple, Tensor] = {}

    def buffer(like: Like, place: int) -> Tensor:
        key = (like, place)
        if key not in pool:
            pool[key] = like.make(device)
        return pool[key]

    calls = []
    for product in products:
        leaves, spec = tree_flatten((product.args, product.kwargs))
        leaves = [buffer(x, i) if isinstance(x, Like) else x for i, x in enumerate(leaves)]
        args, kwargs = tree_unflatten(leaves, spec)
        target = _with_out.get(product.call)
        if target is not None:
            shape = product.call(*args, **kwargs).shape
            made = Like(tuple(shape), _contiguous(shape), args[-1].dtype)
            kwargs = {**kwargs, "out": buffer(made, -1)}
        calls.append((target or product.call, args, kwargs))

    def run() -> None:
        with torch.no_grad():
            for call, args, kwargs in calls:
                call(*args, **kwargs)

    return run


def alone(work: Work, found: Passes, chains: int, workers: int) -> Callable[[], None]:
    """The products of one draw of all chains, laid out on `workers` threads as the kit's."""
    both = (*found.gradient, *found.probe)
    runs = [replay(both, work.device) for _ in range(workers)]
    shares = [chains * (i + 1) // workers - chains * i // workers for i in range(workers)]

    def one(run: Callable[[], None], times: int) -> None:
        for _ in range(times):
            run()

    def draw() -> None:
        if workers == 1:
            one(runs[0], chains)
            return
        with threads_sharing_cores(workers) as pool:
            jobs = [pool.submit(one, run, n) for run, n in zip(runs, shares, strict=True)]
            wait(jobs)
            for job in jobs:
                job.result()

    return draw


def rate(work: Work, found: Passes, chains: int, workers: int) -> dict:
    """Seconds of the products of a draw alone, and their GFLOP/s: the peak in these shapes."""
    took = seconds(alone(work, found, chains, workers), work.device, least=2.0, rounds=3)
    return {"wall": took, "gflops": chains * found.flops / took / 1e9}


_with_out = {
    torch.ops.aten.mm.default: torch.mm,
    torch.ops.aten.bmm.default: torch.bmm,
    torch.ops.aten.addmm.default: torch.addmm,
    torch.ops.aten.baddbmm.default: torch.baddbmm,
}


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _fields(work: Work, ids) -> dict[str, Tensor]:
    probe = slt.token_probe("rows", ids)
    return {key: torch.as_tensor(value).to(work.device) for key, value in probe.fields.items()}


def activations(work: Work, probes: bool = True) -> int | None:
    """Bytes that one chain's gradient or probe takes at its peak, the gradient itself left out.

    The gradient is taken as the kit does it, piece by piece into a row that is there before.
    """
    loss = slt.causal_lm(work.model)
    space = Space.of(loss.params)
    batch = _fields(work, work.data[: work.size.batch])
    position = space.flatten(loss.params)
    leaves = [block.clone().requires_grad_(True) for block in space.blocks(position)]
    places = space.blocks(torch.zeros_like(position))
    rows = max(1, PROBE_TOKENS // (work.size.length - 1))
    part = _fields(work, work.probe[:rows])
    with Peak(work.device) as gradient:
        losses = loss(space.assemble(leaves, loss.params), batch)
        backward_into(losses.nanmean(), leaves, places)
        del losses
    with Peak(work.device) as probe:
        if probes:
            loss.evaluate(loss.params, part)
    if gradient.bytes is None or probe.bytes is None:
        return None
    return max(gradient.bytes, probe.bytes)
