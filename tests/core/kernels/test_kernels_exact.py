"""Every kernel with every metric against linear algebra, quadrature and known laws."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.interpolate import RectBivariateSpline
from scipy.linalg import solve_discrete_lyapunov, sqrtm
from scipy.optimize import brentq

import slt_notebook as slt
from slt_notebook.core.types import Evaluation

STEP = 0.05
G = (0.3, 1.7, 0.9)
P = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, -0.7], [0.5, -0.7, 6.0]])
METRICS = {
    "identity": slt.Identity(),
    "fixed": slt.Fixed(G),
    "rmsprop": slt.RMSProp(adapt="burnin"),
    "adam": slt.Adam(adapt="burnin"),
}
KERNELS = {
    "SGLD": slt.SGLD(STEP),
    "SGHMC": slt.SGHMC(STEP, friction=0.2),
    "SGHMC, all renewed": slt.SGHMC(STEP, friction=1.0),
    "SGNHT, thermostat still": slt.SGNHT(STEP, friction=0.2, rate=1e-300),
}
PAIRS = [
    (k, m)
    for k in KERNELS
    for m in METRICS
    if m != "adam" or k == "SGLD"  # Adam is a drift of SGLD's
]


def evaluation(value, grad):
    ones = torch.ones(len(value), dtype=torch.int64)
    return Evaluation(value, grad, value, grad, ones)


def quadratic(precision):
    matrix = torch.tensor(precision)
    return lambda w: evaluation(((w @ matrix) * w).sum(1) / 2, w @ matrix)


def settled(kernel, metric):
    """The kernel with its metric held at the values that G names, and a state that says so."""
    kernel = dataclasses.replace(kernel, metric=metric.after_burnin())
    dim = len(G)
    state = kernel.init(torch.zeros(1, dim, dtype=torch.float64))
    inner = state.metric
    if inner != ():
        # 1 / (sqrt(v) + 0.1) = G, with counts so high that nothing is left to correct
        root = torch.tensor([[1 / g - 0.1 for g in G]], dtype=torch.float64)
        many = torch.full((1, 1), 1e6, dtype=torch.float64)
        inner = inner._replace(square=root**2, updates=many)
        if hasattr(inner, "square_updates"):
            inner = inner._replace(square_updates=many)
    scale = np.diag(np.ones(dim) if isinstance(metric, slt.Identity) else np.array(G))
    return kernel, state._replace(metric=inner), scale


def affine(kernel, state, evaluate):
    """(A, B) of one step on (position, momentum or running mean), read off from unit vectors."""
    dim = state.position.shape[1]
    parts = 1 + (hasattr(state, "momentum") or hasattr(state.metric, "mean"))

    def step(x, xi):
        x, xi = torch.tensor(x[None]), torch.tensor(xi[None])
        at = state._replace(position=x[:, :dim])
        if hasattr(state, "momentum"):
            at = at._replace(momentum=x[:, dim:])
        if hasattr(state.metric, "mean"):
            at = at._replace(metric=state.metric._replace(mean=x[:, dim:]))
        new = kernel.step(at, evaluate, xi)[0]
        second = getattr(new, "momentum", getattr(new.metric, "mean", None))
        both = (new.position,) if second is None else (new.position, second)
        return torch.cat(both, 1)[0].numpy()

    zero_x, zero_xi = np.zeros(parts * dim), np.zeros(dim)
    assert not step(zero_x, zero_xi).any()
    a = np.stack([step(e, zero_xi) for e in np.eye(parts * dim)], 1)
    b = np.stack([step(zero_x, e) for e in np.eye(dim)], 1)
    return a, b


def covariance(kernel, state, precision):
    a, b = affine(kernel, state, quadratic(precision))
    assert abs(np.linalg.eigvals(a)).max() < 1
    dim = len(precision)
    return solve_discrete_lyapunov(a, b @ b.T)[:dim, :dim]


def adam_by_hand(step, scale, precision, decay):
    """m' = b m + (1 - b) P w;  w' = w - step/2 G m' + sqrt(step G) xi."""
    eye, dim = np.eye(len(precision)), len(precision)
    mean = np.hstack([(1 - decay) * precision, decay * eye])
    place = np.hstack([eye, 0 * eye]) - step / 2 * scale @ mean
    noise = np.vstack([np.sqrt(step * scale), 0 * eye])
    return solve_discrete_lyapunov(np.vstack([place, mean]), noise @ noise.T)[:dim, :dim]


