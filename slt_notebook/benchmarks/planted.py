"""Deep linear networks with a known learning coefficient.

The truth is a network of the same architecture and w* its own weights, so L(w*) = 0.  Layers of
random rank make the truth degenerate (Lau et al. 2023, appendix J; Hitchcock and Hoogland 2025).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from slt_notebook.benchmarks import dln
from slt_notebook.benchmarks.problem import Problem
from slt_notebook.errors import InputError, say
from slt_notebook.models.losses.function import loss_fn
from slt_notebook.models.probes import array_probe

SIZES = {
    "1k": ((2, 5), (5, 50)),
    "10k": ((2, 10), (5, 100)),
    "100k": ((2, 10), (50, 500)),
    "1M": ((5, 20), (100, 1000)),
    "10M": ((2, 20), (500, 2000)),
    "100M": ((2, 40), (500, 3000)),
}
"""Size class to (range of layers, range of widths), ends included (Lau et al. 2023, appendix J)."""

RANGE = 10.0
"""Inputs are uniform in [-RANGE, RANGE]."""


def network(
    widths: Sequence[int],
    ranks: Sequence[int] | None = None,
    *,
    seed: int = 0,
    examples: int | None = None,
    name: str | None = None,
) -> Problem:
    """Return a deep linear network at its own truth.

        L(w) = (1 / H_L) E |W_L ... W_1 x - A_0 x|^2 = tr (A - A_0) S (A - A_0)' / H_L

    with inputs uniform in [-10, 10] and `S = E x x'`.  Without `examples` it is the population's
    loss: two matrix products, no data, exact gradients.

    Args:
        widths: `H_0, ..., H_L`.
        ranks: of each layer; full by default.  Weights are Gaussian of variance
            `2 / (H_{l-1} + H_l)` with their smallest singular values set to 0.
        seed: of weights and inputs.
        examples: draw so many inputs and use them as data, for batches; None is the population.
        name: for tables.

    Returns:
        A problem whose `learning_coefficient` is the one at w* where `dln.certificate` proves it
        (`rho / 2` at smooth points, whether or not it is the least of the whole space), else the
        formula's; `certified` where both agree.

    Raises:
        InputError: impossible widths or ranks.
    """
    full = [min(a, b) for a, b in itertools.pairwise(widths)]
    ranks = full if ranks is None else [int(k) for k in ranks]
    proof = dln.certificate(widths, ranks)
    rng = np.random.default_rng([seed, 1])
    shapes = [(b, a) for a, b in itertools.pairwise(widths)]
    weights = [_layer(rng, shape, k) for shape, k in zip(shapes, ranks, strict=True)]
    label = name or f"network {'-'.join(map(str, widths))}, ranks {ranks}"
    return from_weights(weights, proof, name=label, seed=seed, examples=examples, ranks=ranks)


def networks(
    size: str = "1k",
    count: int = 10,
    *,
    seed: int = 0,
    certified: bool | None = None,
    examples: int | None = None,
) -> list[Problem]:
    """Random networks of a size class.

    Depth and widths are uniform in the ranges of `SIZES`; each layer with probability 1/2 gets a
    random rank, uniform from 0 to full.

    Args:
        size: a key of `SIZES`.
        count: how many.
        seed: network i depends on (size, seed, i) alone, so that a longer list begins with the
            shorter one.
        certified: keep those that are (True) or are not (False); None keeps all.
        examples: as in `network`.

    Raises:
        InputError: an unknown size.
    """
    if size not in SIZES:
        raise InputError(say(f"size={size!r}", f"one of {', '.join(SIZES)}", "pass '1k'"))
    depths, breadths = SIZES[size]
    out: list[Problem] = []
    for index in itertools.count():
        if len(out) == count:
            return out
        rng = np.random.default_rng([seed, list(SIZES).index(size), index])
        layers = int(rng.integers(depths[0], depths[1] + 1))
        widths = rng.integers(breadths[0], breadths[1] + 1, layers + 1).tolist()
        full = [min(a, b) for a, b in itertools.pairwise(widths)]
        ranks = [int(rng.integers(0, k + 1)) if rng.random() < 0.5 else k for k in full]
        if certified is None or dln.certificate(widths, ranks).certified == certified:
            name = f"{size}/{seed}/{index}"
            part = int(rng.integers(2**31))
            out.append(network(widths, ranks, seed=part, examples=examples, name=name))
    raise AssertionError("unreachable")


def reduced_rank(
    inputs: int, outputs: int, hidden: int, rank: int, *, seed: int = 0, examples: int | None = None
) -> Problem:
    """Reduced-rank regression: a network of one hidden layer, planted where it attains lambda.

    The columns of W_1 contain the kernel of W_2, so that the point lies on the largest part of the
    zero set; Aoyagi and Watanabe's coefficient is then the one at w*, and certified.

    Raises:
        InputError: an impossible rank.

    References: Aoyagi and Watanabe 2005, Neural Networks 18.
    """
    widths = [inputs, hidden, outputs]
    wanted, _ = dln.learning_coefficient(widths, rank)
    for first in range(rank, min(inputs, hidden) + 1):
        for second in range(rank, min(outputs, hidden + rank - first) + 1):
            proof = dln.certificate(widths, [first, second], {(0, 2): rank})
            if proof.certified:
                return _reduced(widths, rank, (first, second), proof, seed, examples)
    raise AssertionError(f"no point of {widths}, rank {rank} attains {wanted}")


def _reduced(widths, rank, ranks, proof, seed, examples) -> Problem:
    inputs, hidden, outputs = widths
    first, second = ranks
    rng = np.random.default_rng([seed, 2])
    basis = np.linalg.qr(rng.standard_normal((hidden, hidden)))[0]
    into = basis[:, :first]
    out_of = basis[:, [*range(rank), *range(first, first + second - rank)]]
    scale = 1 / np.sqrt((inputs + hidden) / 2), 1 / np.sqrt((hidden + outputs) / 2)
    weights = [
        scale[0] * into @ rng.standard_normal((first, inputs)),
        scale[1] * rng.standard_normal((outputs, second)) @ out_of.T,
    ]
    name = f"reduced rank {inputs}-{hidden}-{outputs}, rank {rank}"
    tensors = [torch.from_numpy(w) for w in weights]
    return from_weights(tensors, proof, name=name, seed=seed, examples=examples, ranks=list(ranks))


def from_weights(
    weights: Sequence[Tensor],
    proof: dln.Certificate,
    *,
    name: str,
    seed: int = 0,
    examples: int | None = None,
    ranks: Sequence[int] | None = None,
) -> Problem:
    """The problem of a network planted at `weights`, of which `proof` tells the coefficient."""
    weights = [w.float() for w in weights]
    widths = [weights[0].shape[1], *(w.shape[0] for w in weights)]
    params = {f"layers.{i}.weight": w for i, w in enumerate(weights)}
    truth = product(list(params.values()))
    outputs = widths[-1]
    names = list(params)
    if examples is None:
        data = array_probe("population", np.zeros(1), np.zeros(1))
        factor = RANGE**2 / 3 / outputs

        def function(params, batch):
            gap = product(list(params.values())) - truth.to(batch["inputs"].device)
            return factor * gap.square().sum()[None] + 0 * batch["inputs"]

        def gradient(params, batch):
            def by_product(out):
                gap = out - truth.to(out)
                return factor * gap.square().sum((1, 2)), 2 * factor * gap

            return _product_gradient(params, names, by_product)

    else:
        rng = np.random.default_rng([seed, 3])
        x = rng.uniform(-RANGE, RANGE, (examples, widths[0])).astype(np.float32)
        data = array_probe("train", x, np.zeros(examples, np.float32))

        def function(params, batch):
            gap = product(list(params.values())) - truth.to(batch["inputs"].device)
            return (batch["inputs"] @ gap.T).square().sum(-1) / outputs

        def gradient(params, batch):
            x = batch["inputs"]  # [chain, example, input]

            def by_product(out):
                miss = x @ (out - truth.to(out)).mT
                loss = miss.square().sum((1, 2)) / (outputs * x.shape[1])
                return loss, 2 / (outputs * x.shape[1]) * miss.mT @ x

            return _product_gradient(params, names, by_product)

    smooth = proof.smooth
    return Problem(
        name, loss_fn(params, function, gradient=gradient), data, sum(w.numel() for w in weights),
        proof.local if smooth else proof.learning_coefficient,
        1 if smooth else proof.multiplicity, proof.certified, _why(proof),
        None, {"widths": widths, "ranks": ranks, "certificate": proof},
    )  # fmt: skip


def spectrum(problem: Problem) -> Tensor:
    """Eigenvalues of the Hessian of a network's loss at w*, ascending; those that can be nonzero.

    They are those of `(2 s / H_L) sum_l (W_{>l} W_{>l}') x (W_{<l}' W_{<l})`, `s = 100 / 3`, a
    matrix of `(H_0 H_L)^2` numbers: meant for the class "1k".
    """
    weights = [w.double() for w in problem.loss.params.values()]
    widths = problem.details["widths"]
    eye = lambda n: torch.eye(n, dtype=torch.float64)
    total = torch.zeros(widths[0] * widths[-1], widths[0] * widths[-1], dtype=torch.float64)
    for layer in range(len(weights)):
        above = product([eye(widths[layer + 1]), *weights[layer + 1 :]])
        below = product([eye(widths[0]), *weights[:layer]])
        total += torch.kron(above @ above.T, below.T @ below)
    return torch.linalg.eigvalsh(total).clamp(min=0) * (2 * RANGE**2 / 3 / widths[-1])


def harmonic(problem: Problem, nbeta: float, gamma: float) -> float:
    """The LLC of the quadratic part of a network's loss, `1/2 sum nbeta h / (nbeta h + gamma)`.

    h is the `spectrum`.  At a smooth point it says how far a finite temperature and localization
    keep an estimate below lambda; the part of higher order, in which the fibre is curved, is left
    out.
    """
    h = spectrum(problem)
    return float((nbeta * h / (nbeta * h + gamma)).sum() / 2)


def product(weights: Sequence[Tensor]) -> Tensor:
    """`W_L ... W_1` of `[W_1, ..., W_L]`, from the narrower end."""
    if len(weights) == 1:
        return weights[0]
    if weights[0].shape[1] <= weights[-1].shape[0]:
        out = weights[0]
        for weight in weights[1:]:
            out = weight @ out
        return out
    out = weights[-1]
    for weight in reversed(weights[:-1]):
        out = out @ weight
    return out


def _product_gradient(params, names: list[str], by_product):
    """Loss and gradients of a function of `W_L ... W_1`, for chains `[chain, out, in]` at once.

    `by_product` gives the loss `[chain]` and its gradient by the product.  As in `product` the
    product is evaluated from its narrower end.
    """
    weights = [params[name] for name in names]
    turned = weights[0].shape[2] > weights[-1].shape[1]
    if turned:  # the same for the transposed product, W_1' ... W_L'
        weights = [w.mT for w in reversed(weights)]
    partial = [weights[0]]
    for weight in weights[1:]:
        partial.append(weight @ partial[-1])
    loss, slope = by_product(partial[-1].mT if turned else partial[-1])
    slope = slope.mT if turned else slope
    grads = []
    for layer in range(len(weights) - 1, 0, -1):
        grads.append(slope @ partial[layer - 1].mT)
        slope = weights[layer].mT @ slope
    grads.append(slope)
    grads.reverse()
    if turned:
        grads = [g.mT for g in reversed(grads)]
    return loss, dict(zip(names, grads, strict=True))


def _layer(rng: np.random.Generator, shape: tuple[int, int], rank: int) -> Tensor:
    values = rng.standard_normal(shape) * np.sqrt(2 / sum(shape))
    weight = torch.from_numpy(values)
    if rank == min(shape):
        return weight
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def _why(proof: dln.Certificate) -> str:
    half = f"half the rank of the Jacobian at w* is {proof.local:g}"
    formula = f"the formula for the whole space gives {proof.learning_coefficient:g}"
    if proof.certified:
        return f"smooth point; {half}, and {formula}"
    if proof.smooth:
        return f"smooth point: {half} and is the coefficient there; {formula}"
    return f"degenerate point: {half}, a lower bound only; {formula}"
