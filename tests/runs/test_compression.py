"""The critical compression is exact where it is known, and one batch is one batch."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

import slt_notebook as slt
from slt_notebook.errors import InputError
from slt_notebook.estimators.llc.compression import compression_fit, crossing, crossings
from slt_notebook.models.compression.grids import Quantize, on_grid
from slt_notebook.models.weights import fingerprint

CC = slt.critical_compression


def quadratic(w, h):
    """`L(w) = 1/2 sum h (w - w*)^2`, one example."""
    w, h = torch.as_tensor(w), torch.as_tensor(h)
    function = lambda p, b: ((p["w"] - w).square() * h).sum()[None] / 2 + 0 * b["inputs"]
    return slt.loss_fn({"w": w}, function), slt.array_probe("one", np.zeros(1), np.zeros(1))


def linear(rows=3, columns=4, seed=0):
    """A linear layer with white inputs: the loss is half the squared error of its weights."""
    rng = np.random.default_rng(seed)
    w = torch.tensor(rng.standard_normal((rows, columns)), dtype=torch.float32)
    layer = nn.Linear(columns, rows, bias=False)
    layer.weight = nn.Parameter(w)
    x = torch.eye(columns) * columns**0.5  # mean of x x' is the identity
    criterion = lambda out, y: (out - y).square().sum(1) / 2
    return slt.supervised(layer, criterion), slt.array_probe("white", x, x @ w.T), w


def test_noise_on_a_quadratic_is_known_exactly():
    h = np.array([[0.5, 2.0, 1.0], [3.0, 0.1, 1.0]], np.float32)
    loss, data = quadratic(np.random.default_rng(0).standard_normal((2, 3)).astype("f4"), h)
    found = CC(loss, data, "noise", [0.01, 0.1, 1.0], repeats=3, seed=5)
    scale = float(loss.params["w"].std(unbiased=False))
    draws = [
        torch.randn(2, 3, generator=torch.Generator().manual_seed(5000 + k)).numpy()
        for k in range(3)
    ]
    unit = np.mean([(h * d**2).sum() / 2 for d in draws]) * scale**2
    # gap = unit level^2: interpolated on log-log, the crossing is exact.
    np.testing.assert_allclose(found.critical, np.sqrt(found.epsilon / unit), rtol=1e-4)
    np.testing.assert_allclose(found.gap, unit * found.level**2, rtol=1e-4)


def test_factorizing_a_linear_layer_costs_half_the_squared_singular_values():
    loss, data, w = linear()
    found = CC(loss, data, "factorize", 0.1, levels=[0.0, 1 / 3, 2 / 3])
    for k, gap in enumerate(found.gap.values):
        dropped = torch.linalg.svdvals(w)[3 - k :]
        assert gap == pytest.approx(float(dropped.square().sum() / 2), rel=1e-4, abs=1e-6)


def test_pruning_a_linear_layer_costs_half_the_squares_of_the_smallest_weights():
    loss, data, w = linear()
    found = CC(loss, data, "prune", [0.05, 0.5])
    small = w.flatten().abs().sort().values.square()
    for level, gap in zip(found.level.values, found.gap.values, strict=True):
        assert gap == pytest.approx(float(small[: round(level * 12)].sum() / 2), abs=1e-5)
    assert found.critical[0] < found.critical[1]


def test_quantizing_a_linear_layer_is_the_naive_loop():
    loss, data, w = linear()
    for granularity in ("global", "tensor", "channel"):
        found = CC(loss, data, "quantize", 0.01, levels=[65, 17, 5, 3], granularity=granularity)
        for level, gap in zip(found.level.values, found.gap.values, strict=True):
            best = np.inf
            for fraction in Quantize().ranges:
                error = 0.0
                for row in w.numpy().astype(float):
                    top = np.abs(row).max() if granularity == "channel" else np.abs(w.numpy()).max()
                    grid = np.linspace(-fraction * top, fraction * top, int(level))
                    error += (np.abs(row[:, None] - grid).min(1) ** 2).sum() / 2
                best = min(best, error)
            assert gap == pytest.approx(best, rel=2e-3, abs=1e-6)
    assert float(found.bits[0]) == pytest.approx(np.log2(float(found.critical[0])))


def test_weights_on_the_grid_lose_nothing_and_finer_grids_lose_less():
    loss, data = quadratic(np.array([[-1.0, 0.0, 0.5, 1.0]], np.float32), np.ones((1, 4), "f4"))
    found = CC(loss, data, "quantize", 1e-3, levels=[9, 5, 4, 3])
    gap = found.gap.values
    assert gap[0] == gap[1] == 0 and gap[3] > 0
    assert float(found.setting[1]) == 1.0
    assert 4 <= float(found.critical[0]) <= 5


def test_a_grid_is_symmetric_odd_ones_hold_zero_and_zero_tensors_are_left():
    w = torch.linspace(-1.3, 1.3, 100)  # no tie between two values
    for levels in (3, 8, 15):
        out = on_grid(w, torch.tensor(1.0), levels)
        values = (out * 1e5).round().unique()  # equal up to rounding
        assert len(values) == levels
        torch.testing.assert_close(out, -out.flip(0))
        assert bool((values == 0).any()) == (levels % 2 == 1)
        inside = w.abs() <= 1
        assert (out - w)[inside].abs().max() <= 1 / (levels - 1) + 1e-6
    assert on_grid(torch.zeros(4), torch.tensor(0.0), 5).abs().max() == 0


def network(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.randn(40, 5)
    with torch.no_grad():
        net[2].weight *= 8  # sure of itself, and right: every change costs
        targets = net(x).argmax(1)
    return net, slt.array_probe("data", x, targets)


@pytest.mark.parametrize("scheme", ["quantize", "factorize", "prune", "noise"])
def test_many_levels_at_once_are_one_after_the_other_and_the_model_is_left_alone(scheme):
    net, data = network()
    loss = slt.supervised(net, lambda o, y: F.cross_entropy(o, y, reduction="none"))
    before = fingerprint(loss.params)
    alone, together = (CC(loss, data, scheme, [0.02, 0.1], chunk=c) for c in (1, 7))
    np.testing.assert_allclose(together.loss, alone.loss, rtol=1e-5)
    np.testing.assert_allclose(together.critical, alone.critical, rtol=1e-3)
    assert fingerprint(loss.params) == before == fingerprint(dict(net.named_parameters()))
    assert float(alone.critical[0]) != float(alone.critical[1])
    assert (alone.interval[:, 0] <= alone.critical).all()
    assert (alone.critical <= alone.interval[:, 1]).all()


def test_the_stated_error_of_a_gap_is_that_of_paired_examples():
    net, data = network()
    loss = slt.supervised(net, lambda o, y: F.cross_entropy(o, y, reduction="none"))
    found = CC(loss, data, "prune", 0.1, levels=[0.2, 0.5])
    x, y = (torch.from_numpy(data.fields[k]) for k in ("inputs", "targets"))
    weights = {k: v.clone() for k, v in loss.params.items()}
    flat = torch.cat([v.abs().flatten() for v in weights.values() if v.ndim == 2]).sort().values
    bound = flat[round(0.5 * len(flat)) - 1]
    for value in weights.values():
        if value.ndim == 2:
            value[value.abs() <= bound] = 0
    rise = loss.evaluate(weights, {"inputs": x, "targets": y}) - loss.evaluate(
        loss.params, {"inputs": x, "targets": y}
    )
    assert float(found.gap[1]) == pytest.approx(float(rise.mean()), abs=1e-6)
    assert float(found.gap_stderr[1]) == pytest.approx(float(rise.std() / 40**0.5), rel=1e-4)


def test_a_language_model_with_padding():
    model, tokenizer = slt.load("tiny-lm", revision="step633")
    data = slt.token_probe("two", [list(range(30)), list(range(5, 17))])
    found = CC(slt.causal_lm(model), data, "quantize", [0.1, 1.0], levels=[255, 31, 7, 3])
    assert found.sizes == {"level": 4, "epsilon": 2, "bound": 2}
    # 29 + 11 losses count, however long the padding is.
    plain = slt.causal_lm(model).evaluate(slt.causal_lm(model).params, data.tensors("cpu"))
    assert int((~plain.isnan()).sum()) == 40
    assert float(found.init_loss) == pytest.approx(float(plain.nanmean()), rel=1e-5)
    assert found.gap.values[-1] > found.gap.values[0]
    assert found.critical.sel(epsilon=0.1).ndim == 0


def test_pruned_heads_are_those_whose_outputs_are_zero():
    model, tokenizer = slt.load("tiny-lm", revision="step633")
    loss = slt.causal_lm(model)
    data = slt.token_probe("one", [list(range(40))])
    found = CC(loss, data, "heads", 0.1, levels=[0.0, 1 / 8, 0.5], repeats=2, seed=3)
    assert float(found.gap[0]) == pytest.approx(0, abs=1e-6)
    expected = []
    for repeat in range(2):
        order = torch.randperm(8, generator=torch.Generator().manual_seed(3000 + repeat)).tolist()
        layer, head = divmod(order[0], 4)
        weights = {k: v.clone() for k, v in loss.params.items()}
        width = slice(32 * head, 32 * head + 32)  # what the head writes through
        weights[f"model.layers.{layer}.attn.o_proj.weight"][:, width] = 0
        expected.append(float(loss.evaluate(weights, data.tensors("cpu")).nanmean()))
    assert float(found.loss[1]) == pytest.approx(np.mean(expected), rel=1e-5)


def test_parameters_are_chosen_by_name():
    net, data = network()
    loss = slt.supervised(net, lambda o, y: F.cross_entropy(o, y, reduction="none"))
    sizes = {
        which: CC(loss, data, "prune", 0.1, levels=[0.1, 0.2], parameters=which).attrs["weights"]
        for which in ("matrices", "all", "0.*", "0.weight+2.bias")
    }
    assert sizes == {"matrices": 128, "all": 147, "0.*": 96, "0.weight+2.bias": 83}


# Crossings ---------------------------------------------------------------------------------------


def test_a_power_law_is_crossed_where_it_is():
    levels = np.array([100.0, 50.0, 20.0, 10.0, 5.0])
    gap = 7.0 * levels**-2
    for tolerance in (0.005, 0.05, 0.2):
        expected = np.sqrt(7.0 / tolerance)
        assert crossing(levels, gap, tolerance, log=True) == pytest.approx(expected, rel=1e-12)


def test_the_first_crossing_counts_and_what_never_crosses_is_infinite():
    shares = [0.0, 0.25, 0.5, 0.75]
    assert crossing(shares, [0, 0.2, 0.05, 0.3], 0.1, log=False) == pytest.approx(0.125)
    assert crossing(shares, [0, 0, 0, 0.01], 0.1, log=False) == np.inf
    assert crossing(shares, [0.2, 0.3, 0.4, 0.5], 0.1, log=False) == -np.inf
    assert crossing(shares, [0, 0.05, np.nan, np.inf], 0.1, log=False) == 0.5
    grid, _ = crossings([255, 15, 3], [0.0, 0.01, 0.02], [0, 0, 0], [0.1, 1e-9], log=True)
    assert grid[0] == -np.inf  # even the coarsest grid is within the tolerance
    found, _ = crossings([256, 16], [0.0, 0.5], [0, 0], [0.1], log=True, between=False)
    assert found[0] == 256


def test_a_fit_is_what_scipy_says():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(30)
    y = 2 * x + rng.standard_normal(30)
    found = compression_fit(y, {"llc": x, "other": rng.standard_normal(30)})
    line, rank = stats.linregress(x, y), stats.spearmanr(x, y)
    row = found.loc["llc"]
    assert row.r2 == pytest.approx(line.rvalue**2)
    assert row.slope == pytest.approx(line.slope) and row.intercept == pytest.approx(line.intercept)
    assert row.spearman == pytest.approx(rank.statistic)
    assert row.r2_low < row.r2 < row.r2_high and row.spearman_low < row.spearman
    assert found.loc["other"].r2 < 0.3
    again = compression_fit(np.append(y, np.inf), {"llc": np.append(x, 0.0)})
    assert again.loc["llc"].points == 30 and again.loc["llc"].r2 == pytest.approx(row.r2)


def test_torchaos_quantizers_are_as_fine_as_they_say():
    pytest.importorskip("torchao")
    from slt_notebook.models.compression.torchao_schemes import rounded

    w = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    eight, four = rounded(w, "int8", 32), rounded(w, "int4", 32)
    top = w.abs().amax(1, keepdim=True)
    assert ((eight - w).abs() <= 1.01 * top / 254).all()
    group = w.view(32, 2, 32).abs().amax(2, keepdim=True).expand(32, 2, 32).reshape(32, 64)
    assert ((four - w).abs() <= 1.05 * group / 7).all()
    assert len(eight[0].unique()) > len(four[0].unique())
    loss, data, _ = linear()
    found = CC(loss, data, "torchao", [1e-4, 0.5])
    assert float(found.gap[1]) > float(found.gap[0]) >= 0
    assert set(found.critical.values) <= {256.0, 16.0, np.inf, -np.inf}


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda c, d: CC(c, d, "quantise"), "did you mean 'quantize'"),
        (lambda c, d: CC(c, d, "quantize", 0.0), "above 0"),
        (lambda c, d: CC(c, d, "quantize", granulariti="tensor"), "did you mean 'granularity'"),
        (lambda c, d: CC(c, d, "quantize", granularity="row"), "channel"),
        (lambda c, d: CC(c, d, "quantize", levels=[8.5, 4]), "whole numbers"),
        (lambda c, d: CC(c, d, "prune", levels=[0.5, 1.0]), "below 1"),
        (lambda c, d: CC(c, d, "noise", levels=[0.0, 1.0]), "above 0"),
        (lambda c, d: CC(c, d, "noise", repeats=1), "2 or more"),
        (lambda c, d: CC(c, d, "prune", parameters="nope.*"), "names none"),
        (lambda c, d: CC(c, [1, 2]), "a Probe"),
        (lambda c, d: CC(c, d, "heads"), "a model with heads"),
        (lambda c, d: compression_fit([1.0, 2, 3], {"a": [1.0, 2, 3]}), "4 or more"),
        (lambda c, d: compression_fit([1.0, 2, 3, 4], {"a": [1.0, 2, 3]}), "align"),
    ],
)
def test_bad_input_is_refused(call, match):
    loss, data, _ = linear()
    with pytest.raises(InputError, match=match):
        call(loss, data)