@pytest.mark.parametrize(("kernel", "metric"), PAIRS)
def test_stationary_covariance_on_a_correlated_quadratic(kernel, metric):
    moving, state, scale = settled(KERNELS[kernel], METRICS[metric])
    got = covariance(moving, state, P)
    root = np.real(sqrtm(scale))
    inner = root @ P @ root
    if metric == "adam":
        expected = adam_by_hand(STEP, scale, P, METRICS["adam"].mean_decay)
    elif kernel == "SGLD":
        expected = root @ np.linalg.inv(inner @ (np.eye(3) - STEP * inner / 4)) @ root
    else:
        expected = np.linalg.inv(P)  # BAOAB: exact on a quadratic at any stable step
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    # A step that ignored G would give the law of the identity, which is another one here.
    if metric != "identity" and kernel == "SGLD":
        plain = covariance(*settled(KERNELS[kernel], slt.Identity())[:2], P)
        assert abs(got - plain).max() > 1e-3


@pytest.mark.parametrize(("kernel", "metric"), PAIRS)
def test_free_variance_is_the_law_without_a_loss(kernel, metric):
    """At nbeta = 0 the potential is gamma/2 |w|^2, and its gradient is no loss gradient."""
    gamma = 8.0
    moving, state, scale = settled(KERNELS[kernel], METRICS[metric])

    def evaluate(w):
        zero = torch.zeros_like(w)
        value = gamma * w.square().sum(1) / 2
        return Evaluation(value, zero, value, gamma * w, torch.ones(1), torch.zeros(1, 1))

    a, b = affine(moving, state, evaluate)
    dim = len(G)
    got = np.diag(solve_discrete_lyapunov(a, b @ b.T))[:dim]
    column = torch.full((1, 1), gamma, dtype=torch.float64)
    stated = moving.free_variance(column, torch.tensor(np.diag(scale)[None]))
    np.testing.assert_allclose(np.broadcast_to(stated.numpy()[0], got.shape), got, rtol=1e-9)
    too_large = dataclasses.replace(moving, step_size=10.0)
    assert too_large.free_variance(column, torch.ones(1, 3, dtype=torch.float64)).isnan().all()


def test_the_limit_of_stability_is_the_same_for_all():
    for kernel in KERNELS.values():
        for step, stable in ((0.99, True), (1.01, False)):
            moving = dataclasses.replace(kernel, step_size=step)  # step * 4 < 4
            state = moving.init(torch.zeros(1, 1, dtype=torch.float64))
            a, _ = affine(moving, state, quadratic(np.array([[4.0]])))
            assert (abs(np.linalg.eigvals(a)).max() < 1) == stable


@pytest.mark.parametrize("metric", ["identity", "adam"])
def test_sgld_bias_is_of_first_order_on_a_quadratic(metric):
    biases = []
    for step in (4e-3, 2e-3, 1e-3):
        moving, state, _ = settled(slt.SGLD(step), METRICS[metric])
        biases.append(np.trace(covariance(moving, state, P) @ P) / 3 - 1)
    assert biases[0] / biases[1] == pytest.approx(2, abs=0.1)
    assert biases[1] / biases[2] == pytest.approx(2, abs=0.05)


