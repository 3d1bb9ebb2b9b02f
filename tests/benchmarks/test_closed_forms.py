"""Exact values against independent quadrature, and samplers against the exact values."""

import itertools

import numpy as np
import pytest
from scipy import integrate

import slt_notebook as slt
from slt_notebook.errors import InputError

B = slt.benchmarks
MONOMIALS = [(2,), (2, 2), (4,), (4, 2)]
CROSSINGS = [(1, 1), (1, 2), (2, 3)]


def mean_under(k, nbeta, gamma, half, center=(0.0, 0.0)):
    """nbeta E[k] by adaptive quadrature over a square, cut at the axes through 0 and the center."""
    prior = lambda x, y: gamma / 2 * ((x - center[0]) ** 2 + (y - center[1]) ** 2)
    weight = lambda y, x: np.exp(-nbeta * k(x, y) - prior(x, y))
    cuts = sorted({center[0] - half, 0.0, center[0], center[0] + half})
    total = lambda f: sum(
        integrate.dblquad(f, a, b, lo, hi, epsabs=1e-11, epsrel=1e-7)[0]
        for a, b in itertools.pairwise(cuts)
        for lo, hi in ((-half, 0.0), (0.0, half))
    )
    return nbeta * total(lambda y, x: k(x, y) * weight(y, x)) / total(weight)


@pytest.mark.parametrize("powers", MONOMIALS)
@pytest.mark.parametrize(("nbeta", "gamma"), [(30.0, 1.0), (144.8, 0.0), (5.0, 20.0)])
def test_monomial_values(powers, nbeta, gamma):
    each = []
    for p in powers:
        weight = lambda w, p=p: np.exp(-nbeta * w**p / 2 - gamma * w**2 / 2)
        top = lambda w, p=p, weight=weight: w**p / 2 * weight(w)
        over, under = (integrate.quad(f, 0, 4, points=[0.1, 0.5])[0] for f in (top, weight))
        each.append(nbeta * over / under)
    assert B.monomial(powers).exact(nbeta, gamma) == pytest.approx(sum(each), rel=1e-6)


@pytest.mark.parametrize("powers", MONOMIALS)
def test_monomials_without_localization_are_at_their_coefficient_at_any_temperature(powers):
    problem = B.monomial(powers)
    assert problem.learning_coefficient == sum(1 / p for p in powers)
    for nbeta in (3.0, 1e4):
        assert problem.exact(nbeta, 0.0) == pytest.approx(problem.learning_coefficient, rel=1e-9)


@pytest.mark.parametrize("powers", CROSSINGS)
def test_normal_crossing_values(powers):
    a, b = powers
    problem = B.normal_crossing(a, b)
    slow = mean_under(lambda x, y: x ** (2 * a) * y ** (2 * b), 30.0, 4.0, 4.0)
    assert problem.exact(30.0, 4.0) == pytest.approx(slow, rel=1e-5)
    # towards lambda from below, by log log terms where the multiplicity is 2
    values = [problem.exact(n, 1.0) for n in (1e2, 1e4, 1e8)]
    assert values == sorted(values) and values[-1] < problem.learning_coefficient
    assert values[-1] > 0.85 * problem.learning_coefficient
    assert problem.multiplicity == (2 if a == b else 1)


@pytest.mark.parametrize("at", ["dot", "line"])
def test_line_and_dot_values(at):
    problem, gamma = B.line_and_dot(at), 60.0
    k = lambda x, y: 2 * (x - 1) ** 2 * (x**2 + y**2) ** 4
    center = (0.0, 0.0) if at == "dot" else (1.0, 0.0)
    slow = mean_under(k, 300.0, gamma, 1.0, center)
    assert problem.exact(300.0, gamma) == pytest.approx(slow, rel=1e-4)
    if at == "line":
        assert problem.exact(1e5, gamma) == pytest.approx(0.5, rel=0.01)
    else:
        assert problem.exact(1e8, gamma) == pytest.approx(0.25, rel=0.15)  # slow: gamma


