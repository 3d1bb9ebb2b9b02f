"""The bench is right where no clock is needed: FLOP counts, replay, bytes, table, options."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import slt_notebook as slt
from slt_notebook.core.potential import Potential
from tests.bench import __main__ as bench
from tests.bench.parts import batching, device_only, growth, inside, models, products, rounds, table

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def work():
    return models.work("smoke", CPU)


def test_products_of_a_plain_gradient_are_what_torch_counts():
    net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    x = torch.randn(11, 5)
    with products.Recorder() as seen:
        net(x).square().sum().backward()
    net.zero_grad()
    with FlopCounterMode(display=False) as counted:
        net(x).square().sum().backward()
    assert seen.flops == counted.get_total_flops() == 2 * 11 * (2 * 5 * 7 + 3 * 7 * 3)


def test_products_of_the_kit_are_those_of_its_architecture(work):
    """Fused unembedding and attention included, which torch's counter does not see on a CPU."""
    found = products.passes(work)
    width, vocabulary, layers, tokens = 16, 96, 2, 16
    linear = 2 * layers * 4 * width * width * tokens + 2 * width * vocabulary * (tokens - 1)
    attention = layers * 2 * tokens * tokens * 2 * width / 2  # q k and p v, half of them causal
    probe = sum(product.flops for product in found.probe)
    assert probe == 4 * (linear + attention)
    gradient = sum(product.flops for product in found.gradient)
    # Backward: twice every linear map; five products of attention's two.
    assert gradient == 2 * (3 * linear + 3.5 * attention)


def test_a_heads_gradient_asks_for_less(work):
    head, full = (products.passes(work, name, probes=False) for name in ("l1.h1", "full"))
    assert 0 < head.flops < full.flops and head.probe == []


def test_the_replay_does_every_product_with_its_shapes(work):
    found = products.passes(work)
    every = (*found.gradient, *found.probe)
    with products.Recorder() as again:
        products.replay(every, CPU)()
    assert [p.flops for p in again.products[-len(every) :]] == [p.flops for p in every]


def test_the_layout_gives_every_chain_to_one_worker(work, monkeypatch):
    done = []
    monkeypatch.setattr(products, "replay", lambda seen, device: lambda: done.append(1))
    products.alone(work, products.passes(work), chains=5, workers=2)()
    assert len(done) == 5


def test_only_the_outermost_call_counts_as_inside():
    before = Potential.loss_and_grad
    with inside.watched() as seen:
        assert Potential.loss_and_grad is not before
        outer = seen.wrap(lambda: seen.wrap(lambda: 1, worker=False)(), worker=True)
        assert outer() == 1 and seen.workers == 1
    assert Potential.loss_and_grad is before


@pytest.mark.parametrize(
    ("draws", "lengths"), [(2, (2,)), (9, (9,)), (10, (5, 10)), (40, (20, 40))]
)
def test_a_further_draw_is_told_only_where_both_lengths_are_long_enough(draws, lengths):
    assert rounds.lengths_of(draws) == lengths


def spent(wall, cpu=1.0, inside=0.5, workers=1):
    return rounds.Spent(wall, cpu, 10_000_000, inside, workers)


def test_medians_of_calls_and_of_differences():
    found = rounds.summary({
        5: [spent(2.0), spent(3.0), spent(2.5)],
        10: [spent(4.0, 2.0, 1.5), spent(6.0, 2.0, 1.5), spent(5.0, 2.0, 1.5)],
    })  # fmt: skip
    assert found["call"]["wall"] == 5.0
    assert found["draw"]["wall"] == pytest.approx(0.5) and found["draw"]["cpu"] == pytest.approx(
        0.2
    )
    assert found["idle"] == pytest.approx(1 - 0.2 / 0.5)


def test_a_side_that_fails_is_left_out_and_says_why(tmp_path):
    def bad(draws, folder):
        raise RuntimeError("cannot do this")

    lines = []
    found = rounds.alternate({"a": lambda d, f: None, "b": bad}, 2, 1, CPU, say=lines.append)
    assert found["b"] == {"error": "RuntimeError: cannot do this"} and "call" in found["a"]
    assert "b left out" in lines[0]


def test_the_table_shows_ratios_and_reasons():
    ours = rounds.summary({5: [spent(2.0)], 10: [spent(4.0)]})
    theirs = rounds.summary({5: [spent(3.0)], 10: [spent(6.0)]})
    case = {
        "name": "smoke 4c full probe", "parameters": 1_000_000, "bound": 14,
        "share_of_peak": 0.25, "activations": 4_000_000,
        "sides": {"slt-notebook": ours, "devinterp": theirs, "posteriors": {"error": "no"}},
    }  # fmt: skip
    lines = table.rows(case)
    head = dict(zip(table.COLUMNS, lines[1], strict=True))
    assert head["× kit call"] == "1.5" and head["× kit draw"] == "1.5"
    assert dict(zip(table.COLUMNS, lines[0], strict=True))["copies"] == "2.5"
    shown = table.text(lines)
    assert "left out: no" in shown and shown.count("\n") == 4
    assert "allowed 60 (14 copies of 4 and activations of 4" in table.memory(case)


def test_overlapping_kernels_count_once():
    assert device_only.union([(0, 2), (1, 3), (5, 6), (5, 5.5)]) == 4


def test_the_crossover_is_interpolated_in_logarithms():
    point = lambda work, ratio: {"work": work, "batched_over_looped": ratio}
    assert batching.crossover([point(1e4, 0.5), point(1e6, 2.0)]) == pytest.approx(1e5)
    assert batching.crossover([point(1e4, 0.5), point(1e6, 0.9)]) is None
    assert batching.crossover([point(1e3, 2.0), point(1e4, 0.5), point(1e6, 2.0)]) == pytest.approx(
        1e5
    )
    assert batching.crossover([point(1e3, 0.9), point(1e4, 1.1), point(1e6, 0.9)]) is None


def test_the_chart_of_the_growth_curves(tmp_path):
    found = [
        {"curve": c, "value": float(v), "seconds": s, "cpu": s, "peak_mb": 10.0 * v}
        for c in growth.CURVES
        for v, s in ((1, 2.0), (2, 3.5))
    ]
    growth.chart(found, "about <machine>", tmp_path / "growth.svg")
    svg = (tmp_path / "growth.svg").read_text()
    assert svg.startswith("<svg") and "probe tokens" in svg and "about &lt;machine&gt;" in svg


def test_both_sides_read_the_same_work(work):
    assert len(work.data) == 4 * work.size.batch and len(work.probe) % work.size.batch == 0
    assert work.chosen(False) is None and np.array_equal(work.chosen(True), work.probe)
    loss = slt.causal_lm(work.model)
    loss.check(slt.token_probe("data", work.data))


def test_options_are_checked_before_work_starts(capsys):
    with pytest.raises(SystemExit):
        bench.main(["--sizes", "7b"])
    assert "got 7b; known are" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            bench.main(["--device", "cuda"])
        assert "no CUDA device here" in capsys.readouterr().err