def second_moment(kernel):
    """E w^2 under the kernel's own stationary law on U = 2 log cosh w, by quadrature: no sampling.

    Iterates the expectation operator of one step on a grid until w^2 has become a constant.
    """
    places, momenta = np.linspace(-9, 9, 91), np.linspace(-6, 6, 49)
    node, weight = np.polynomial.hermite_e.hermegauss(12)
    w, p, xi = np.meshgrid(places, momenta, node, indexing="ij")
    col = lambda a: torch.tensor(a.reshape(-1, 1))
    state = kernel.init(col(w))
    if hasattr(state, "momentum"):
        state = state._replace(momentum=col(p))
    tanh = lambda x: evaluation(2 * torch.log(torch.cosh(x))[:, 0], 2 * torch.tanh(x))
    new = kernel.step(state, tanh, col(xi))[0]
    to_w = new.position.numpy().ravel().clip(-9, 9)
    to_p = new.momentum.numpy().ravel().clip(-6, 6) if hasattr(new, "momentum") else p.ravel()
    f = np.repeat((places**2)[:, None], len(momenta), 1)
    for _ in range(300):
        spline = RectBivariateSpline(places, momenta, f)
        f = (spline.ev(to_w, to_p).reshape(w.shape) * (weight / weight.sum())).sum(-1)
        if np.ptp(f[30:60, 15:33]) < 3e-5:
            return f[45, 24]
    raise AssertionError("not stationary")


def test_order_of_the_step_size_bias_off_the_quadratic():
    exact = np.pi**2 / 12
    bias = lambda kernel: [
        second_moment(dataclasses.replace(kernel, step_size=s)) / exact - 1 for s in (0.4, 0.2)
    ]
    sgld, some, all_ = bias(slt.SGLD()), bias(slt.SGHMC(friction=0.5)), bias(slt.SGHMC(friction=1))
    assert sgld[0] / sgld[1] == pytest.approx(2, abs=0.25)  # first order
    assert some[0] / some[1] > 1.8  # at least first order in step_size: second in the time step
    assert all_[0] / all_[1] == pytest.approx(4, abs=0.6)  # Leimkuhler and Matthews: second
    assert max(abs(some[1]), abs(all_[1])) < abs(sgld[1]) / 20


def noisy_quadratic(curvature, sd, generator):
    def evaluate(w):
        grad = curvature * w
        noise = sd * torch.randn(w.shape, generator=generator, dtype=w.dtype)
        return evaluation((curvature * w.square()).sum(1) / 2, grad + noise)

    return evaluate


def variance_under_drag(step, curvature, sd, drag, power):
    """Exact variances (w, p before renewal, p after) of a BAOAB step with gradient noise."""
    h = np.sqrt(step)
    keep, kick = np.exp(-drag), np.sqrt(power * (1 - np.exp(-2 * drag)) / drag)
    first = np.array([-h * curvature, 1.0])  # p after the kick, from (w, p); noise -h sd
    b = np.array([[1.0, 0.0], [0.0, 0.0]])
    a = b + np.outer([h / 2 * (1 + keep), keep], first)
    noise = np.array([[h / 2 * (1 + keep), h / 2], [keep, 1.0]]) @ np.diag([h * sd, kick])
    law = solve_discrete_lyapunov(a, noise @ noise.T)
    return law[0, 0], first @ law @ first + (h * sd) ** 2, law[1, 1]


