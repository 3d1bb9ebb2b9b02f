"""What is not finite is a status with its step and cause: every kernel and metric, place and path.

The batch of one chain at one step carries a flag, and the loss does something to flagged examples.
The chain then keeps its last state, and the other chains have every bit that they have without it.
"""

from dataclasses import replace

import pytest
import torch
from torch.utils._pytree import tree_leaves

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.core.chunking import Fit
from slt_notebook.core.potential import Potential
from slt_notebook.core.reductions import LONG
from slt_notebook.core.sampler_loop import sampler_steps
from slt_notebook.core.space import Space
from slt_notebook.core.steppers import blocked, in_place
from slt_notebook.core.steppers.block import kernel_update
from slt_notebook.core.steppers.choice import is_plain_sgld
from slt_notebook.core.steppers.reference import Reference
from tests.core.steppers.cases import name_of

CHAINS, BAD, STEP, COUNT, BURNIN = (0, 1, 2), 1, 2, 5, 3
SIZE = 4.0  # the loss is so flat that steps of this size are stable


def _root(v, flag, absolute):
    """0 with a gradient that is infinite, or NaN where the size of `v` is taken first."""
    safe = torch.where(flag, v, torch.ones_like(v))
    return (safe.abs() if absolute else safe).sqrt() - torch.where(flag, 0.0, 1.0)


PLACES = {
    "the loss is NaN": lambda v, flag: torch.where(flag, torch.nan, 0.0),
    "the loss is infinite": lambda v, flag: torch.where(flag, torch.inf, 0.0),
    "one example of the batch is NaN": lambda v, flag: torch.where(
        flag & (torch.arange(len(flag), device=flag.device) == 1), torch.nan, 0.0
    ),
    "the gradient is NaN": lambda v, flag: _root(v, flag, True),
    "the gradient is infinite": lambda v, flag: _root(v, flag, False),
    "the gradient is 1e25": lambda v, flag: 1e25 * flag * v,
    "the gradient is 1e38": lambda v, flag: 1e38 * flag * v,
}
"""What a flagged example adds to its loss; `v` is zero and has the gradient of a coordinate."""

METRICS = [
    slt.Identity(), slt.Fixed(0.7), slt.RMSProp(), slt.RMSProp(compat="devinterp"),
    slt.RMSProp(adapt="burnin"),
]  # fmt: skip
KERNELS = [
    *(slt.SGLD(SIZE, metric=m) for m in (*METRICS, slt.Adam(), slt.Adam(adapt="burnin"))),
    *(slt.SGHMC(SIZE, metric=m) for m in METRICS),
    *(slt.SGNHT(SIZE, metric=m) for m in METRICS),
]


def expected(kernel, place):
    """(step, cause): what a kernel first notices of a place."""
    if "loss" in place or "example" in place:
        return STEP, names.STATUS_LOSS
    if "NaN" in place or "infinite" in place:
        return STEP, names.STATUS_GRADIENT
    if not isinstance(kernel.metric, slt.Identity | slt.Fixed):
        return STEP, names.STATUS_METRIC  # the square of the gradient overflows
    if "1e38" in place:
        return STEP, names.STATUS_POSITION if isinstance(kernel, slt.SGLD) else names.STATUS_STATE
    if isinstance(kernel, slt.SGNHT):
        return STEP, names.STATUS_STATE  # the square of the momentum overflows
    return STEP + 1, names.STATUS_LOSS  # at a position of 1e25


def potential(place, dim, at_once, space=None, device="cpu"):
    """A flat quartic loss; `place` says what a flagged example does."""
    params = {"w": torch.linspace(-1, 1, dim), "v": torch.ones(3)}

    def loss(p, batch):
        w = p["w"]
        value = (w * batch["x"].mean()).square().mean() + (w**4).mean() + p["v"].sum()
        return 1e-4 * value.expand(len(batch["x"])) + PLACES[place](
            w[-1] - w[-1].detach(), batch["flag"]
        )

    of = slt.loss_fn(params, loss).to(torch.device(device))
    where = Space.of(of.params, space)
    return Potential(
        of, where, of.params, where.flatten(of.params),
        torch.tensor([3.0, 3.0, 2.0], device=device), torch.full((3,), 1e-3, device=device),
        Fit(at_once),
    )  # fmt: skip


def steps(kernel, target, stepper, flagged, ask=None):
    state = kernel.init(target.center.expand(3, -1).clone() + 0.01)
    device = state.position.device

    def batches(step):
        here = [
            {
                "x": torch.arange(4.0, device=device) + step + c,
                "flag": torch.full((4,), flagged == (step, c), device=device),
            }
            for c in CHAINS
        ]
        return here, torch.full((3,), 4, device=device)

    made = sampler_steps(
        kernel, target, state, seed=3, chains=CHAINS, batches=batches, first=0, last=COUNT,
        status=torch.zeros(3, dtype=torch.int8, device=device), burnin=BURNIN, ask=ask,
        norm_at=lambda i: True, accept_at=lambda i: i == COUNT - 1,
        stepper=None if stepper is None else stepper(target),
    )  # fmt: skip
    return [s._replace(state=[leaf.clone() for leaf in tree_leaves(s.state)]) for s in made]


