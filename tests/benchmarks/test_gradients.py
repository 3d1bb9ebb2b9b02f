"""The closed-form gradients of the networks are those of autograd."""

import dataclasses

import pytest
import torch

import slt_notebook as slt
from slt_notebook.core.chunking import Fit
from slt_notebook.core.potential import Potential
from slt_notebook.core.space import Space

B = slt.benchmarks


@pytest.mark.parametrize("examples", [None, 30])
@pytest.mark.parametrize("widths", [[4, 3, 6], [9, 4, 5, 2], [3, 5], [6, 6, 6]])
def test_closed_form_gradients(widths, examples):
    problem = B.network(widths, seed=2, examples=examples)
    loss, chains = problem.loss, 3
    space = Space.of(loss.params)
    center = space.flatten(loss.params)
    noise = torch.randn(chains, space.dim, generator=torch.Generator().manual_seed(0))
    position, one = center + 0.1 * noise, torch.ones(chains)
    batch = {k: v[:20] for k, v in problem.data.tensors("cpu").items()}
    plain = dataclasses.replace(loss, gradient=None)
    got, want = (
        Potential(of, space, loss.params, center, one, one, Fit(chains)).loss_and_grad(
            position, [batch] * chains
        )
        for of in (loss, plain)
    )
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-5 * float(b.abs().max()))


def test_a_component_falls_back_to_autograd():
    problem = B.network([4, 3, 6], seed=2)
    settings = {"kernel": slt.SGLD(1e-6), "nbeta": 100.0, "gamma": 1.0, "draws": 3, "chains": 2}
    run = slt.sample(
        problem.loss, problem.data, components="param:layers.0.*", batch_size=1, progress=False,
        **settings,
    )  # fmt: skip
    assert bool(run.tree["sampling"].loss.notnull().all())