def test_thermostat_takes_added_gradient_noise_away():
    """Equal curvature and noise in 1000 coordinates: z stands where the mean kinetic energy is 1,
    and there the variance of w is linear algebra.  SGHMC under the same noise is far too hot."""
    step, curvature, sd, dim, chains, power = 0.04, 5.0, 4.0, 1000, 8, -np.log1p(-0.1)
    energy = lambda z: sum(variance_under_drag(step, curvature, sd, z, power)[1:]) / 2 - 1
    drag = brentq(energy, power / 10, 50 * power)
    cooled = variance_under_drag(step, curvature, sd, drag, power)[0]
    hot = variance_under_drag(step, curvature, sd, power, power)[0]
    assert hot * curvature > 2.5 and abs(cooled * curvature - 1) < 0.2
    generator = torch.Generator().manual_seed(0)
    evaluate = noisy_quadratic(curvature, sd, generator)
    got = {}
    for kernel in (slt.SGNHT(step, friction=0.1), slt.SGHMC(step, friction=0.1)):
        state = kernel.init(torch.zeros(chains, dim, dtype=torch.float64))
        squares = []
        for t in range(900):
            xi = torch.randn(chains, dim, generator=generator, dtype=torch.float64)
            state, _ = kernel.step(state, evaluate, xi)
            if t >= 500:
                squares.append(state.position.square().mean().item())
        got[type(kernel)] = np.mean(squares)
        if isinstance(kernel, slt.SGNHT):
            assert state.drag.mean().item() == pytest.approx(drag, rel=0.05)
    # 8000 coordinates, correlated over some 20 steps: 400 steps are worth 20 draws of each.
    error = np.sqrt(2 / (8000 * 20))
    assert got[slt.SGNHT] == pytest.approx(cooled, rel=5 * error + 0.002)
    assert got[slt.SGHMC] == pytest.approx(hot, rel=5 * error + 0.002)


def test_thermostat_of_few_coordinates_leaves_the_law_without_a_loss():
    gamma, step, dim, chains = 2.0, 0.2, 2, 800
    kernel, generator = slt.SGNHT(step, friction=0.3), torch.Generator().manual_seed(1)
    state = kernel.init(torch.zeros(chains, dim))
    evaluate = quadratic(gamma * np.eye(dim, dtype=np.float32))
    squares = []
    for t in range(400):
        xi = torch.randn(chains, dim, generator=generator)
        state, _ = kernel.step(state, evaluate, xi)
        if t >= 100:
            squares.append(state.position.square().mean().item())
    stated = kernel.free_variance(torch.full((1, 1), gamma), torch.ones(1, 1)).item()
    assert stated == 1 / gamma
    # 300 steps of 1600 coordinates that forget in about 8 steps
    error = np.sqrt(2 / (1600 * 300 / 8))
    assert np.mean(squares) == pytest.approx(stated, rel=4 * error + kernel.rate * step * gamma)


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [
        (slt.SGLD(0.02), 0.02),
        (slt.SGLD(0.04, slt.Fixed(0.5)), 0.02),
        (slt.SGLD(0.02, slt.Adam(decay=0.9, eps=1.0)), 0.2),  # delayed drift, adapting metric
        (slt.SGHMC(0.1, friction=0.4), 0.005),
        (slt.SGNHT(0.1, friction=0.4), 0.01),
        (slt.MALA(1.0), 0.0),
        (slt.MALA(2.0, slt.Fixed(0.7)), 0.0),
    ],
    ids=str,
)
def test_samples_an_asymmetric_target(kernel, bias):
    """U = exp(w) - w (a Gumbel law): mean -Euler, variance pi^2/6.  A sign error cannot hide."""
    chains = 800 if isinstance(kernel, slt.SGNHT) else 4000  # its thermostats go row by row
    generator = torch.Generator().manual_seed(0)
    evaluate = lambda w: evaluation((w.exp() - w)[:, 0], w.exp() - 1)
    state = kernel.init(torch.zeros(chains, 1))
    for _ in range(60 if isinstance(kernel, slt.MALA) else 700):
        noise = (torch.randn(chains, 1, generator=generator),)
        if kernel.uniforms:
            noise += (torch.rand(chains, generator=generator, dtype=torch.float64),)
        state, _ = kernel.step(state, evaluate, *noise)
    final = state.position.double()
    # exp(-U) = exp(w - e^w): -w is Gumbel, so E w = -0.5772 and Var w = pi^2 / 6.  The chains are
    # independent, so their mean has the standard error below; the step adds a bias of its order.
    error = (np.pi / 6**0.5) / chains**0.5
    assert abs(final.mean().item() + 0.577216) < 4 * error + bias
    spread = np.pi**2 / 6 * (4.4 / chains) ** 0.5  # kurtosis of the Gumbel law: 5.4
    assert abs(final.var().item() - np.pi**2 / 6) < 4 * spread + bias * np.pi**2 / 6


