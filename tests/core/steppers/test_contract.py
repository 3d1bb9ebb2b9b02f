"""Every stepper, kernel and metric against the reference: one table.

On a CPU states, losses and statuses are bit-equal; sums over coordinates are taken in another order
and agree to float32 rounding.  The rows of the fused stepper, which agree for the same noise to
float32 rounding, are in `fused_cases.py`, which `test_fused.py` runs in a process of its own.
"""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.core.reductions import LONG, row_norms
from slt_notebook.core.steppers import blocked, in_place
from slt_notebook.core.steppers.block import kernel_update
from slt_notebook.core.steppers.choice import choose_stepper
from slt_notebook.core.steppers.reference import Reference
from tests.core.steppers.cases import (
    DIM,
    KERNELS,
    STEPPERS,
    metropolis_at,
    name_of,
    potential,
    reference,
    steps,
)

TABLE = [
    pytest.param(kernel, make, id=f"{stepper}-{name_of(kernel)}")
    for kernel in KERNELS
    for stepper, (supports, make) in STEPPERS.items()
    if supports(kernel)
]


@pytest.mark.parametrize(("kernel", "make"), TABLE)
def test_a_stepper_gives_the_numbers_of_the_reference(kernel, make):
    target = potential(DIM, 3)
    got = steps(kernel, target, 3, 4, accept_at=metropolis_at, stepper=make(target))
    for one, other in zip(got, reference(kernel), strict=True):
        for a, b in zip(one.state, other.state, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(one.loss, other.loss) and torch.equal(one.status, other.status)
        torch.testing.assert_close(one.virial, other.virial)
        torch.testing.assert_close(one.grad_norm, other.grad_norm)
        assert other.distance is None
        position = one.state[0]
        torch.testing.assert_close(one.distance, row_norms(position, target.center))
        if metropolis_at(one.index):
            torch.testing.assert_close(one.accept, other.accept)
            telling = (one.accept > 0) & (one.accept < 1)
            assert telling.any() or isinstance(kernel, slt.SGHMC)


@pytest.mark.parametrize("make", [make for _, make in STEPPERS.values()], ids=list(STEPPERS))
def test_a_chain_that_diverges_stays_where_it_was(make):
    kernel = slt.SGLD(1e-4, metric=slt.RMSProp())
    clean, poisoned = potential(DIM, 3), potential(DIM, 3, poison=100 + 4 * 2 + 1)
    good = steps(kernel, clean, 3, 4, stepper=make(clean))
    bad = steps(kernel, poisoned, 3, 4, stepper=make(poisoned))
    plain = steps(kernel, poisoned, 3, 4, stepper=Reference(poisoned, 3, (0, 1, 2)))
    assert [int(s.status[1]) for s in bad] == [names.STATUS_OK] * 2 + [names.STATUS_LOSS] * 2
    assert bad[3].loss[1].isnan() and bad[3].virial[1].isnan() and bad[3].grad_norm[1].isnan()
    for a, b, last in zip(bad[3].state, bad[1].state, good[3].state, strict=True):
        assert torch.equal(a[1], b[1])  # where it last was finite, metric included
        assert torch.equal(a[[0, 2]], last[[0, 2]])  # the others do not depend on it
    for one, other in zip(bad, plain, strict=True):
        assert torch.equal(one.status, other.status)
        for a, b in zip(one.state, other.state, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("value", [3e38, float("inf")])
@pytest.mark.parametrize("stepper", [None, *STEPPERS, "reference"])
def test_an_overflow_of_the_step_is_found(value, stepper):
    target = potential(DIM, 1)
    kernel = slt.SGLD(value if value < float("inf") else 1e-4)
    if value == float("inf"):
        target.base["w"][7] = 1e20  # its fourth power is not a float32
        target.center[7] = 1e20
    target = replace(target, gamma=torch.tensor([1e4]))
    made = {
        None: lambda: None,
        "reference": lambda: Reference(target, 3, (0,)),
        "blocked": lambda: blocked.Blocked(target, 3, (0,), kernel_update),
        "in place": lambda: blocked.Blocked(target, 3, (0,), in_place.update),
    }[stepper]()
    (step,) = steps(kernel, target, 1, 1, stepper=made)
    wanted = names.STATUS_POSITION if value < float("inf") else names.STATUS_LOSS
    assert int(step.status[0]) == wanted
    assert torch.equal(step.state[0][0], target.center + 0.01)


@pytest.mark.parametrize(
    ("kernel", "dim", "at_once", "ask", "expected"),
    [
        (slt.SGLD(), LONG, 1, True, in_place.update),
        (slt.SGLD(metric=slt.RMSProp()), LONG, 1, True, in_place.update),
        (slt.SGLD(metric=slt.Adam()), LONG, 1, True, kernel_update),
        (slt.SGHMC(), LONG, 1, True, kernel_update),
        (slt.SGLD(), LONG, 1, False, None),
        (slt.SGLD(), LONG, 2, True, None),
        (slt.SGLD(), LONG - 4, 1, True, None),
        (slt.SGNHT(), LONG, 1, True, None),
        (slt.MALA(), LONG, 1, True, None),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_choice_of_a_stepper(kernel, dim, at_once, ask, expected):
    target = potential(dim - 3, 2, at_once=at_once)
    chosen = choose_stepper(kernel, target, 0, (0, 1), ask)
    if expected is None:
        assert type(chosen) is Reference and chosen.ask == ask
    else:
        assert type(chosen) is blocked.Blocked and chosen.update is expected


def test_a_cpu_imports_nothing_from_the_files_of_the_gpu():
    code = """
import sys, numpy as np, torch
import slt_notebook as slt
for dim in (3, 70_000):
    loss = slt.loss_fn({"w": torch.ones(dim)}, lambda p, b: b["inputs"] * p["w"].square().mean())
    data = slt.array_probe("d", np.ones(8, "f"), np.ones(8, "f"))
    slt.sample(loss, data, draws=2, batch_size=4, chain_chunk=1, progress=False, device="cpu")
loaded = [m for m in sys.modules if m.startswith("slt_notebook.core.steppers.")]
assert "slt_notebook.core.steppers.blocked" in loaded, loaded
assert not {"fused", "triton_kernels"} & {m.rpartition(".")[2] for m in loaded}, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
