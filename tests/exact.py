"""Exact answers: closed forms, finite step size included, and plain simulators.

numpy only: the torch side and the result side are both held to this file.  Everything is about
SGLD, `w' = w - eps/2 grad U(w) + sqrt(eps) xi`, on `U(w) = nbeta L(w) + gamma/2 |w - w*|^2`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from slt_notebook import names

# Quadratic losses, L(w) - L(w*) = 1/2 sum h_i (w_i - w*_i)^2 -------------------------------------


def stationary_variance(a, step_size=0.0):
    """Of SGLD on `U = a w^2 / 2`: the fixed point of `v = (1 - eps a/2)^2 v + eps`."""
    return 1 / (a * (1 - step_size * np.asarray(a, float) / 4))


def quadratic_llc(h, nbeta, gamma, step_size=0.0):
    """`nbeta (E L - L*) = sum nbeta h_i / (2 a_i) / (1 - eps a_i / 4)`, `a_i = nbeta h_i + gamma`.

    >>> round(float(quadratic_llc(np.full(6, 1.0), 30, 5)), 3)
    2.571
    """
    a = nbeta * np.asarray(h, float) + gamma
    return float(np.sum(nbeta * np.asarray(h) / 2 * stationary_variance(a, step_size)))


def mean_factor(rho, steps):
    """`N Var(mean of N) / Var` of a stationary AR(1) series of autocorrelation `rho^k`."""
    rho = np.asarray(rho, float)
    tail = rho * (1 - rho**steps) / (1 - rho)
    return 1 + 2 * (rho / (1 - rho) - tail / (steps * (1 - rho)))


def quadratic_llc_error(h, nbeta, gamma, step_size, steps, chains):
    """Standard error of the mean LLC over `chains` stationary chains of `steps` full-batch steps.

    Each w_i is AR(1) with coefficient `phi = 1 - eps a/2`; `w_i^2` then has autocovariance
    `2 v^2 phi^(2k)`.
    """
    h = np.asarray(h, float)
    a = nbeta * h + gamma
    v, phi = stationary_variance(a, step_size), 1 - step_size * a / 2
    each = (nbeta * h / 2) ** 2 * 2 * v**2 * mean_factor(phi**2, steps) / steps
    return float(np.sqrt(each.sum() / chains))


def localization_rise(h, gamma, step_size=0.0):
    """`E L - L*` under the law at nbeta = 0: `1/2 sum h_i` times the variance of noise alone."""
    return float(np.sum(h) / 2 * stationary_variance(gamma, step_size))


def localization_share(h, nbeta, gamma, step_size=0.0):
    """`rho_loc`: the rise of the loss under the posterior over the rise at nbeta = 0.

    1: the data hold the chain back no more than gamma alone does.  Small: the data rule.
    """
    rise = quadratic_llc(h, nbeta, gamma, step_size) / nbeta
    return rise / localization_rise(h, gamma, step_size)


# Linear regression with squared loss, l_i(w) = (y_i - x_i w)^2 / 2 --------------------------------


def regression(seed=0, rows=24, dim=6, noise=1.0):
    """`X [row, dim], y [row], w* [dim]` (the least-squares solution)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, dim)) * np.geomspace(0.5, 1.5, dim)
    y = x @ rng.standard_normal(dim) + noise * rng.standard_normal(rows)
    return x, y, np.linalg.lstsq(x, y, rcond=None)[0]


def regression_precision(x, nbeta, gamma):
    """`P = nbeta X'X / n + gamma I`, the Hessian of U."""
    return nbeta * x.T @ x / len(x) + gamma * np.eye(x.shape[1])


def position_covariance(precision, step_size=0.0):
    """`[P (I - eps P / 4)]^-1`: the covariance of SGLD on `U = w'Pw / 2`."""
    return np.linalg.inv(precision @ (np.eye(len(precision)) - step_size * precision / 4))


def regression_llc(x, nbeta, gamma, step_size=0.0):
    """Of the mean loss over the rows, around w*."""
    return quadratic_llc(np.linalg.eigvalsh(x.T @ x / len(x)), nbeta, gamma, step_size)


