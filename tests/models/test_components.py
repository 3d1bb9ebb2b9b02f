"""Components of real architectures, derived and then held against what they must be."""

import numpy as np
import pytest
import torch
import transformers as hf
from torch.func import functional_call

import slt_notebook as slt
from slt_notebook.errors import ComponentError
from slt_notebook.models.components import ownership
from slt_notebook.models.components.catalog import parts
from slt_notebook.models.components.patterns import canonical

BASE = {
    "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2 = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 2}
PAIRS = {**BASE, "num_key_value_heads": 2}
WIDE = {**PAIRS, "head_dim": 16}
LOCAL = {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
ARCHITECTURES = {
    "gpt2": GPT2,
    "gpt_neo": {**BASE, **LOCAL},
    "gpt_neox": BASE,
    "gptj": {**GPT2, "rotary_dim": 4},
    "llama": PAIRS,
    "mistral": {**BASE, "num_key_value_heads": 4},
    "qwen2": {**PAIRS, "tie_word_embeddings": True},
    "qwen3": WIDE,
    "gemma": {**WIDE, "num_key_value_heads": 1},
    "gemma2": WIDE,
    "phi": BASE,
    "phi3": {**PAIRS, "pad_token_id": 0},
    "mpt": {"vocab_size": 97, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
    "bloom": {"vocab_size": 97, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon": {**BASE, "multi_query": True, "new_decoder_architecture": False, "alibi": False},
    "opt": {**BASE, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "olmo2": BASE,
    "gpt_bigcode": {**GPT2, "multi_query": True},
}
GROUPED = {"llama": 2, "qwen2": 2, "qwen3": 2, "gemma": 1, "gemma2": 2, "phi3": 2, "falcon": 1}
GROUPED["gpt_bigcode"] = 1


def build(kind):
    config = hf.AutoConfig.for_model(kind, **ARCHITECTURES[kind])
    torch.manual_seed(0)
    return hf.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def model(request):
    return build(request.param)


def coverage(model, names):
    found = parts(model)
    counts = {n: torch.zeros(p.shape, dtype=torch.int8) for n, p in model.named_parameters()}
    for name in names:
        for piece in found[name].pieces:
            counts[piece.name][piece.slices] += 1
    return counts


def test_heads_and_what_they_share_tile_the_attention_once(model):
    kind = model.config.model_type
    table = slt.components(model)
    for layer in (0, 1):
        here = table[(table.layer == layer)]
        heads = here[here.kind == "head"]
        assert len(heads) == 4 and heads.parameters.nunique() == 1
        groups = here[here.kind == "keys and values"]
        assert len(groups) == GROUPED.get(kind, 0)
        names = [*heads.index, *groups.index, *here[here.kind == "shared"].index]
        counts = coverage(model, names)
        whole = coverage(model, [f"l{layer}.attn"])
        assert all(torch.equal(counts[n], whole[n]) for n in counts)
        both = coverage(model, [n for n in here.index if n in (f"l{layer}.attn", f"l{layer}.mlp")])
        rest = coverage(model, [n for n in here.index if n == f"l{layer}.norm"])
        layers = coverage(model, [f"l{layer}"])
        assert all(torch.equal(both[n] + rest[n], layers[n]) for n in counts)
    assert (table.loc["l0.h0", "note"] != "") == (kind == "olmo2")


def test_everything_is_named_once(model):
    table = slt.components(model)
    tied = "unembed" in table.index and "tied" in table.loc["unembed", "note"]
    alone = ["embed", "positions", "final_norm", "rest", *([] if tied else ["unembed"])]
    counts = coverage(model, [n for n in (*alone, "l0", "l1") if n in table.index])
    assert all(bool((c == 1).all()) for c in counts.values())
    assert table.loc["full", "parameters"] == sum(p.numel() for p in model.parameters())


def test_a_zeroed_output_silences_its_head_alone(model):
    """Dead-head test: with the head's part of the output projection at 0, its other weights have no
    gradient at all, and those of the other heads do."""
    found = parts(model)
    named = {n: p.detach().clone() for n, p in model.named_parameters()}
    ids = torch.arange(24).reshape(2, 12)
    last = ("o_proj", "c_proj", "out_proj", "dense", "attn_out", "out", "o")
    for piece in found["l1.h2"].pieces:
        if piece.name.split(".")[-2] in last:
            named[piece.name][piece.slices] = 0
    leaves = {n: v.requires_grad_() for n, v in named.items()}
    out = functional_call(model, leaves, (), {"input_ids": ids, "use_cache": False}).logits
    loss = out.float().log_softmax(-1)[..., 5].mean()
    found_grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    grads = dict(zip(leaves, found_grads, strict=True))

    def size(name):
        inner = [p for p in found[name].pieces if p.name.split(".")[-2] not in last]
        values = [grads[p.name][p.slices].abs().max() for p in inner if grads[p.name] is not None]
        return float(max(values))

    dead, living = size("l1.h2"), size("l1.h1")
    if model.config.model_type == "olmo2":  # its norms carry one head's weights to the others
        assert 0 < dead < 0.1 * living
    else:
        assert dead <= 1e-9 < living


@pytest.mark.parametrize("pattern", ["l0.h1", "l*.h*", "l0.attn+l1.mlp", "l1.h0+l1.h2", "embed"])
def test_a_space_moves_what_it_names_and_nothing_else(pattern):
    model = build("gpt2")
    loss = slt.causal_lm(model)
    found = parts(loss)
    space = found.space(pattern)
    center = space.flatten(loss.params)
    moved = space.unflatten(center + 1, loss.params)
    changed = sum(int((moved[n] != v).sum()) for n, v in loss.params.items())
    assert changed == space.dim == found.resolve(pattern).size


def test_spellings_of_the_field():
    assert [canonical(n) for n in ("l0h1", "l0 mlp", "l1_attn", "l0g0")] == [
        "l0.h1", "l0.mlp", "l1.attn", "l0.g0"
    ]  # fmt: skip
    found = parts(build("llama"))
    assert found.resolve("l0h1") == found["l0.h1"]
    assert found.resolve("l0g1").size == found["l0.kv1"].size + 2 * found["l0.h2"].size
    assert found.expand("l*.kv*") == ["l0.kv0", "l0.kv1", "l1.kv0", "l1.kv1"]
    assert found.expand("l0.h0 + l0.h1") == ["l0.h0+l0.h1"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("l0.h9", r"did you mean .*'l0.h\d'.*slt.components"),
        ("l0.attn+l0.h1", "'l0.attn' and 'l0.h1' overlap"),
        ("l0.h1+l0h1", "twice"),
        ("embed+unembed", "tied: one weight under two names"),
        ("param:nothing", "matches nothing"),
        ("", "slt.components"),
    ],
)
def test_bad_names_are_refused(pattern, message):
    with pytest.raises(ComponentError, match=message):
        parts(build("gpt2")).space(pattern)


def test_tied_weights_are_stated():
    table = slt.components(build("gpt2"))
    assert "tied" in table.loc["embed", "note"] and "tied" in table.loc["unembed", "note"]
    assert table.loc["embed", "parameters"] == table.loc["unembed", "parameters"]


def test_tiny_lm_and_any_module():
    model, _ = slt.load("tiny-lm")
    before = {n: p.clone() for n, p in model.named_parameters()}
    table = slt.components(model)
    heads = [f"l{i}.h{j}" for i in (0, 1) for j in range(4)]
    assert list(table[table.kind == "head"].index) == heads
    assert table.loc["l0.h0", "parameters"] == 4 * 32 * 128
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    assert list(slt.components(net).index) == ["full", *(f"param:{n}" for n in net.state_dict())]
    loss = slt.loss_fn({"w": np.zeros(3)}, lambda p, b: b["x"] @ p["w"])
    assert parts(loss).space("param:w").dim == 3


@pytest.mark.parametrize(
    ("patterns", "layers"),
    [
        (["full"], []),
        (["embed", "l0", "l1.attn", "l*.mlp", "l0.attn+l1.mlp", "param:*attn*"], []),
        (["l0+l1", "l?.attn", "final_norm", "l*.norm"], []),
        (["l1h2"], [1]),
        (["l1.h*", "l1.h0+l1.h3", "l1.shared"], [1]),
        (["l0.mlp+l0.h1"], [0]),
        (["*.h0"], [0, 1]),
        (["l*"], [0, 1]),
    ],
)
def test_heads_are_looked_for_where_they_are_asked_for(patterns, layers, monkeypatch):
    asked = []
    derive = ownership.derive
    monkeypatch.setattr(
        ownership,
        "derive",
        lambda m, prefix, *rest: asked.append(prefix) or derive(m, prefix, *rest),
    )
    found = parts(build("gpt2"))
    for pattern in patterns * 2:
        names = found.expand(pattern)
        assert all(found.space(name).dim == found.resolve(name).size for name in names)
    assert asked == [f"transformer.h.{layer}.attn" for layer in layers]
    everything = found.components
    assert list(everything) == list(slt.components(build("gpt2")).index)
    layer = ["", ".attn", ".h0", ".h1", ".h2", ".h3", ".shared", ".mlp", ".norm"]
    assert list(everything) == [
        "full", "embed", "positions", *(f"l{i}{part}" for i in (0, 1) for part in layer),
        "final_norm", "unembed",
    ]  # fmt: skip
    assert len(set(asked)) == 2


def test_a_wrong_name_looks_at_no_other_layer(monkeypatch):
    monkeypatch.setattr(ownership, "derive", lambda *_: pytest.fail("looked for heads"))
    found = parts(build("gpt2"))
    for pattern, near in (("l7.h1", "l1.h1"), ("l0.atn", "l0.attn"), ("embd", "embed")):
        with pytest.raises(ComponentError, match=f"did you mean.*'{near}'"):
            found.resolve(pattern)


def test_an_attention_that_cannot_be_told_apart_hinders_nobody_else():
    """Heads that do not divide the attention: only who asks for them is told."""
    model = build("gpt2")
    model.config.n_head = 5
    found = parts(model)
    assert found.space("l0.attn+l1.mlp").dim == found["l0.attn"].size + found["l1.mlp"].size
    with pytest.raises(ComponentError, match="5 heads"):
        found.expand("l0.h*")