EASY = {  # problem -> (nbeta, gamma, step size)
    **{B.monomial(p): (144.8, 1.0, 0.03) for p in MONOMIALS},
    **{B.normal_crossing(*ab): (30.0, 2.0, 0.12) for ab in CROSSINGS},
    B.line_and_dot("dot"): (1000.0, 60.0, 0.02),
    B.line_and_dot("line"): (1000.0, 60.0, 0.0006),
    B.linear_gaussian(8, 40): (50.0, 2.0, 0.03),
}


SHOWN = ("monomial [4, 2]", "normal crossing (1, 1)", "line and dot, at the dot", "linear")


def one_of_each_kind():
    """The problems, those that repeat a kind in the exhaustive tier."""
    for problem in EASY:
        often = () if problem.name.startswith(SHOWN) else pytest.mark.exhaustive
        yield pytest.param(problem, marks=often, id=problem.name)


@pytest.mark.parametrize("problem", list(one_of_each_kind()))
def test_a_sampler_finds_the_exact_value_at_the_same_temperature(problem):
    nbeta, gamma, step = EASY[problem]
    size = len(problem.data)  # MALA: no bias of the step, so only Monte Carlo error is left
    run = slt.sample(
        problem.loss, problem.data, kernel=slt.MALA(step), nbeta=nbeta, gamma=gamma, chains=12,
        burnin=400, draws=1800, batch_size=size, progress=False,
    )  # fmt: skip
    found, expected = slt.llc(run.tree), problem.exact(nbeta, gamma)
    assert float(found["mcse"]) < 0.1 * expected
    assert abs(float(found["mean"]) - expected) < 4 * float(found["mcse"])


def test_what_has_no_posterior_is_refused():
    for bad in (
        lambda: B.monomial([3]),
        lambda: B.monomial([]),
        lambda: B.normal_crossing(0, 1),
        lambda: B.line_and_dot("plane"),
        lambda: B.linear_gaussian(10, 5),
        lambda: B.normal_crossing(1, 1).exact(30.0, 0.0),
        lambda: B.monomial([2]).exact(0.0, 1.0),
    ):
        with pytest.raises(InputError, match="What to do"):
            bad()


@pytest.mark.parametrize("mean", [0.0, 0.1, 0.5, 5.0])
@pytest.mark.parametrize(("nbeta", "gamma"), [(30.0, 1.0), (1e5, 0.0), (1e3, 20.0)])
def test_cubic_mean_values(mean, nbeta, gamma):
    loss = lambda mu: (mu**3 - mean**3) ** 2 / 2
    weight = lambda mu: np.exp(-nbeta * loss(mu) - gamma / 2 * (mu - mean) ** 2)
    near = np.geomspace(1e-5, 0.3, 10)
    cuts = sorted({-8.0, 0.0, mean, 8.0, *-near, *near, *(mean - near), *(mean + near)})
    pieces = list(itertools.pairwise(cuts))
    total = lambda f: sum(integrate.quad(f, a, b)[0] for a, b in pieces)
    expected = nbeta * total(lambda mu: loss(mu) * weight(mu)) / total(weight)
    assert B.cubic_mean(mean).exact(nbeta, gamma) == pytest.approx(expected, rel=1e-5)


def test_a_mean_near_zero_looks_singular_until_n_is_large():
    assert B.cubic_mean(0.0).exact(1e6, 0.0) == pytest.approx(1 / 6, rel=1e-4)
    assert B.cubic_mean(5.0).exact(1e6, 0.0) == pytest.approx(1 / 2, rel=1e-4)
    near = B.cubic_mean(0.1)
    assert near.exact(1e3, 0.0) == pytest.approx(1 / 6, rel=0.01)
    assert near.exact(1e10, 0.0) == pytest.approx(1 / 2, rel=0.01)
