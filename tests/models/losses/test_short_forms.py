"""Short forms of `supervised`, and encoder-decoder models: the losses of their formulas."""

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn
from torch.nn import functional as F

import slt_notebook as slt

RNG = np.random.default_rng(0)
X = torch.tensor(RNG.standard_normal((8, 3)), dtype=torch.float32)
RUN = {
    "chains": 2, "draws": 3, "batch_size": 4, "nbeta": 5.0, "progress": False,
    "kernel": slt.SGLD(step_size=1e-5),
}  # fmt: skip


def init_losses(loss, data):
    return slt.sample(loss, data, probes=[data], **RUN).tree[f"probe/{data.name}"].init_loss.values


def test_a_classifier():
    net, y = nn.Linear(3, 5), RNG.integers(0, 5, 8)
    expected = F.cross_entropy(net(X), torch.tensor(y), reduction="none").detach()
    data = slt.array_probe("d", X, y)
    np.testing.assert_allclose(init_losses(slt.classifier(net), data), expected, rtol=1e-5)
    with pytest.raises(slt.InputError, match=r"logits \[example, class\]"):
        init_losses(slt.classifier(nn.Sequential(net, nn.Unflatten(1, (5, 1)))), data)


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regressor(outputs):
    net = nn.Linear(3, outputs)
    y = RNG.standard_normal((8, outputs)).astype("f4")
    expected = ((net(X).detach() - torch.tensor(y)) ** 2).sum(1) / (2 * 0.5**2)
    loss = slt.regressor(net, noise="0.5")
    found = init_losses(loss, slt.array_probe("d", X, y))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    if outputs == 1:  # targets without the axis of length 1
        found = init_losses(loss, slt.array_probe("d", X, y[:, 0]))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    else:  # a difference that broadcasts would be that of all pairs
        with pytest.raises(slt.InputError, match="equal shapes"):
            init_losses(loss, slt.array_probe("d", X, y[:, 0]))
    with pytest.raises(slt.InputError, match="noise=0"):
        slt.regressor(net, noise=0)


def test_a_token_classifier():
    net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3))
    x, y = RNG.integers(0, 9, (8, 5)), RNG.integers(0, 3, (8, 5))
    y[:, 3:] = -100
    logits = net(torch.tensor(x)).detach()
    expected = F.cross_entropy(logits.transpose(1, 2), torch.tensor(y), reduction="none")
    data = slt.array_probe("d", x, y)
    found = init_losses(slt.token_classifier(net), data)
    np.testing.assert_allclose(found[:, :3], expected[:, :3], rtol=1e-5)
    assert np.isnan(found[:, 3:]).all() and found.shape == (8, 5)
    run = slt.sample(slt.token_classifier(net), data, probes=[data], **RUN)
    gain = run.tree["sampling"].loss.values - run.tree["sampling"].init_loss.values
    assert np.isfinite(gain).all() and float(slt.llc(run)["mean"]) < 1


SMALL = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}


def t5(seed=0):
    torch.manual_seed(seed)
    return hf.T5ForConditionalGeneration(hf.T5Config(**SMALL, decoder_start_token_id=0))


def bart():
    torch.manual_seed(0)
    return hf.BartForConditionalGeneration(
        hf.BartConfig(vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1,
                      encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
                      decoder_ffn_dim=32, max_position_embeddings=32, decoder_start_token_id=2,
                      bos_token_id=0, eos_token_id=2, pad_token_id=1)
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::slt_notebook.errors.SLTWarning")
@pytest.mark.parametrize(("make", "start"), [(t5, 0), (bart, 2)])
def test_an_encoder_and_decoder_has_the_losses_of_its_library(make, start):
    """Each example alone, without padding, by the library's own loss with labels."""
    model = make().train()
    sources = [RNG.integers(3, 64, n).tolist() for n in (7, 4, 1, 9)]
    targets = [RNG.integers(3, 64, n).tolist() for n in (5, 1, 3, 2)]
    data = slt.pair_probe("d", sources, [[*t, -100] for t in targets], start=start)
    loss = slt.seq2seq_lm(model)
    found = init_losses(loss, data)
    assert model.training
    model.eval()
    for row, (x, y) in zip(found, zip(sources, targets, strict=True), strict=True):
        mean = model(input_ids=torch.tensor([x]), labels=torch.tensor([y])).loss.item()
        counted = row[np.isfinite(row)]
        assert len(counted) == len(y)
        np.testing.assert_allclose(counted.mean(), mean, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::slt_notebook.errors.SLTWarning")
def test_pairs_of_texts_are_shown_by_their_targets(tmp_path):
    _, tok = slt.load("tiny-lm")
    data = slt.pair_probe("d", ["one two", "three"], ["The cat", "sat"], tok, labels=["a", "b"])
    assert "".join(data.strings[int(i)] for i in data.fields["input_ids"][0, 1:]) == "The cat"
    torch.manual_seed(0)
    model = hf.T5ForConditionalGeneration(
        hf.T5Config(**{**SMALL, "vocab_size": len(tok)}, decoder_start_token_id=0)
    )
    run = slt.sample(
        slt.seq2seq_lm(model), data, probes=[data], store=tmp_path / "r.zarr",
        **{**RUN, "batch_size": 2},
    )  # fmt: skip
    probe = slt.open_run(run.path)["probe/d"]
    assert "".join(probe.token_text.values[0]) == "The cat"
    assert (
        probe.first_text.values[0] == "<|endoftext|>"
        and np.isfinite(probe.loss.values[:, :, 0, 0]).all()
    )


def test_what_is_no_encoder_and_decoder_is_refused():
    gpt = hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    )
    for model in (gpt, nn.Linear(3, 3)):
        with pytest.raises(slt.InputError, match=r"slt.causal_lm|encoder-decoder"):
            slt.seq2seq_lm(model)
    with pytest.raises(slt.InputError, match=r"slt.pair_probe\(..., start=0\)"):
        slt.sample(slt.seq2seq_lm(t5()), slt.pair_probe("d", [[3]], [[4]], start=5), **RUN)
    with pytest.raises(slt.InputError, match="field"):
        slt.sample(slt.seq2seq_lm(t5()), slt.token_probe("d", [[3, 4]]), **RUN)
