"""What is not finite while a run is sampled: of a probe, in half precision, at w*, of a control."""

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook import names
from tests.runs.problems import FAST

WALL = 0.3
DRAWS, THIN, BURNIN = 40, 2, 3


def problem(beyond=torch.nan, examples=24):
    """A regression whose example 5, where it is a probe's, is `beyond` far from w*."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(examples, 3)).astype("f4")
    probe = x.copy()
    probe[5, 0] = 1000.0

    def loss(params, batch):
        away = (params["w"] - 1).square().sum().sqrt()
        marked = batch["inputs"][:, 0] == 1000.0
        plain = (batch["inputs"].clamp(max=10) @ (params["w"] - 1)).square()
        return torch.where(marked & (away > WALL), beyond, plain)

    of = slt.loss_fn({"w": torch.ones(3)}, loss)
    zeros = np.zeros(examples, "f4")
    return of, slt.array_probe("data", x, zeros), slt.array_probe("marked", probe, zeros)


def run(kernel, probes, **changes):
    settings = {**FAST, "kernel": kernel, "draws": DRAWS, "thin": THIN, "burnin": BURNIN,
                "batch_size": 24, "chains": 3, "gamma": (300.0, 1.0, 300.0)}  # fmt: skip
    loss, data, probe = problem(**{k: changes.pop(k) for k in ("beyond",) if k in changes})
    return slt.sample(loss, data, probes=[probe] if probes else [], **{**settings, **changes}).tree


KERNELS = {
    "SGLD": slt.SGLD(5e-3),
    "RMSProp": slt.SGLD(2e-3, metric=slt.RMSProp()),
    "Adam": slt.SGLD(2e-3, metric=slt.Adam()),
    "SGHMC": slt.SGHMC(4e-3),
    "SGNHT": slt.SGNHT(4e-3),
    "MALA": slt.MALA(5e-3),
}


@pytest.mark.parametrize(
    "beyond", [torch.nan, pytest.param(torch.inf, marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_probe_stops_its_chain_at_the_draw_and_the_others_have_every_bit(kernel, beyond):
    kernel = KERNELS[kernel]
    tree = run(kernel, True, beyond=beyond, chain_chunk=3)
    plain = run(kernel, True, beyond=0.0, chain_chunk=3)
    away = plain["sampling"].distance.values
    assert (away[[0, 2]] < WALL).all() and (away[1] > WALL).any()
    draw = int(np.argmax(away[1] > WALL))
    sampling = tree["sampling"].to_dataset()
    assert sampling[names.STATUS].values.tolist() == [0, names.STATUS_PROBE, 0]
    assert sampling[names.STATUS_STEP].values.tolist() == [-1, BURNIN + (draw + 1) * THIN - 1, -1]
    for path in ("sampling", "probe/marked"):
        one, other = (t[path].to_dataset().isel(chain=[0, 2]) for t in (tree, plain))
        assert one.identical(other)
    marked = tree["probe/marked"].loss.values[1]
    np.testing.assert_array_equal(marked[:draw], plain["probe/marked"].loss.values[1, :draw])
    assert not np.isfinite(marked[draw, 5]) and np.isfinite(np.delete(marked[draw], 5)).all()
    assert np.isnan(marked[draw + 1 :]).all()
    step = int(sampling[names.STATUS_STEP][1])
    assert np.isfinite(sampling.loss.values[1, : step + 1]).all()
    assert np.isnan(sampling.loss.values[1, step + 1 :]).all()
    chains = slt.health(tree).set_index("check").loc["chains"]
    assert chains.meaning.startswith(
        f"chain 1 diverged: a loss of a probe was not finite at step {step}"
    )
    assert "drop the examples of the probe" in chains.do


def test_it_goes_on_from_a_store_with_the_same_status(tmp_path):
    kernel = KERNELS["SGLD"]
    whole = run(kernel, True)
    step = int(whole["sampling"].status_step[1])
    draw = (step + 1 - BURNIN) // THIN
    for draws in (draw - 1, draw, draw + 1):  # before, at and after the draw that is not finite
        path = tmp_path / f"{draws}.zarr"
        run(kernel, True, draws=draws, store=path)
        again = run(kernel, True, store=path)
        for group in ("sampling", "probe/marked"):
            one, other = (
                t[group].to_dataset().drop_vars(CONTROLS, errors="ignore") for t in (whole, again)
            )
            assert one.identical(other), (draws, group)


CONTROLS = [names.CONTROL_LOSS, names.CONTROL_INIT_LOSS]


def test_an_overflow_in_half_precision_is_told_from_a_divergence():
    """A probe whose products leave the range of float16 at the first draw, and of none other."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 3)).astype("f4")
    large = x.copy()
    large[3] = 3e4

    def loss(params, batch):
        return (batch["inputs"] @ (params["w"] - 1)).square()

    of = slt.loss_fn({"w": torch.ones(3)}, loss)
    zeros = np.zeros(24, "f4")
    data, probe = slt.array_probe("data", x, zeros), slt.array_probe("large", large, zeros)
    settings = {**FAST, "draws": 5, "batch_size": 24, "chains": 2}
    for dtype in ("float32", "bfloat16"):
        tree = slt.sample(of, data, probes=[probe], probe_dtype=dtype, **settings).tree
        assert not tree["sampling"].status.values.any()
    with pytest.raises(slt.Diverged, match="half precision.*probe_dtype='float32'"):
        slt.sample(of, data, probes=[probe], probe_dtype="float16", **settings)
    assert slt.sample(of, data, probes=[data], probe_dtype="float16", **settings).tree is not None


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_example_that_is_not_finite_at_the_start_is_named_wherever_it_stands(value):
    """The first examples are evaluated before the run, the others when a batch has them."""
    x = np.zeros((9000, 1), "f4")
    x[8000] = 1.0

    def loss(params, batch):
        return torch.where(batch["inputs"][:, 0] > 0, value, params["w"].square().sum())

    of = slt.loss_fn({"w": torch.ones(3)}, loss)
    data = slt.array_probe("data", x, np.zeros(9000, "f4"))
    settings = {**FAST, "draws": 400, "batch_size": 500, "chains": 1}
    with pytest.raises(
        slt.InputError, match=r"not finite at w\* \(example number 8000 of the data"
    ):
        slt.sample(of, data, **settings)
    with pytest.raises(slt.InputError, match=r"not finite at w\* \(example 'data/80'"):
        slt.sample(of, slice_of(data, 7920, 8100), **settings | {"batch_size": 10})


