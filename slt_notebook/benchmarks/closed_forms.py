"""Small problems whose answer is exact at every temperature, by quadrature or algebra.

A sampler estimates `nbeta (E[L] - L(w*))` at *its* nbeta and gamma, which approaches the learning
coefficient only slowly (with log log corrections where the multiplicity is above 1).  A test of a
sampler must therefore compare with the value at the same nbeta and gamma, which these problems
give as `problem.exact(nbeta, gamma)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from slt_notebook.benchmarks.problem import Problem
from slt_notebook.errors import InputError, say
from slt_notebook.models.losses.function import loss_fn
from slt_notebook.models.probes import array_probe

_TAIL = 80.0  # exponents beyond this count as nothing


def monomial(powers: Sequence[int]) -> Problem:
    """`L(w) = 1/2 sum_i w_i^{p_i}` at 0: learning coefficient `sum_i 1 / p_i`.

    Args:
        powers: even numbers, 2 or more each.

    Raises:
        InputError: no powers, or one that is not even and positive.

    References: Watanabe 2009, Algebraic Geometry and Statistical Learning Theory.
    """
    powers = tuple(int(p) for p in powers)
    if not powers or any(p < 2 or p % 2 for p in powers):
        raise InputError(say(f"powers={powers}", "even numbers, 2 or more", "pass [4, 2]"))

    def value(nbeta: float, gamma: float) -> float:
        return sum(_one(p, nbeta, gamma) for p in powers)

    exponents = torch.tensor(powers, dtype=torch.float32)
    even = exponents / 2  # w^p as (w^2)^(p/2): pow of a negative number is NaN

    def function(params, batch):
        w2 = params["w"].square()
        parts = [w2[i] ** int(even[i]) for i in range(len(powers))]
        return torch.stack(parts).sum()[None] / 2 + 0 * batch["inputs"]

    return _population(
        f"monomial {list(powers)}", np.zeros(len(powers)), function,
        learning_coefficient=sum(1 / p for p in powers), multiplicity=1, value=value,
        why="each coordinate is one-dimensional, where lambda = 1 / power",
        details={"powers": powers},
    )  # fmt: skip


def _one(power: int, nbeta: float, gamma: float) -> float:
    """`nbeta E[w^p / 2]` under `exp(-nbeta w^p / 2 - gamma w^2 / 2)`."""
    _need(nbeta > 0, "nbeta", nbeta)
    high = 1.5 * (2 * _TAIL / nbeta) ** (1 / power)
    if gamma > 0:
        high = min(high, math.sqrt(2 * _TAIL / gamma))
    # In t = log w the integrand is analytic and falls at both ends: the trapezoid rule converges
    # faster than any power of the spacing.
    w = np.exp(np.linspace(math.log(high) - 40, math.log(high), 8001))
    k = w**power / 2
    weight = w * np.exp(-nbeta * k - gamma * w**2 / 2)
    return float(nbeta * (k * weight).sum() / weight.sum())


def normal_crossing(a: int, b: int) -> Problem:
    """`L(w) = w_1^{2a} w_2^{2b}` at 0: lambda `1 / (2 max(a, b))`, multiplicity 2 iff a = b.

    Needs gamma > 0: without it the posterior of the unbounded plane has no finite mass.

    Args:
        a: half the power of w_1, at least 1.
        b: half the power of w_2, at least 1.

    Raises:
        InputError: other exponents.

    References: Watanabe 2009, Algebraic Geometry and Statistical Learning Theory.
    """
    if min(a, b) < 1 or int(a) != a or int(b) != b:
        raise InputError(say(f"a={a}, b={b}", "whole numbers, 1 or more", "pass 1, 2"))
    a, b = int(a), int(b)

    def value(nbeta: float, gamma: float) -> float:
        _need(gamma > 0, "gamma", gamma)
        high = math.log(math.sqrt(2 * _TAIL / gamma))
        w = np.exp(np.linspace(high - 30, high, 1501))
        k = w[:, None] ** (2 * a) * w[None] ** (2 * b)
        own = w * np.exp(-gamma * w**2 / 2)
        weight = own[:, None] * own[None] * np.exp(-np.minimum(nbeta * k, 700))
        return float(nbeta * (k * weight).sum() / weight.sum())

    def function(params, batch):
        w2 = params["w"].square()
        return (w2[0] ** a * w2[1] ** b)[None] + 0 * batch["inputs"]

    return _population(
        f"normal crossing ({a}, {b})", np.zeros(2), function,
        learning_coefficient=1 / (2 * max(a, b)), multiplicity=2 if a == b else 1, value=value,
        why="already in normal crossing form", details={"a": a, "b": b},
    )  # fmt: skip


def line_and_dot(at: str = "dot") -> Problem:
    """`L(w) = 2 (w_1 - 1)^2 (w_1^2 + w_2^2)^4`: zero on a line and at a more degenerate dot.

    At the dot (the origin) lambda is 1/4, on the line (w* = (1, 0)) it is 1/2: two solutions of one
    loss with different coefficients.  The exact value integrates over the whole plane, so gamma
    must be large enough that a chain at one of them would not have to visit the other.

    Args:
        at: `"dot"` or `"line"`.

    Raises:
        InputError: another place; later, gamma = 0.
    """
    if at not in ("dot", "line"):
        raise InputError(say(f"at={at!r}", "'dot' or 'line'", "choose one of the two"))
    center = (0.0, 0.0) if at == "dot" else (1.0, 0.0)

    def value(nbeta: float, gamma: float) -> float:
        _need(gamma > 0, "gamma", gamma)
        half = min(math.sqrt(2 * _TAIL / gamma), 4.0)
        x = np.linspace(-half, half, 3001) + center[0]
        y = np.linspace(0, half, 1501)  # symmetric in y
        r2 = x[:, None] ** 2 + y[None] ** 2
        k = 2 * (x[:, None] - 1) ** 2 * r2**4
        energy = nbeta * k + gamma / 2 * ((x[:, None] - center[0]) ** 2 + y[None] ** 2)
        weight = np.exp(-(energy - energy.min()))
        weight[:, 0] /= 2
        return float(nbeta * (k * weight).sum() / weight.sum())

    def function(params, batch):
        w = params["w"]
        loss = 2 * (w[0] - 1).square() * w.square().sum() ** 4
        return loss[None] + 0 * batch["inputs"]

    return _population(
        f"line and dot, at the {at}", np.array(center), function,
        learning_coefficient=0.25 if at == "dot" else 0.5, multiplicity=1, value=value,
        why="homogeneous of degree 8 in two dimensions at the dot; a square across the line",
        details={"at": at},
    )  # fmt: skip


def cubic_mean(mean: float = 0.0) -> Problem:
    """`p(x | mu) = N(mu^3, 1)` with the truth at `mean`: `L(mu) = (mu^3 - mean^3)^2 / 2`.

    At mean 0 lambda is 1/6 and anywhere else 1/2; near 0 the value at finite nbeta looks like 1/6
    until `nbeta mean^6` is large, and like 1/2 after it.

    Raises:
        InputError: a mean that is not finite.

    References: Lehalleur et al. 2025 (arXiv:2502.05475).
    """
    _need(math.isfinite(mean), "a finite mean, got mean", mean)
    mean = float(mean)

    def value(nbeta: float, gamma: float) -> float:
        _need(nbeta > 0, "nbeta", nbeta)
        # mu^3 within `reach` of mean^3 holds all of the mass; in t = cbrt the loss is a polynomial.
        reach = math.sqrt(2 * _TAIL / nbeta)
        low, high = np.cbrt(mean**3 - reach), np.cbrt(mean**3 + reach)
        if gamma > 0:
            half = math.sqrt(2 * _TAIL / gamma)
            low, high = max(low, mean - half), min(high, mean + half)
        mu = np.linspace(low, high, 200_001)
        k = (mu**3 - mean**3) ** 2 / 2
        weight = np.exp(-nbeta * k - gamma / 2 * (mu - mean) ** 2)
        return float(nbeta * (k * weight).sum() / weight.sum())

    def function(params, batch):
        return (params["w"][0] ** 3 - mean**3).square()[None] / 2 + 0 * batch["inputs"]

    return _population(
        f"cubic mean at {mean:g}", np.array([mean]), function,
        learning_coefficient=1 / 6 if mean == 0 else 0.5, multiplicity=1, value=value,
        why="mu^6 / 2 at 0; elsewhere mu -> mu^3 is invertible", details={"mean": mean},
    )  # fmt: skip


def linear_gaussian(
    features: int = 8, examples: int = 200, noise: float = 0.5, seed: int = 0
) -> Problem:
    """Linear regression with squared loss at its minimum: a regular model, lambda = features / 2.

        L(w) = 1/(2 n) sum_i (y_i - x_i w)^2,
        nbeta (E[L] - L*) = 1/2 sum_i nbeta h_i / (nbeta h_i + gamma),   h the spectrum of X'X / n

    Features have standard deviations from 0.5 to 1.5.

    Raises:
        InputError: fewer examples than features.
    """
    if features < 1 or examples < features:
        raise InputError(
            say(
                f"{examples} examples of {features} features",
                "examples >= features >= 1",
                "pass more examples",
            )
        )
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((examples, features)) * np.geomspace(0.5, 1.5, features)
    y = x @ rng.standard_normal(features) + noise * rng.standard_normal(examples)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    spectrum = np.linalg.eigvalsh(x.T @ x / examples)

    def value(nbeta: float, gamma: float) -> float:
        return float((nbeta * spectrum / (nbeta * spectrum + gamma)).sum() / 2)

    def function(params, batch):
        return (batch["inputs"] @ params["w"] - batch["targets"]).square() / 2

    return Problem(
        f"linear regression, {features} features", loss_fn({"w": torch.tensor(best)}, function),
        array_probe("train", x, y), features, features / 2, 1, True,
        "the Hessian has full rank", value, {"features": features, "examples": examples},
    )  # fmt: skip


def _population(name, center, function, **rest) -> Problem:
    """Return a problem whose loss needs no data: its one example represents the population."""
    data = array_probe("population", np.zeros(1), np.zeros(1))
    loss = loss_fn({"w": torch.tensor(center)}, function)
    return Problem(name, loss, data, len(center), certified=True, **rest)


def _need(good: bool, name: str, value: float) -> None:
    if not good:
        raise InputError(
            say(
                f"{name}={value}",
                f"{name} > 0, without which the posterior is not normalizable",
                f"pass {name}=1.0",
            )
        )
