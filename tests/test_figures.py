"""Estimates from the real sampler agree with closed forms: the figures of the README.

python -m tests.test_figures        prints them
"""

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook import names
from tests import exact

SEEDS, CHAINS = 100, 4


def problem(kind):
    """(X, w*) of a 6-d quadratic (orthogonal design) or of a linear regression with noise."""
    x, y, w = exact.regression(seed=1, rows=30, dim=6)
    if kind == "quadratic":
        q, _ = np.linalg.qr(x)
        x = q * np.sqrt(30 * np.array([3.0, 2.0, 1.0, 0.5, 0.3, 0.1]))
        y = x @ w  # no residual: the loss is the quadratic alone
    return x, y, w


def coverage(kind, nbeta=30.0, gamma=1.0, step=0.01, draws=250, burnin=100):
    """How many of 100 runs of 4 chains state a 95 % interval that holds the closed form."""
    x, y, w = problem(kind)

    def function(params, batch):
        return (batch["inputs"] @ params["w"] - batch["targets"]).square() / 2

    data = slt.array_probe("d", x, y)
    run = slt.sample(
        slt.loss_fn({"w": torch.tensor(w)}, function), data, kernel=slt.SGLD(step), nbeta=nbeta,
        gamma=gamma, chains=SEEDS * CHAINS, draws=draws, burnin=burnin, batch_size=len(data),
        progress=False,
    )  # fmt: skip
    truth = exact.regression_llc(x, nbeta, gamma, step)
    sampling = run.tree[names.SAMPLING].to_dataset().load()
    hits = 0
    for seed in range(SEEDS):
        part = sampling.isel(chain=slice(seed * CHAINS, (seed + 1) * CHAINS))
        low, high = slt.llc(part)["interval"].values
        hits += low <= truth <= high
    return hits, truth, sampling


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["quadratic", "regression"])
def test_the_stated_interval_covers_the_closed_form(kind):
    hits, truth, sampling = coverage(kind)
    assert 88 <= hits <= 100
    # And the mean over all 400 chains is the closed form with its finite step.
    after = sampling.step >= sampling.attrs[names.A_BURNIN]
    gain = (sampling.loss - sampling.init_loss).astype("f8").where(after).mean("step") * 30.0
    error = float(gain.std("chain", ddof=1)) / (SEEDS * CHAINS) ** 0.5
    assert abs(float(gain.mean()) - truth) < 4 * error


def test_the_virial_ratio_and_the_control_have_their_exact_values():
    x, y, w = problem("quadratic")
    step, nbeta, gamma = 0.01, 30.0, 1.0
    _, _, sampling = coverage("quadratic", nbeta, gamma, step, draws=60, burnin=150)
    curvature = np.linalg.eigvalsh(x.T @ x / len(x))
    a = nbeta * curvature + gamma
    after = sampling.step >= sampling.attrs[names.A_BURNIN]
    virial = sampling.virial.astype("f8").where(after).mean("step")
    error = float(virial.std("chain", ddof=1)) / len(virial) ** 0.5
    assert abs(float(virial.mean()) - np.mean(1 / (1 - step * a / 4))) < 4 * error
    rise = (sampling.control_loss - sampling.control_init_loss).astype("f8").mean("control")
    expected = exact.localization_rise(curvature, gamma, step)
    error = float(rise.std("chain", ddof=1)) / len(rise) ** 0.5
    assert abs(float(rise.mean()) - expected) < 4 * error


def token_influence(chains=40, draws=1500):
    """(estimated, exact) influence between all tokens of a linear-Gaussian model."""
    examples, tokens, dim = 5, 8, 4
    x, y, w = exact.regression(seed=3, rows=examples * tokens, dim=dim)
    nbeta, gamma, step = 40.0, 3.0, 0.004

    def function(params, batch):
        return (batch["inputs"] @ params["w"] - batch["targets"]).square() / 2

    data = slt.array_probe("d", x.reshape(examples, tokens, dim), y.reshape(examples, tokens))
    run = slt.sample(
        slt.loss_fn({"w": torch.tensor(w)}, function), data, probes=[data],
        kernel=slt.SGLD(step), nbeta=nbeta, gamma=gamma, chains=chains, draws=draws, burnin=100,
        thin=3, batch_size=examples, progress=False,
    )  # fmt: skip
    found = slt.influence(run, stderr=False)["influence"].values
    found = found.reshape(examples * tokens, -1)
    covariance = exact.position_covariance(exact.regression_precision(x, nbeta, gamma), step)
    return found, -exact.loss_covariance(x, y - x @ w, covariance)


def test_token_influence_is_the_closed_form_to_second_order():
    found, expected = token_influence(chains=20, draws=800)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] >= 0.99
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) <= 0.10


def main() -> None:
    for kind in ("quadratic", "regression"):
        hits, truth, _ = coverage(kind)
        print(f"95 % interval holds the closed form {truth:.3f} ({kind}): {hits} of {SEEDS} seeds")
    found, expected = token_influence()
    r = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    print(f"token influence against the closed form: Pearson {r:.4f}, relative error {error:.1%}")


if __name__ == "__main__":
    main()
