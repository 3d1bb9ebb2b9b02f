"""The retraining test sees what predicts, and the attributions are what they say."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import slt_notebook as slt
from slt_notebook.toys import attribution
from slt_notebook.toys.retraining import digits_problem, retrain
from tests import exact


def linear_truth(queries=8, count=40, alphas=(0.3, 0.6), subsets=60, seeds=2, noise=0.3, seed=0):
    """Made-up retraining whose loss is a sum over the subset, plus noise of the seed."""
    rng = np.random.default_rng(seed)
    score = rng.standard_normal((queries, count))
    mask = np.zeros((len(alphas), subsets, count), bool)
    for a, share in enumerate(alphas):
        for s in range(subsets):
            mask[a, s, rng.permutation(count)[: int(share * count)]] = True
    loss = np.einsum("asn,qn->asq", mask, score)[:, :, None]
    loss = loss + noise * np.sqrt(count) / 2 * rng.standard_normal(
        (len(alphas), subsets, seeds, queries)
    )
    return score, xr.Dataset(
        {
            "loss": (("alpha", "subset", "seed", "query"), loss),
            "mask": (("alpha", "subset", "example"), mask),
        },
        {"alpha": list(alphas), "query": range(queries), "example": range(count)},
    )


def test_the_truth_scores_one_noise_scores_zero_and_the_sign_matters():
    score, retrained = linear_truth(noise=0)
    rng = np.random.default_rng(1)
    found = slt.toys.lds(
        scores={"truth": score, "minus": -score, "noise": rng.standard_normal(score.shape)},
        retrained=retrained,
    )
    np.testing.assert_allclose(found.lds.sel(attribution="truth"), 1, atol=1e-12)
    np.testing.assert_allclose(found.lds.sel(attribution="minus"), -1, atol=1e-12)
    noise = found.sel(attribution="noise")
    assert (np.abs(noise.lds) < 4 * noise.stderr).all()
    gap = found.difference.sel(attribution="truth", attribution_="minus")
    np.testing.assert_allclose(gap, 2, atol=1e-12)


def test_against_scipy_query_by_query():
    score, retrained = linear_truth()
    rough = score + np.random.default_rng(2).standard_normal(score.shape)
    found = slt.toys.lds(scores={"m": rough}, retrained=retrained)
    for a in range(2):
        for q in range(8):
            f = retrained.mask.values[a] @ rough[q]
            wanted = stats.spearmanr(f, retrained.loss.values[a, :, :, q].mean(1))[0]
            assert float(found.by_query[0, a, q]) == pytest.approx(wanted)
    assert ((found.ceiling > 0.8) & (found.ceiling < 1)).all()


def test_stated_errors_are_the_spread_of_repeats():
    values, errors = [], []
    for seed in range(60):
        score, retrained = linear_truth(seed=seed, noise=1.0, queries=10)
        found = slt.toys.lds(scores={"m": score}, retrained=retrained)
        values.append(found.lds.values)
        errors.append(found.stderr.values)
    ratio = np.sqrt(np.mean(np.square(errors), 0)) / np.std(values, 0)
    assert ((ratio > 0.8) & (ratio < 1.8)).all()  # the two parts overlap: rather too long


def test_mistakes_are_refused():
    score, retrained = linear_truth()
    for call, words in (
        (lambda: slt.toys.lds(scores={"m": score}), "no problem"),
        (lambda: slt.toys.lds(scores={"m": score.T}, retrained=retrained), "shape"),
        (lambda: slt.toys.lds(scores={"m": score * np.nan}, retrained=retrained), "not finite"),
        (lambda: retrain(digits_problem(), alphas=(1.5,)), "fractions"),
    ):
        with pytest.raises(slt.InputError, match=words):
            call()


@pytest.fixture(scope="module")
def small():
    problem = digits_problem(train=60, queries=10, hidden=6, steps=60)
    return problem, {k: v[0] for k, v in problem.fit().items()}


def test_models_trained_together_are_those_trained_alone(small):
    problem, _ = small
    mask = torch.zeros(3, 60)
    mask[0, :20], mask[1, 20:50], mask[2, ::2] = 1, 1, 1
    together = problem.fit(mask, seeds=(0, 1))
    alone = problem.fit(mask[1:2], seeds=(1,))
    for name, value in together.items():
        torch.testing.assert_close(value[3 + 1], alone[name][0], rtol=1e-3, atol=1e-4)


def test_gradients_and_gauss_newton_against_autograd(small):
    problem, params = small
    g = attribution.gradients(problem, params, problem.train)
    batch = problem.train.tensors("cpu")
    leaf = {k: v.clone().requires_grad_() for k, v in params.items()}
    one = problem.losses(leaf, {k: v[7:8] for k, v in batch.items()}).sum()
    wanted = torch.cat([x.flatten() for x in torch.autograd.grad(one, list(leaf.values()))])
    torch.testing.assert_close(g[7], wanted, rtol=1e-4, atol=1e-6)
    # Gauss-Newton is the Hessian of the loss of the linearized network.
    vector = torch.cat([v.flatten() for v in params.values()])
    sizes = [v.numel() for v in params.values()]
    shapes = [v.shape for v in params.values()]

    def outputs(flat):
        parts = dict(
            zip(
                params,
                (p.reshape(s) for p, s in zip(flat.split(sizes), shapes, strict=True)),
                strict=True,
            )
        )
        return problem.output(parts, batch["inputs"])

    jacobian = torch.func.jacrev(outputs)(vector)

    def linear(delta):
        logits = outputs(vector).detach() + torch.einsum("ncd,d->nc", jacobian, delta)
        return torch.nn.functional.cross_entropy(logits, batch["targets"])

    hessian = torch.func.jacrev(torch.func.jacrev(linear))(torch.zeros_like(vector))
    torch.testing.assert_close(
        attribution.gauss_newton(problem, params), hessian, rtol=1e-3, atol=1e-5
    )


def test_limits_of_damped_influence_and_the_posterior(small):
    problem, params = small
    dot = attribution.gradient_dot(problem, params)
    damped = attribution.exact_influence(problem, params, [1e4])[1e4]
    np.testing.assert_allclose(damped * 1e4, dot, rtol=0.02, atol=1e-3 * np.abs(dot).max())
    cosine = attribution.gradient_cosine(problem, params)
    assert np.abs(cosine).max() <= 1 + 1e-5 and (np.sign(cosine) == np.sign(dot)).mean() > 0.99
    # At strong localization the Bayesian influence is the gradient dot product over gamma.
    run = slt.sample(
        problem.loss(params), problem.train, probes=[problem.train, problem.query],
        kernel=slt.SGLD(2e-5), nbeta=10.0, gamma=2e4, chains=16, draws=100, burnin=20, thin=1,
        batch_size=60, progress=False,
    )  # fmt: skip
    found = slt.influence(run, query="query", train="train", unit="sequence").influence.values
    assert np.corrcoef(found.ravel(), dot.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("peer", ["kronfluence", "trak"])
@pytest.mark.filterwarnings("ignore")  # of other packages
def test_peers_agree_with_the_exact_influence(small, peer):
    pytest.importorskip(peer, exc_type=ImportError)
    problem, params = small
    if peer == "kronfluence":
        found = attribution.ekfac(problem, params, 1.0)
    else:
        found = attribution.trak(problem, [params], dimension=32)
    exactly = attribution.exact_influence(problem, params, [1.0])[1.0]
    least = {"kronfluence": 0.9, "trak": 0.2}[peer]
    assert found.shape == (10, 60)
    assert np.corrcoef(found.ravel(), exactly.ravel())[0, 1] > least


def test_the_kit_imports_beside_its_peers():
    import importlib

    for name in ("slt_notebook", "slt_notebook.toys.attribution", "slt_notebook.runs.sample"):
        importlib.import_module(name)
    assert exact.quadratic_llc(np.ones(2), 1, 0) == 1.0