def check(kernel, target, place, stepper, ask=None, same=torch.equal):
    step, cause = expected(kernel, place)
    clean = steps(kernel, target, stepper, None, ask)
    bad = steps(kernel, target, stepper, (STEP, BAD), ask)
    others = [c for c in CHAINS if c != BAD]
    assert all(not s.status.any() for s in clean)
    for one, other in zip(bad, clean, strict=True):
        wanted = cause if one.index >= step else names.STATUS_OK
        assert int(one.status[BAD]) == wanted, (one.index, names.STATUS_TEXT[int(one.status[BAD])])
        for name in ("loss", "virial", "grad_norm", "accept", "status"):
            values = getattr(one, name), getattr(other, name)
            if values[0] is not None:
                assert same(values[0][others], values[1][others]), name
                assert wanted == 0 or name == "status" or values[0][BAD].isnan()
        held = bad[step - 1].state if one.index >= step else one.state
        for a, b, kept in zip(one.state, other.state, held, strict=True):
            assert same(a[others], b[others])
            assert torch.equal(a[BAD], kept[BAD])


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
@pytest.mark.parametrize("place", PLACES)
def test_it_is_found_at_its_step_with_its_cause(kernel, place):
    check(kernel, potential(place, 37, 3), place, lambda t: Reference(t, 3, CHAINS), True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
@pytest.mark.parametrize("place", PLACES)
def test_it_is_found_in_chunks_of_chains_without_asking_and_in_a_component(kernel, place):
    for at_once in (2, 1):  # two batched gradients, the plain loop
        target = potential(place, 37, at_once)
        check(kernel, target, place, lambda t: Reference(t, 3, CHAINS), True)
    for at_once in (3, 1):
        target = potential(place, 37, at_once)
        check(kernel, target, place, lambda t: Reference(t, 3, CHAINS, False), False)
    part = potential(place, 37, 3, ["w"])
    check(kernel, part, place, lambda t: Reference(t, 3, CHAINS), True)


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.elementwise], ids=name_of)
@pytest.mark.parametrize("place", PLACES)
def test_it_is_found_in_blocks_and_in_place(kernel, place):
    whole = potential(place, 37, 1)
    check(kernel, whole, place, lambda t: blocked.Blocked(t, 3, CHAINS, kernel_update))
    if is_plain_sgld(kernel):
        check(kernel, whole, place, lambda t: blocked.Blocked(t, 3, CHAINS, in_place.update))


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=() if "1e38" in place else pytest.mark.exhaustive)
        for place in PLACES
    ],
)
def test_it_is_found_in_the_last_block_of_a_long_row(place, monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK", 1 << 14)
    for kernel in (slt.SGLD(SIZE, metric=slt.RMSProp()), slt.SGHMC(SIZE)):
        target = potential(place, LONG + 40, 1, ["w"])
        check(kernel, target, place, None)


@pytest.mark.parametrize("metric", [slt.Identity(), slt.RMSProp(adapt="burnin")])
@pytest.mark.parametrize("place", list(PLACES)[:5])
def test_mala_rejects_a_proposal_that_is_not_finite_and_stops_at_a_start_that_is_not(place, metric):
    kernel, target = slt.MALA(1e-3, metric=metric), potential(place, 37, 3)
    make = lambda t: Reference(t, 3, CHAINS)
    clean, later = (steps(kernel, target, make, at) for at in (None, (STEP, BAD)))
    assert not any(s.status.any() for s in later)
    assert float(later[STEP].accept[BAD]) == 0
    assert torch.equal(later[STEP].state[0][BAD], later[STEP - 1].state[0][BAD])
    assert not torch.equal(later[STEP + 1].state[0][BAD], later[STEP].state[0][BAD])
    first = steps(kernel, target, make, (0, BAD))
    cause = expected(slt.SGLD(SIZE), place)[1]
    assert [int(s.status[BAD]) for s in first] == [cause] * COUNT
    for one, other in zip(first, clean, strict=True):
        assert all(torch.equal(a[::2], b[::2]) for a, b in zip(one.state, other.state, strict=True))


def test_weights_that_are_infinite_are_found():
    target = potential("the loss is NaN", 37, 3)
    target.center[5] = torch.inf
    for kernel in (slt.SGLD(SIZE), slt.SGHMC(SIZE), slt.SGNHT(SIZE), slt.MALA(SIZE)):
        first = steps(replace(kernel), target, lambda t: Reference(t, 3, CHAINS), None)[0]
        assert first.status.tolist() == [names.STATUS_LOSS] * 3


def test_a_reader_of_a_step_may_stop_a_chain():
    kernel, target = slt.SGLD(SIZE), potential("the loss is NaN", 37, 3)
    state = kernel.init(target.center.expand(3, -1).clone())
    batch = {"x": torch.arange(4.0), "flag": torch.zeros(4, dtype=torch.bool)}
    seen = []
    for step in sampler_steps(
        kernel, target, state, seed=0, chains=CHAINS, first=0, last=4,
        status=torch.zeros(3, dtype=torch.int8),
        batches=lambda i: ([batch] * 3, torch.full((3,), 4)),
    ):  # fmt: skip
        if step.index == 1:
            step.status[0] = names.STATUS_PROBE
        seen.append(step.state.position.clone())
    assert step.status.tolist() == [names.STATUS_PROBE, 0, 0]
    assert torch.equal(seen[3][0], seen[1][0]) and not torch.equal(seen[3][1], seen[1][1])
