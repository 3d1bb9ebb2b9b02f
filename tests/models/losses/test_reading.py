"""Any module from token ids to logits is a causal LM, however it is called."""

from importlib.metadata import version

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn
from torch.nn import functional as F

import slt_notebook as slt

SIZES = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24}
RUN = {
    "chains": 2, "draws": 3, "batch_size": 4, "nbeta": 10.0, "progress": False,
    "kernel": slt.SGLD(step_size=1e-4),
}  # fmt: skip
IDS = torch.tensor(np.random.default_rng(0).integers(0, 40, (8, 10)))
DATA = slt.token_probe("d", IDS)


def gpt2():
    torch.manual_seed(0)
    return hf.GPT2LMHeadModel(hf.GPT2Config(bos_token_id=1, eos_token_id=2, **SIZES))


class Answers(nn.Module):
    """A GPT-2 that is called and that answers in another way."""

    def __init__(self, answer):
        super().__init__()
        self.model, self._answer = gpt2(), answer

    def logits(self, ids):
        return self.model(input_ids=ids).logits

    def forward(self, idx, targets=None):
        return self._answer(self, idx, targets)


def loss_of(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def as_nanogpt(model, ids, targets):
    """Logits of all positions with targets only, as in nanoGPT."""
    logits = model.logits(ids)
    if targets is None:
        return logits[:, [-1]], None
    return logits, loss_of(logits, targets)


WAYS = {
    "plain": lambda m, ids, targets: m.logits(ids),
    "tuple": lambda m, ids, targets: (m.logits(ids), loss_of(m.logits(ids), ids)),
    "dict": lambda m, ids, targets: {"hidden": torch.zeros(2, 3), "logits": m.logits(ids)},
    "dict of one": lambda m, ids, targets: {"out": m.logits(ids)},
    "object": lambda m, ids, targets: m.model(input_ids=ids),
    "log-probabilities": lambda m, ids, targets: m.logits(ids).log_softmax(-1),
    "nanogpt": as_nanogpt,
}


@pytest.fixture(scope="module")
def expected():
    loss = slt.causal_lm(gpt2())
    return loss.evaluate(loss.params, DATA.tensors("cpu")).numpy()


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_answer(way, expected):
    loss = slt.causal_lm(Answers(WAYS[way]))
    assert loss.vocabulary == 40
    np.testing.assert_allclose(
        loss.evaluate(loss.params, DATA.tensors("cpu")), expected, rtol=1e-4, atol=1e-5
    )
    assert slt.sample(loss, DATA, probes=[DATA], **RUN).finished


def test_a_forward_of_the_users(expected):
    class Other(Answers):
        def forward(self, tokens, mask):
            return self.logits(tokens) * mask

    model = Other(None)
    with pytest.raises(slt.InputError, match="forward=lambda model, ids: logits"):
        slt.causal_lm(model)
    loss = slt.causal_lm(model, forward=lambda m, ids: m(ids, mask=1.0))
    np.testing.assert_allclose(
        loss.evaluate(loss.params, DATA.tensors("cpu")), expected, rtol=1e-4, atol=1e-5
    )
    found = slt.sample(loss, DATA, **RUN).tree["sampling"].loss.values
    same = slt.sample(slt.causal_lm(gpt2()), DATA, **RUN).tree["sampling"].loss.values
    np.testing.assert_allclose(found, same, rtol=1e-3)


def test_probabilities_are_no_logits():
    with pytest.raises(slt.InputError, match="returns probabilities"):
        slt.causal_lm(Answers(lambda m, ids, targets: m.logits(ids).softmax(-1)))


def test_a_bigram_table():
    """The oracle: losses of a table of logits are log-softmax entries of it."""
    table = nn.Embedding(7, 7)
    loss = slt.causal_lm(table)
    data = slt.token_probe("d", [[0, 3, 6], [2, 2, 5]])
    found = loss.evaluate(loss.params, data.tensors("cpu"))
    log_p = -F.log_softmax(table.weight.detach(), 1)
    assert torch.allclose(found, log_p[[[0, 3], [2, 2]], [[3, 6], [2, 5]]])


# Real libraries -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_a_hooked_transformer_has_the_losses_of_the_model_it_was_made_from():
    lens = pytest.importorskip("transformer_lens")
    if int(version("transformer-lens").split(".")[0]) >= 4:
        pytest.skip("HookedTransformer was removed in TransformerLens 4")
    config = lens.HookedTransformerConfig(
        n_layers=2, d_model=16, n_ctx=24, d_head=8, n_heads=2, d_vocab=40, act_fn="gelu_new",
        normalization_type="LN", seed=0, device="cpu",
    )  # fmt: skip
    model, source = lens.HookedTransformer(config), gpt2()
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    model.load_state_dict(convert_gpt2_weights(source, config), strict=False)
    loss, plain = slt.causal_lm(model), slt.causal_lm(source)
    assert loss.longest == 24
    batch = DATA.tensors("cpu")
    np.testing.assert_allclose(
        loss.evaluate(loss.params, batch), plain.evaluate(plain.params, batch), rtol=1e-4
    )
    run = slt.sample(loss, DATA, **RUN)
    assert run.finished and run.memory.fit.chains == 2


@pytest.mark.filterwarnings("ignore")
def test_a_transformer_bridge_is_the_model_that_it_bridges(expected, tmp_path):
    bridges = pytest.importorskip("transformer_lens.model_bridge")
    source = gpt2()
    source.save_pretrained(tmp_path)
    _, tokenizer = slt.load("tiny-lm")
    bridge = bridges.TransformerBridge.boot_transformers(
        str(tmp_path), hf_model=source, tokenizer=tokenizer, device="cpu"
    )
    loss = slt.causal_lm(bridge)
    found = loss.evaluate(loss.params, DATA.tensors("cpu"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert slt.sample(loss, DATA, **RUN).memory.fit.chains == 2
    names = set(slt.components(bridge).index)
    # Its attentions are not found; then nothing may be called what it is not.
    assert {"embed", "l0", "l1"} <= names and ("l0.mlp" in names) == ("l0.attn" in names)


@pytest.mark.filterwarnings("ignore")
def test_lora_by_peft_samples_the_adapters():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(gpt2(), peft.LoraConfig(r=2, target_modules=["c_attn"]))
    loss = slt.causal_lm(model)
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    run = slt.sample(loss, DATA, **RUN)
    assert run.tree["sampling"].attrs["space_dim"] == adapters == 2 * (16 * 2 + 2 * 48)
    assert slt.components(model).parameters["lora"] == adapters
    lora = slt.sample(loss, DATA, components="lora", **RUN).tree["sampling"].loss
    np.testing.assert_array_equal(run.tree["sampling"].loss, lora)


@pytest.mark.filterwarnings("ignore")
def test_nnsight_is_unwrapped(expected):
    nnsight = pytest.importorskip("nnsight")
    loss = slt.causal_lm(nnsight.NNsight(gpt2()))
    found = loss.evaluate(loss.params, DATA.tensors("cpu"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