def slice_of(data, start, stop):
    fields = {k: v[start:stop] for k, v in data.fields.items()}
    return slt.array_probe("data", fields["inputs"], fields["targets"])


def beyond_in_batches(away_limit, value):
    """A loss that is `value` further than `away_limit` from w*."""

    def loss(params, batch):
        away = (params["w"] - 1).square().sum().sqrt()
        plain = (batch["inputs"] @ (params["w"] - 1)).square()
        return torch.where(away > away_limit, value, plain)

    x = np.random.default_rng(0).normal(size=(24, 3)).astype("f4")
    return slt.loss_fn({"w": torch.ones(3)}, loss), slt.array_probe("d", x, np.zeros(24, "f4"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_independent_draws_without_a_loss_have_a_status_too(value):
    settings = {**FAST, "nbeta": 0.0, "gamma": (300.0, 60.0, 300.0), "draws": 40, "chains": 3}
    loss, data = beyond_in_batches(0.35, value)
    plain, _ = beyond_in_batches(0.35, 0.0)
    tree, other = (
        slt.sample(of, data, probes=[], batch_size=8, **settings).tree["sampling"].to_dataset()
        for of in (loss, plain)
    )
    step = int(np.argmax(other.distance.values[1] > 0.35))
    assert step and tree.status.values.tolist() == [0, names.STATUS_LOSS, 0]
    assert tree.status_step.values.tolist() == [-1, step, -1]
    assert (
        np.isnan(tree.loss.values[1, step:]).all() and np.isfinite(tree.loss.values[1, :step]).all()
    )
    for name in ("virial", "distance", "grad_norm"):
        a, b = tree[name].values, other[name].values
        np.testing.assert_array_equal(a[[0, 2]], b[[0, 2]])
        assert np.isnan(a[1, step:]).all()


def test_a_control_that_is_not_finite_is_no_control_that_is_left_out():
    loss, data = beyond_in_batches(0.35, torch.nan)
    settings = {**FAST, "gamma": 30.0, "nbeta": 500.0, "kernel": slt.SGLD(1e-4), "draws": 60}
    tree = slt.sample(loss, data, batch_size=24, chains=4, **settings).tree
    assert not tree["sampling"].status.values.any()
    control = tree["sampling"].control_loss.values
    assert np.isinf(control).any() and not np.isnan(control).any()
    found = slt.health(tree).set_index("check").loc["rho_loc"]
    assert found.verdict == "unknown" and np.isnan(found.value)
    assert f"{np.isinf(control).sum()} of 32 controls" in found.do