def test_mala_is_exact_where_sgld_is_not():
    """At a step where SGLD is 67 % too wide, the quantiles of MALA are those of the normal law."""
    step, chains = 1.6, 20_000
    generator = torch.Generator().manual_seed(3)
    evaluate = quadratic(np.array([[1.0]], dtype=np.float32))
    assert 1 / (1 - step / 4) > 1.66
    kernel = slt.MALA(step)
    state, accepted = kernel.init(torch.zeros(chains, 1)), []
    for _ in range(40):
        xi = torch.randn(chains, 1, generator=generator)
        u = torch.rand(chains, generator=generator, dtype=torch.float64)
        old = state.position
        state, info = kernel.step(state, evaluate, xi, u)
        accepted.append((info.accept.mean().item(), (state.position != old).float().mean().item()))
    w = state.position[:, 0].double()
    for z in (-2.0, -1.0, 0.0, 0.5, 1.5):
        share = torch.special.ndtr(torch.tensor(z)).item()
        error = (share * (1 - share) / chains) ** 0.5
        assert (w < z).double().mean().item() == pytest.approx(share, abs=4 * error)
    stated, moved = np.mean(accepted, 0)
    error = 0.5 / (40 * chains) ** 0.5
    assert 0.5 < stated < 0.95 and moved == pytest.approx(stated, abs=4 * error)


def test_mala_rejects_what_is_not_finite_and_asks_for_one_gradient_a_step():
    calls = []

    def evaluate(w):  # a loss that exists on w > 0 alone
        calls.append(len(w))
        value = (w - w.log())[:, 0]
        return evaluation(value, 1 - 1 / w)

    kernel, generator = slt.MALA(0.5), torch.Generator().manual_seed(0)
    state = kernel.init(torch.ones(500, 1))
    for _ in range(50):
        xi = torch.randn(500, 1, generator=generator)
        state, info = kernel.step(state, evaluate, xi, torch.rand(500, generator=generator))
        assert info.loss.isfinite().all() and (state.position > 0).all()
    assert len(calls) == 51
    # exp(-U) = w exp(-w): a Gamma(2) law, mean 2 and variance 2
    assert state.position.mean().item() == pytest.approx(2, abs=4 * (2 / 500) ** 0.5 + 0.1)


def test_shadow_acceptance_is_the_energy_error_of_the_deterministic_parts():
    """With nothing renewed (friction near 0) the step is a leapfrog step and W its energy error."""
    h, seen = np.sqrt(0.3), []
    kernel, evaluate = slt.SGHMC(0.3, friction=1e-12), quadratic(np.array([[2.0]]))
    for q, p in ((0.7, 0.4), (0.7, -1.4), (-0.1, 2.0)):
        w = torch.tensor([[q]], dtype=torch.float64)
        state = kernel.init(w)._replace(momentum=torch.full_like(w, p))
        new, info = kernel.step(state, evaluate, torch.zeros_like(w))
        got = kernel.acceptance(state, new, info.scale, evaluate(w), evaluate(new.position)).item()
        v = p - h / 2 * 2 * q  # velocity Verlet from the momentum at the whole step
        start = q**2 + v**2 / 2
        v = v - h / 2 * 2 * q
        q = q + h * v
        v = v - h / 2 * 2 * q
        assert new.position.item() == pytest.approx(q)
        assert got == pytest.approx(min(1, np.exp(start - q**2 - v**2 / 2)), abs=1e-6)
        seen.append(got)
    assert min(seen) < 0.95 and max(seen) == 1
