"""What every kernel with every metric promises: plain data, pure steps, and runs that resume."""

import dataclasses
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook.core import streams
from slt_notebook.core.types import Evaluation
from tests import exact
from tests.runs.problems import regression

SCALES = (0.5, 1.0, 2.0, 1.5, 0.7)
METRICS = [
    slt.Identity(),
    slt.Fixed(0.5),
    slt.Fixed(SCALES),
    slt.RMSProp(0.9, 0.1),
    slt.RMSProp(0.9, 0.1, compat="devinterp"),
    slt.RMSProp(0.9, 0.1, adapt="burnin"),
]
ADAMS = [slt.Adam(0.8, 0.9, 0.1), slt.Adam(0.8, 0.9, 0.1, adapt="burnin")]
KERNELS = [
    *(slt.SGLD(2e-3, metric) for metric in (*METRICS, *ADAMS)),
    *(slt.SGHMC(2e-3, metric=metric) for metric in METRICS),
    *(slt.SGNHT(2e-3, metric=metric) for metric in METRICS),
    *(slt.MALA(2e-3, metric) for metric in METRICS if metric.adapt != "always"),
]
RESUMED = [KERNELS[i] for i in (3, 7, 8, 14, 20)]
"""One metric of each kernel, and Adam: every other pair resumes in the exhaustive tier."""
every = pytest.mark.parametrize("kernel", KERNELS, ids=str)
LOSS, DATA, X, _ = regression()


def quadratic(curvature):
    def evaluate(position):
        grad = curvature * position
        value = (curvature * position.square()).sum(1) / 2
        return Evaluation(value, grad, value, grad, torch.ones(len(position), dtype=torch.int64))

    return evaluate


def randomness(kernel, chains, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = (torch.randn(chains, dim, generator=generator),)
    return (*noise, torch.rand(chains, generator=generator)) if kernel.uniforms else noise


def sample(kernel, draws, **changes):
    size = len(DATA) if kernel.full_batch else 8
    settings = {"nbeta": 20.0, "gamma": 5.0, "chains": 2, "burnin": 3, "thin": 2, "seed": 1}
    settings |= {"batch_size": size, "progress": False, "probes": [DATA], **changes}
    return slt.sample(LOSS, DATA, kernel=kernel, draws=draws, **settings)


def same(a, b):
    for path in ("sampling", "probe/train"):
        for name, value in a[path].to_dataset().variables.items():
            assert value.identical(b[path].to_dataset()[name].variable), (path, name)


@every
def test_is_plain_data_all_the_way_to_json(kernel):
    assert pickle.loads(pickle.dumps(kernel)) == kernel
    assert "step_size" in repr(kernel)
    run = sample(kernel, 1)
    stored = json.loads(run.task.to_json())["kernel"]
    assert stored["kind"] == type(kernel).__name__
    assert stored["metric"]["kind"] == type(kernel.metric).__name__
    assert set(stored) == {"kind", *(f.name for f in dataclasses.fields(kernel))}
    drawn = np.isfinite(run.tree["sampling"].control_loss).sum("control")
    assert (drawn == run.task.controls).all() and run.task.controls == 2
    assert np.isfinite(run.tree["sampling"].accept).any()


@every
def test_is_pure(kernel):
    before = torch.get_rng_state()
    position = torch.ones(3, 5)
    state = kernel.init(position)
    results = [
        kernel.step(state, quadratic(torch.ones(5)), *randomness(kernel, 3, 5)) for _ in range(2)
    ]
    assert torch.equal(results[0][0].position, results[1][0].position)
    assert torch.equal(position, torch.ones(3, 5)) and state.position is position
    assert torch.equal(before, torch.get_rng_state())


@every
def test_one_number_per_chain(kernel):
    evaluate, start = quadratic(torch.linspace(0.1, 2, 5)), torch.ones(2, 5)
    values = {"step_size": (0.1, 0.01), "friction": (0.2, 0.6)}
    values = {name: values[name] for name in kernel.per_chain}
    noise = randomness(kernel, 2, 5)
    several = dataclasses.replace(kernel, **values)
    state = several.init(start)
    for _ in range(2):  # what the first step leaves in the state matters in the second
        state, _ = several.step(state, evaluate, *noise)
    for row in range(2):
        one = dataclasses.replace(kernel, **{k: v[row] for k, v in values.items()})
        alone = one.init(start[:1])
        for _ in range(2):
            alone, _ = one.step(alone, evaluate, *(n[row : row + 1] for n in noise))
        assert torch.equal(state.position[row : row + 1], alone.position)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_dtype(kernel, dtype):
    state = kernel.init(torch.ones(2, 5, dtype=dtype))
    noise = tuple(n.to(dtype) for n in randomness(kernel, 2, 5))
    state, info = kernel.step(state, quadratic(torch.ones(5, dtype=dtype)), *noise)
    leaves = torch.utils._pytree.tree_leaves(state)
    assert leaves[0] is state.position
    assert all(len(leaf) == 2 for leaf in leaves)  # the chain axis leads: the store cuts by it
    assert {leaf.dtype for leaf in leaves if leaf.is_floating_point()} == {dtype}
    assert info.grad.dtype == dtype


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(k, marks=() if k in RESUMED else pytest.mark.exhaustive, id=str(k))
        for k in KERNELS
    ],
)
def test_a_run_resumes_bit_equal(kernel, tmp_path):
    sample(kernel, 4, store=tmp_path / "run.zarr")
    more = sample(kernel, 9, store=tmp_path / "run.zarr").tree
    same(sample(kernel, 9).tree, more)