def loss_covariance(x, residual, covariance):
    """`Cov(l_i, l_j) = r_i r_j x_i'S x_j + (x_i'S x_j)^2 / 2` for w ~ N(w*, S).  [row, row]

    The second term is the second order in the fluctuation; classical influence lacks it.
    """
    s = x @ covariance @ x.T
    return np.outer(residual, residual) * s + s**2 / 2


# Model selection -----------------------------------------------------------------------------


def gaussian_waic(x, mean, variance, beta):
    """WAIC of `x_i ~ N(w, 1)` with posterior `w ~ N(mean, variance)` at inverse temperature beta.

    `mean_i [ -log N(x_i; mean, 1 + variance) + beta (r_i^2 variance + variance^2 / 2) ]`.
    """
    r2 = (np.asarray(x) - mean) ** 2
    bayes = 0.5 * np.log(2 * np.pi * (1 + variance)) + r2 / (2 * (1 + variance))
    return float(np.mean(bayes + beta * (r2 * variance + variance**2 / 2)))


def crossing(losses, llcs, low=np.e, high=1e12):
    """The n > e at which `n L + llc log n` of two solutions are equal, by bisection."""
    f = lambda n: n * (losses[0] - losses[1]) + (llcs[0] - llcs[1]) * np.log(n)
    for _ in range(200):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if np.sign(f(middle)) == np.sign(f(low)) else (low, middle)
    return low


# Simulators ----------------------------------------------------------------------------------


def sgld_linear(precision, step_size, steps, chains, rng, start=None):
    """Positions relative to w* *before* each step, `[chain, step, dim]`, on `U = w'Pw / 2`.

    Starts at w* as a run does, or at `start`.
    """
    dim = len(precision)
    w = np.zeros((chains, dim)) if start is None else np.array(start, float)
    out = np.empty((chains, steps, dim))
    drift = np.eye(dim) - step_size / 2 * precision
    for t in range(steps):
        out[:, t] = w
        w = w @ drift + np.sqrt(step_size) * rng.standard_normal((chains, dim))
    return out


def tree_of(loss, init_loss, *, nbeta, gamma, step_size, burnin, thin=1, data_size=1000, probes=()):
    """A run's tree from arrays `[chain, step]`, as `slt.open_run` would return it."""
    chains, steps = loss.shape
    draws = (steps - burnin) // thin
    sampling = xr.Dataset(
        {
            names.LOSS: ((names.CHAIN, names.STEP), loss),
            names.INIT_LOSS: ((names.CHAIN, names.STEP), np.broadcast_to(init_loss, loss.shape)),
            names.STATUS: ((names.CHAIN,), np.zeros(chains, "i1")),
            names.STATUS_STEP: ((names.CHAIN,), np.full(chains, -1, "i4")),
        },
        {
            names.CHAIN: np.arange(chains),
            names.STEP: np.arange(steps),
            names.DRAW: np.arange(draws),
            names.STEP_SIZE: (names.CHAIN, np.full(chains, step_size)),
            names.NBETA: (names.CHAIN, np.full(chains, float(nbeta))),
            names.GAMMA: (names.CHAIN, np.full(chains, float(gamma))),
        },
        {names.A_BURNIN: burnin, names.A_THIN: thin, names.A_DATA_SIZE: data_size},
    )
    groups = {"/": xr.Dataset(attrs={names.A_SCHEMA: names.SCHEMA}), "/sampling": sampling}
    return xr.DataTree.from_dict(
        groups | {f"/{names.PROBE}/{p}": d for p, d in dict(probes).items()}
    )


def probe_of(loss, name="train"):
    """A probe Dataset from `loss [chain, draw, example(, token)]`."""
    dims = (names.CHAIN, names.DRAW, names.EXAMPLE, names.TOKEN)[: loss.ndim]
    coords = {
        names.CHAIN: np.arange(loss.shape[0]),
        names.DRAW: np.arange(loss.shape[1]),
        names.EXAMPLE: [f"{name}/{i}" for i in range(loss.shape[2])],
    }
    if loss.ndim == 4:
        coords[names.TOKEN] = np.arange(1, loss.shape[3] + 1)
    kind = "text" if loss.ndim == 4 else "array"
    return xr.Dataset({names.LOSS: (dims, loss)}, coords, {"probe": name, "kind": kind})
