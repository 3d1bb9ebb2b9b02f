"""Losses from modules and functions, and the door to models."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import slt_notebook as slt

PER_EXAMPLE = functools.partial(F.cross_entropy, reduction="none")


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return slt.array_probe("d", rng.standard_normal((20, 4)), rng.integers(0, 3, 20))


def test_supervised_is_the_eval_loss_and_leaves_the_module_alone(module, data):
    module.train()
    loss = slt.supervised(module, PER_EXAMPLE)
    run = slt.sample(
        loss, data, probes=[data], chains=2, draws=3, batch_size=8, nbeta=5.0, progress=False
    )
    assert module.training and module[1].num_batches_tracked == 0
    module.eval()
    inputs = torch.from_numpy(data.fields["inputs"])
    with torch.no_grad():
        expected = PER_EXAMPLE(module(inputs), torch.from_numpy(data.fields["targets"]))
    np.testing.assert_allclose(run.tree["probe/d"].init_loss, expected, rtol=1e-5)


def test_a_criterion_that_averages_is_refused(module, data):
    with pytest.raises(slt.InputError, match="reduction='none'"):
        slt.sample(slt.supervised(module, F.cross_entropy), data, progress=False, batch_size=4)


def test_a_model_that_answers_twice_differently(data):
    generator = torch.Generator()

    def noisy(params, batch):
        return params["w"] * torch.rand(len(batch["inputs"]), generator=generator)

    with pytest.raises(slt.NotReproducible, match="twice"):
        slt.sample(
            slt.loss_fn({"w": torch.ones(())}, noisy), data, probes=[data], batch_size=4,
            progress=False,
        )  # fmt: skip


def test_losses_that_are_not_finite_at_the_center(data):
    bad = slt.loss_fn({"w": torch.zeros(1)}, lambda p, b: (p["w"] - 1).log() + b["inputs"][:, 0])
    with pytest.raises(slt.InputError, match=r"not finite at w\*.*'d/0'"):
        slt.sample(bad, data, batch_size=4, progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chains": 0}, "chains=0"),
        ({"chains": [1, 1]}, "distinct"),
        ({"draws": 0}, "draws=0"),
        ({"burnin": -1}, "burnin=-1"),
        ({"thin": 0}, "thin=0"),
        ({"batch_size": 21}, "at most 20"),
        ({"kernel": slt.SGLD(-1e-3)}, "positive and finite"),
        ({"kernel": slt.SGLD((1e-3, 1e-3))}, "2 values of step_size for 4 chains"),
        ({"kernel": "sgld"}, "a kernel such as"),
        ({"nbeta": -1.0}, "at least 0"),
        ({"gamma": float("nan")}, "finite"),
        ({"batches": "both"}, "'per_chain' or 'shared'"),
        ({"num_chains": 4}, "did you mean 'chains'"),
        ({"components": "l0.h1"}, "one of full, param:0.weight"),
        ({"components": "param:3.wieght"}, "did you mean '3.weight'"),
        ({"device": "quantum"}, "device='quantum'"),
        ({"executor": 3}, "submit"),
    ],
)
def test_bad_settings_are_refused_before_any_work(settings, message, module, data, tmp_path):
    path = tmp_path / "run.zarr"
    loss = slt.supervised(module, PER_EXAMPLE)
    with pytest.raises(slt.InputError, match=message):
        slt.sample(loss, data, **{"batch_size": 4, "progress": False, "store": path, **settings})
    assert not path.exists()


def test_the_wrong_things_in_the_right_places(module, data):
    loss = slt.supervised(module, PER_EXAMPLE)
    with pytest.raises(slt.InputError, match=r"slt\.text_probe"):
        slt.sample(loss, data.fields["inputs"])
    with pytest.raises(slt.InputError, match=r"slt\.supervised"):
        slt.sample(module, data)
    with pytest.raises(slt.InputError, match=r"slt\.array_probe"):
        slt.sample(loss, slt.token_probe("x", [[1, 2]]))
    with pytest.raises(slt.InputError, match="distinct names"):
        slt.sample(loss, data, probes=[data, data], batch_size=4)
    with pytest.raises(slt.InputError, match="at least one"):
        slt.loss_fn({}, lambda p, b: None)


def test_a_probe_that_cannot_fit_says_how_much_it_would_take(module, data, monkeypatch):
    from slt_notebook.runs.plan import partition as plan

    monkeypatch.setattr(plan, "free_memory", lambda device: 1000)
    with pytest.raises(slt.InputError, match=r"needs about .* MB: .* for probe evaluation"):
        slt.sample(
            slt.supervised(module, PER_EXAMPLE), data, probes=[data], batch_size=4, progress=False
        )


class TestLoad:
    def test_every_checkpoint_of_the_packaged_model_loads(self):
        steps = slt.revisions("tiny-lm")
        assert steps[0] == "step0" and len(steps) >= 12
        assert [int(s[4:]) for s in steps] == sorted(int(s[4:]) for s in steps)
        model, tokenizer = slt.load("tiny-lm", revision=steps[3])
        assert model.config.model_type == "slt_tiny_lm" and len(tokenizer) == 1024
        assert not model.training

    def test_the_last_one_is_the_default_and_the_best(self):
        first, tokenizer = slt.load("tiny-lm", revision="step0")
        last, _ = slt.load("tiny-lm")
        texts = {k: v[:1] for k, v in slt.probe_texts("tiny-lm").items()}
        data = slt.text_probe("p", texts, tokenizer)
        values = []
        for model in (first, last):
            loss = slt.causal_lm(model)
            values.append(float(loss.evaluate(loss.params, data.tensors("cpu")).nanmean()))
        assert values[0] == pytest.approx(np.log(1024), abs=0.3) and values[1] < 3.6

    def test_a_saved_folder_loads_back(self, tmp_path):
        model, tokenizer = slt.load("tiny-lm")
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        again, _ = slt.load(tmp_path)
        for a, b in zip(model.parameters(), again.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_unknown_names(self, tmp_path):
        with pytest.raises(slt.InputError, match=r"did you mean 'step0'"):
            slt.load("tiny-lm", revision="step00")
        with pytest.raises(slt.InputError, match=r"without a config\.json"):
            slt.load(tmp_path)
        with pytest.raises(slt.InputError, match="tiny-lm"):
            slt.revisions("tinylm")


def test_tiny_lm_refuses_long_texts():
    model, _ = slt.load("tiny-lm")
    with pytest.raises(ValueError, match="at most 128"):
        model(torch.zeros(1, 129, dtype=torch.long))
