"""The closed forms of the hierarchy are those of training, and of the sampler.

python -m tests.toys.test_hierarchy      prints the figures of the README
"""

import sys

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.toys.hierarchy import ITEMS, Hierarchy, targets

OFF = ~np.eye(8, dtype=bool)


def pearson(a, b):
    return np.corrcoef(np.asarray(a)[:, OFF].ravel(), np.asarray(b)[:, OFF].ravel())[0, 1]


def peaks(found, item="dog", others=("cat", "sparrow", "rose")):
    """Step of the greatest (most harmful) influence of the item on each other one."""
    each = [found.sel(example=q, example_=item) for q in others]
    return [int(x.step.values[np.argmax(x.values)]) for x in each]


def test_the_tree_is_its_own_decomposition():
    u, s, v = Hierarchy().decomposition()
    np.testing.assert_allclose((u * s) @ v.T, targets(), atol=1e-12)
    np.testing.assert_allclose(u.T @ u, np.eye(8), atol=1e-12)
    np.testing.assert_allclose(s**2, [15, 7, 3, 3, 1, 1, 1, 1])


def test_modes_are_learned_as_the_formula_says():
    small = Hierarchy(lr=0.005, steps=12000, every=200)  # gradient flow
    u, s, v = small.decomposition()
    w1, w2 = small.train()
    g = np.einsum("ok,coi,ik->ck", u, w2[0] @ w1[0], v)
    np.testing.assert_allclose(g, small.strength(small.checkpoints[:, None], s), atol=0.01)
    slope = (small.strength(2000, s + 1e-6) - small.strength(2000, s - 1e-6)) / 2e-6
    np.testing.assert_allclose(small.strength(2000, s, slope=True), slope, rtol=1e-5)


def test_analytic_influence_is_the_derivative_of_training():
    h = Hierarchy()
    analytic, difference = h.analytic(), h.finite_difference()
    assert pearson(analytic, difference) >= 0.99
    # What is left is gradient descent against gradient flow: it shrinks with the step size.
    fine = Hierarchy(lr=0.0125, steps=4800, every=80)
    gap = [
        np.linalg.norm(a - b) / np.linalg.norm(b)
        for a, b in ((analytic, difference), (fine.analytic(), fine.finite_difference()))
    ]
    assert gap[1] < gap[0] / 3 and gap[1] < 0.012


def test_influence_turns_harmful_in_the_order_of_the_splits():
    h = Hierarchy()
    w1, w2 = h.train()
    for found in (h.analytic(), h.closed_form(w1[0], w2[0]), h.leave_one_out()):
        for q in ("cat", "sparrow", "rose"):
            x = found.sel(example=q, example_="dog").values
            first, then = np.argmin(x), np.argmax(x)
            assert x[first] < 0 < x[then] and first < then
        cat, sparrow, rose = peaks(found)
        assert cat > sparrow > rose


def test_a_window_matters_only_while_something_is_learned():
    found = Hierarchy().window("dog")
    assert float(found.sel(example="cat", start=100)) < -0.1
    assert float(found.sel(example="cat", start=300)) > 0.05
    assert np.abs(found.sel(start=slice(900, None), example=list(ITEMS[1:]))).max() < 1e-3


def sampled(chains=16, draws=300, every=6, gamma=1e4, step_size=1e-4, nbeta=100.0, init="aligned"):
    h = Hierarchy(init=init)
    w1, w2 = h.train()
    at = np.arange(0, len(h.checkpoints), every)
    loss, probe = h.posterior(w1[0], w2[0], at)
    run = slt.sample(
        loss, probe, probes=[probe], kernel=slt.SGLD(step_size), nbeta=nbeta * len(at),
        gamma=gamma, chains=chains, draws=draws, burnin=40, batch_size=len(probe), progress=False,
    )  # fmt: skip
    found = h.influence_of(slt.influence(run, unit="sequence"), at)
    return h, at, found, h.closed_form(w1[0], w2[0], step_size, gamma).isel(step=at)


def test_sampled_influence_is_the_closed_form_with_its_step():
    _, _, found, exact = sampled()
    a, b = found.influence.values[:, OFF].ravel(), exact.values[:, OFF].ravel()
    assert np.corrcoef(a, b)[0, 1] >= 0.99
    # The slope is 1 only with the step's exact factor, 1 / (1 - eps gamma / 4) = 1.33.
    slope = a @ b / (b @ b)
    error = np.sqrt((found.stderr.values[:, OFF].ravel() ** 2 * b**2).sum()) / (b @ b)
    assert abs(slope - 1) < 4 * error + 0.02 < 0.2
    assert abs(slope - 1 / 1.33) > 4 * error


def test_the_joint_posterior_of_checkpoints_is_their_product():
    """Checkpoints do not influence one another, beyond the noise."""
    h = Hierarchy()
    w1, w2 = h.train()
    loss, probe = h.posterior(w1[0], w2[0], np.array([0, 30]))
    batch = probe.tensors("cpu")
    joint = loss(loss.params, batch).numpy().reshape(2, 8)
    np.testing.assert_allclose(joint, h.losses(w1, w2)[0][[0, 30]], rtol=1e-5)
    assert probe.examples[8] == "items/8" and probe.labels[8] == "step600/dog"


def test_random_initialization_still_turns():
    with pytest.raises(slt.InputError, match="'aligned' or 'random'"):
        Hierarchy(init="orthogonal").train()
    h = Hierarchy(init="random", steps=2400)
    loss = h.losses(*h.train())[0]
    assert loss[-1].max() < 0.05 < loss[0].min()
    found = h.leave_one_out().sel(example="cat", example_="dog")
    assert float(found.min()) < -0.05 < 0.05 < float(found.max())


def figures():
    h = Hierarchy()
    analytic, loo = h.analytic(), h.leave_one_out()
    full = h.finite_difference(correlation_only=False)
    w1, w2 = h.train()
    closed = h.closed_form(w1[0], w2[0])
    rows = {
        "analytic, finite differences": (analytic, h.finite_difference()),
        "analytic, whole item reweighted": (analytic, full),
        "analytic, item left out": (analytic, loo),
        "closed form at strong gamma, analytic": (closed, analytic),
        "closed form at strong gamma, item left out": (closed, loo),
    }
    for name, (a, b) in rows.items():
        print(f"{name}: Pearson {pearson(a, b):.4f}")
    print(f"peaks of dog on cat, sparrow, rose: analytic {peaks(analytic)}, closed {peaks(closed)}")
    for init in ("aligned", "random"):
        h, at, found, exact = sampled(draws=400, every=3, init=init)
        a, b = found.influence.values, exact.values
        slope = (a[:, OFF] * b[:, OFF]).sum() / (b[:, OFF] ** 2).sum()
        print(f"{init}: sampled, closed form {pearson(a, b):.4f}, slope {slope:.3f}")
        if init == "aligned":
            print(f"peaks of dog on cat, sparrow, rose: sampled {peaks(found.influence)}")
        loo, full = h.leave_one_out(), h.finite_difference(correlation_only=False)
        for name, other in (("item left out", loo), ("whole item reweighted", full)):
            print(f"{init}: sampled, {name} {pearson(a, other.isel(step=at)):.3f}")


if __name__ == "__main__":
    sys.exit(figures())
