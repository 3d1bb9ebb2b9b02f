"""Classical attribution methods for the same network: gradients, Gauss-Newton, EK-FAC, TRAK.

Each function gives `scores [query, train]` in the sign of the Bayesian influence: **negative =
helpful** (the predicted change of the query's loss when the example is added).
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slt_notebook.errors import InputError, say
from slt_notebook.models.probes import Probe
from slt_notebook.toys.retraining import Retraining

Params = Mapping[str, Tensor]


def gradients(problem: Retraining, params: Params, probe: Probe) -> Tensor:
    """Return the gradient of every example's loss, `[example, weight]`."""
    one = lambda p, x, y: problem.losses(p, {"inputs": x[None], "targets": y[None]})[0]
    batch = probe.tensors("cpu")
    found = torch.func.vmap(torch.func.grad(one), (None, 0, 0))(
        dict(params), batch["inputs"], batch["targets"]
    )
    return torch.cat([g.flatten(1) for g in found.values()], 1)


def gradient_dot(problem: Retraining, params: Params) -> np.ndarray:
    """`-g_q . g_i`: the limit of influence at strong localization."""
    q, t = (gradients(problem, params, p) for p in (problem.query, problem.train))
    return -(q @ t.T).numpy()


def gradient_cosine(problem: Retraining, params: Params) -> np.ndarray:
    """`-cos(g_q, g_i)`."""
    q, t = (gradients(problem, params, p) for p in (problem.query, problem.train))
    return -(F.normalize(q, dim=1) @ F.normalize(t, dim=1).T).numpy()


def gauss_newton(problem: Retraining, params: Params) -> Tensor:
    """`G = 1/n sum_i J_i' (diag p_i - p_i p_i') J_i` of the mean loss, `[weight, weight]`."""
    one = lambda p, x: problem.output(p, x[None])[0]
    batch = problem.train.tensors("cpu")
    found = torch.func.vmap(torch.func.jacrev(one), (None, 0))(dict(params), batch["inputs"])
    jacobian = torch.cat([j.flatten(2) for j in found.values()], 2)  # [example, class, weight]
    p = problem.output(params, batch["inputs"]).softmax(1)
    root = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]  # root root' = H
    half = torch.einsum("ncd,nck->nkd", jacobian, root).flatten(0, 1)
    return (half.T @ half) / len(p)


def exact_influence(
    problem: Retraining, params: Params, dampings: Sequence[float]
) -> dict[float, np.ndarray]:
    """`-g_q' (G + damping I)^-1 g_i` with the exact Gauss-Newton matrix of the mean loss.

    The first order of the Bayesian influence at gamma / nbeta = damping, for a model whose Hessian
    is G.
    """
    q, t = (gradients(problem, params, p).double() for p in (problem.query, problem.train))
    values, vectors = torch.linalg.eigh(gauss_newton(problem, params).double())
    a, b = q @ vectors, t @ vectors
    return {d: -((a / (values.clamp(min=0) + d)) @ b.T).float().numpy() for d in dampings}


def as_module(params: Params) -> nn.Sequential:
    """Return the two-layer network of `digits_problem` as the torch module that peers need."""
    if set(params) != {"w1", "b1", "w2", "b2"}:
        got = f"parameters {sorted(params)}"
        raise InputError(say(got, "the network of digits_problem", "wrap your own module"))
    (inputs, hidden), outputs = params["w1"].shape, params["w2"].shape[1]
    module = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))
    state = {"0.weight": params["w1"].T, "0.bias": params["b1"]}
    state |= {"2.weight": params["w2"].T, "2.bias": params["b2"]}
    module.load_state_dict({k: v.clone() for k, v in state.items()})
    return module