def test_per_chain_friction_survives_workers_json_and_lists():
    kernel = slt.SGHMC([1e-3, 2e-3, 3e-3], friction=np.array([0.1, 0.5, 1.0]))
    with ThreadPoolExecutor(2) as pool:
        split = sample(kernel, 5, chains=3, executor=pool, chain_chunk=1)
    same(sample(kernel, 5, chains=3, chain_chunk=1).tree, split.tree)
    stored = json.loads(split.task.to_json())["kernel"]
    assert stored["friction"] == [0.1, 0.5, 1.0]
    alone = sample(slt.SGHMC(2e-3, friction=0.5), 5, chains=[1], chain_chunk=1).tree
    expected = split.tree["sampling"].loss.isel(chain=[1]).values
    np.testing.assert_array_equal(alone["sampling"].loss.values, expected)
    with pytest.raises(slt.InputError, match="2 values of friction for 3 chains"):
        sample(slt.SGHMC(1e-3, friction=(0.1, 0.2)), 5, chains=3)


@pytest.mark.parametrize(
    ("kernel", "step"),
    [
        (slt.SGLD(0.04), 0.04),
        (slt.SGLD(0.04, slt.Fixed(0.6)), 0.6 * 0.04),
        (slt.SGHMC(0.04, friction=0.3), 0.0),
        (slt.SGHMC(0.04, friction=0.3, metric=slt.Fixed(SCALES)), 0.0),
        (slt.SGNHT(0.04, friction=0.3), 0.0),
        (slt.MALA(0.04), 0.0),
        (slt.MALA(0.08, slt.RMSProp(adapt="burnin", eps=1.0)), 0.0),
    ],
    ids=str,
)
def test_finds_the_known_llc_of_a_regression(kernel, step):
    """`step` is the step size that the law knows of: 0 where it is exact on a quadratic."""
    changes = {"batch_size": len(DATA), "burnin": 100, "thin": 1, "chains": 4, "probes": []}
    tree = sample(kernel, 1500, **changes).tree
    found = slt.llc(tree)
    expected = exact.regression_llc(X, 20.0, 5.0, step)
    assert abs(float(found["mean"]) - expected) < 4 * float(found["mcse"])
    assert float(found["mcse"]) < 0.1 * expected
    # and the virial, whose value at finite step is known where the law is
    if step == 0:
        assert abs(float(found.virial) - 1) < 4 * float(found.virial_mcse)


def test_what_cannot_be_is_refused():
    refused = pytest.raises(slt.InputError, match="What to do")
    with pytest.raises(slt.InputError, match=r"batch_size=40.*SGLD"):
        sample(slt.MALA(1e-3), 2, batch_size=8)
    with pytest.raises(slt.InputError, match="burnin=0"):
        sample(slt.SGLD(1e-3, slt.RMSProp(adapt="burnin")), 2, burnin=0)
    with pytest.raises(slt.InputError, match="one for each sampled coordinate"):
        sample(slt.SGLD(1e-3, slt.Fixed((1.0, 2.0))), 2)
    for kernel in (slt.SGHMC, slt.SGNHT, slt.MALA):
        with pytest.raises(slt.InputError, match="Adam"):
            kernel(metric=slt.Adam())
    with pytest.raises(slt.InputError, match="does not depend on the chain"):
        slt.MALA(metric=slt.RMSProp())
    for friction in (0.0, 1.5, float("nan"), "much", (0.1, 0.0)):
        with refused:
            slt.SGHMC(friction=friction)
    with refused:
        slt.SGNHT(friction=1.0)
    with refused:
        slt.SGNHT(rate=0.0)
    for bad in ("SGLD", slt.SGLD, object()):
        with refused:
            slt.sample(LOSS, DATA, kernel=bad)


def test_uniform_numbers_are_a_function_of_their_chain_and_step():
    together = streams.uniform(3, (0, 1, 2), 5, "cpu")
    assert torch.equal(together[1:], streams.uniform(3, (1, 2), 5, "cpu"))
    many = torch.cat([streams.uniform(0, tuple(range(100)), t, "cpu") for t in range(100)])
    assert len(many.unique()) == len(many) and many.min() >= 0 and many.max() < 1
    assert abs(many.mean().item() - 0.5) < 5 / (12 * len(many)) ** 0.5
    assert abs((many[1:] - 0.5).dot(many[:-1] - 0.5).item() * 12 / len(many)) < 5 / len(many) ** 0.5
