"""Unembedding and cross-entropy together, against the two apart."""

import pytest
import torch
from torch.nn import functional as F

from slt_notebook.models.losses import chunked_cross_entropy as linear_ce
from slt_notebook.models.losses.chunked_cross_entropy import LinearCrossEntropy


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def case(request, monkeypatch):
    monkeypatch.setattr(linear_ce, "CHUNK_BYTES", 1)
    monkeypatch.setattr(linear_ce, "MIN_ROWS", 7)  # 30 rows in uneven chunks
    g = torch.Generator().manual_seed(0)
    rand = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64).requires_grad_()
    hidden, weight = rand(30, 5), rand(11, 5)
    bias = rand(11) if request.param else None
    targets = torch.randint(0, 11, (30,), generator=g)
    counted = torch.rand(30, generator=g) > 0.3
    return hidden, weight, bias, targets, counted


def both(case, reduce):
    hidden, weight, bias, targets, counted = case
    leaves = [t for t in (hidden, weight, bias) if t is not None]
    plain = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="none")
    one = torch.autograd.grad(reduce(plain), leaves)
    for ahead in (True, False):  # the ways of a CPU and of a GPU
        fused = LinearCrossEntropy.apply(hidden, weight, bias, targets, counted, ahead)
        torch.testing.assert_close(fused.double(), plain, rtol=1e-6, atol=1e-6)
        two = torch.autograd.grad(reduce(fused.double()), leaves)
        for a, b in zip(one, two, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_mean_over_the_counted(case):
    counted = case[-1]
    both(case, lambda loss: loss[counted].mean())


def test_marking_padding_as_nan(case):
    counted = case[-1]
    both(case, lambda loss: torch.where(counted, loss, torch.nan).nansum() / counted.sum() * 3)


def test_any_other_weighting_is_right_too(case):
    weights = torch.linspace(-1, 2, 30, dtype=torch.float64)
    both(case, lambda loss: (loss * weights).sum())
    both(case, lambda loss: loss.sum())  # rows that do not count, counted after all


def test_nothing_counts(case):
    hidden, weight, bias, targets, counted = case
    fused = LinearCrossEntropy.apply(hidden, weight, bias, targets, counted & False)
    (grad,) = torch.autograd.grad((fused * 0).sum(), hidden)
    assert not grad.any()


def test_a_weight_that_stands_still_gets_no_gradient(case):
    hidden, weight, bias, targets, counted = case
    still = [None if t is None else t.detach() for t in (weight, bias)]
    losses = LinearCrossEntropy.apply(hidden, *still, targets, counted)
    whole = LinearCrossEntropy.apply(hidden, weight, bias, targets, counted)
    assert [t is None for t in losses.grad_fn.ready] == [False, True, True]
    (alone,) = torch.autograd.grad(losses[counted].mean(), [hidden])
    (among,) = torch.autograd.grad(whole[counted].mean(), [hidden])
    assert torch.equal(alone, among)


def test_a_second_backward_pass_through_one_graph_is_right_too(case):
    hidden, weight, bias, targets, counted = case
    loss = LinearCrossEntropy.apply(hidden, weight, bias, targets, counted)[counted].mean()
    first = torch.autograd.grad(loss, [hidden, weight], retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, [hidden, weight]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