def ekfac(problem: Retraining, params: Params, damping: float | None = None) -> np.ndarray:
    """EK-FAC influence `[query, train]` (Grosse et al. 2023, arXiv:2308.03296).

    Args:
        problem: the network's training and query examples.
        params: the trained weights.
        damping: added to the eigenvalues; None is kronfluence's rule, a tenth of the
            mean eigenvalue of each layer.

    Raises:
        InputError: kronfluence is not installed (`pip install --no-deps kronfluence`, see README).
    """
    try:
        # Optional packages (the group `peers`), not installed with the kit.
        from kronfluence.analyzer import Analyzer, prepare_model  # pyright: ignore[reportMissingImports]
        from kronfluence.arguments import FactorArguments, ScoreArguments  # pyright: ignore[reportMissingImports]
        from kronfluence.task import Task  # pyright: ignore[reportMissingImports]
    except ImportError as cause:
        raise _missing("kronfluence") from cause

    class Classify(Task):
        def compute_train_loss(self, batch, model, sample=False):
            x, y = batch
            logits = model(x)
            if sample:
                y = torch.multinomial(logits.detach().softmax(-1), 1).flatten()
            return F.cross_entropy(logits, y, reduction="sum")

        def compute_measurement(self, batch, model):
            x, y = batch
            return F.cross_entropy(model(x), y, reduction="sum")

    task = Classify()
    train, query = (
        torch.utils.data.TensorDataset(*(p.tensors("cpu")[k] for k in ("inputs", "targets")))
        for p in (problem.train, problem.query)
    )
    with tempfile.TemporaryDirectory() as folder, _quiet():
        torch.manual_seed(0)  # kronfluence samples labels from the global generator
        model = prepare_model(as_module(params), task)
        analyzer = Analyzer(
            "a", model, task, cpu=True, disable_tqdm=True, output_dir=folder,
            log_level=logging.ERROR,
        )  # fmt: skip
        analyzer.fit_all_factors(
            "f", train, per_device_batch_size=len(train),
            factor_args=FactorArguments(strategy="ekfac"),
        )  # fmt: skip
        analyzer.compute_pairwise_scores(
            "s", "f", query, train, per_device_query_batch_size=len(query),
            per_device_train_batch_size=len(train),
            score_args=ScoreArguments(damping_factor=damping),
        )  # fmt: skip
        found = analyzer.load_pairwise_scores("s")
    return -found["all_modules"].numpy()


def trak(problem: Retraining, models: Sequence[Params], dimension: int = 128) -> np.ndarray:
    """TRAK scores `[query, train]` by traker (Park et al. 2023, arXiv:2303.14186).

    Args:
        problem: the network's training and query examples.
        models: independently trained weights; their scores are averaged.
        dimension: of the random projection of the gradients.

    Raises:
        InputError: traker is not installed (`pip install --no-deps traker`, see README).
    """
    try:
        # An optional package (the group `peers`), not installed with the kit.
        from trak import TRAKer  # pyright: ignore[reportMissingImports]
        from trak.projectors import BasicProjector, ProjectionType  # pyright: ignore[reportMissingImports]
    except ImportError as cause:
        raise _missing("traker") from cause
    sides = []
    for probe in (problem.train, problem.query):
        batch = probe.tensors("cpu")
        sides.append([batch["inputs"], batch["targets"]])
    count = sum(p.numel() for p in models[0].values())
    with tempfile.TemporaryDirectory() as folder, _quiet():
        projector = BasicProjector(
            grad_dim=count, proj_dim=dimension, seed=0, proj_type=ProjectionType.rademacher,
            device="cpu", block_size=dimension // 2, dtype=torch.float32,
        )  # fmt: skip
        module = as_module(models[0])
        work = TRAKer(
            module, "image_classification", train_set_size=len(problem.train), save_dir=folder,
            device="cpu", projector=projector, proj_dim=dimension, use_half_precision=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
        states = [as_module(p).state_dict() for p in models]
        for i, state in enumerate(states):
            work.load_checkpoint(state, model_id=i)
            work.featurize(sides[0], num_samples=len(problem.train))
        work.finalize_features()
        for i, state in enumerate(states):
            work.start_scoring_checkpoint("q", state, model_id=i, num_targets=len(problem.query))
            work.score(sides[1], num_samples=len(problem.query))
        scores = np.array(work.finalize_scores("q"))
    return -scores.T


def _missing(package: str) -> InputError:
    return InputError(
        say(
            f"no package {package}",
            "the optional group `peers`",
            "pip install --no-deps kronfluence traker && pip install accelerate einops einconv "
            "opt-einsum (without dependencies, because theirs replace torch)",
        )
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the output and warnings of other packages and restore torch's random state."""
    import warnings

    state = torch.get_rng_state()
    out, err = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), out, err:
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_rng_state(state)
