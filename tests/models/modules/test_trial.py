"""What users bring as modules: sampled as it is, or refused in the kit's words before any work."""

import functools
import pickle
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.core.modes import plain_modes
from slt_notebook.errors import ComponentError, SLTWarning

CE = functools.partial(F.cross_entropy, reduction="none")
MSE = lambda out, y: (out - y).square().flatten(1).sum(1)
RNG = np.random.default_rng(0)
X = torch.tensor(RNG.standard_normal((16, 3)), dtype=torch.float32)
Y = torch.tensor(RNG.integers(0, 5, 16))
RUN = {
    "chains": 2, "draws": 4, "batch_size": 4, "nbeta": 10.0, "progress": False,
    "kernel": slt.SGLD(step_size=1e-4),
}  # fmt: skip


def data(x=X, y=Y):
    return slt.array_probe("d", x, y)


def draws(module, criterion=CE, x=X, y=Y, **more):
    """Losses of a run, and the run; the module must be left bit-equal."""
    before = {k: v.detach().clone() for k, v in module.state_dict().items()}
    modes = [m.training for m in module.modules()]
    run = slt.sample(slt.supervised(module, criterion), data(x, y), **{**RUN, **more})
    after = module.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert modes == [m.training for m in module.modules()]
    return run.tree["sampling"]["loss"].values, run


def net(seed=1, *between):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), *between, nn.Tanh(), nn.Linear(8, 5))


class Around(nn.Module):
    """A network whose forward pass is given, around the one that `net` makes."""

    def __init__(self, forward):
        super().__init__()
        self.inner = net()
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


@pytest.fixture(scope="module")
def plain():
    return draws(net())[0]


# Modules that vmap cannot take --------------------------------------------------------------------


class Classic(torch.autograd.Function):
    """The square, as a classic autograd function with one output."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


def recomputed(module, x):
    hidden = checkpoint(module.inner[0], x, use_reentrant=False)
    return module.inner[2](checkpoint(module.inner[1], hidden, use_reentrant=False))


def counting(module, x):
    module.calls = getattr(module, "calls", 0) + 1
    module.register_buffer("seen", torch.zeros(())) if not hasattr(module, "seen") else None
    module.seen += 1
    return module.inner(x)


HARD = {
    "checkpointing": recomputed,
    "an item": lambda m, x: m.inner(x) if m.inner(x).sum().item() < 1e9 else x,
    "a branch": lambda m, x: m.inner(x) if m.inner(x).norm() > 0 else x,
    "a buffer": counting,
    "numpy": lambda m, x: m.inner(x) * float(np.ones(1)[0] + 0 * m.inner(x).detach().numpy().sum()),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("chains", [1, 2])
def test_a_module_that_vmap_cannot_take_draws_the_same(kind, chains, plain):
    module = Around(HARD[kind])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found, run = draws(module, chains=chains)
    np.testing.assert_allclose(found, plain[:chains], rtol=1e-5)
    said = [w for w in seen if issubclass(w.category, SLTWarning)]
    assert len(said) == (chains > 1)
    if chains > 1:
        assert "one chain after the other" in str(said[0].message)
        assert "vmap cannot batch" in run.progress()["message"]
        assert "vmap cannot batch" in run._repr_html_()
        assert "vmap cannot batch" in run.tree.attrs[names.A_NOTES][0]


def test_a_classic_autograd_function_draws_as_its_formula():
    by_hand = Around(lambda m, x: m.inner(x) * m.inner(x))
    with pytest.warns(SLTWarning, match="vmap cannot batch this model .*autograd.Function"):
        found = draws(Around(lambda m, x: Classic.apply(m.inner(x))))[0]
    np.testing.assert_allclose(found, draws(by_hand)[0], rtol=1e-5)


def test_vmap_that_gives_other_numbers_is_not_used():
    """Under vmap there is no batch to see: a forward pass that asks for it gives something else."""

    def forward(module, x):
        under = torch._C._functorch.maybe_current_level() is not None
        return module.inner(x) * (2.0 if under else 1.0)

    with pytest.warns(SLTWarning, match="other numbers"):
        found = draws(Around(forward))[0]
    np.testing.assert_allclose(found, draws(net())[0], rtol=1e-5)


def test_recomputation_sees_the_weights_of_the_chain():
    """Far from w*, where a recomputation with w* would be another gradient."""
    far = {"kernel": slt.SGLD(step_size=3e-2), "gamma": 1.0, "draws": 10}
    expected = draws(net(), **far)[0]
    for chains in (1, 2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SLTWarning)
            found = draws(Around(recomputed), **far, chains=chains)[0]
        np.testing.assert_allclose(found, expected[:chains], rtol=1e-4)


def test_a_language_model_prepared_for_fine_tuning():
    tr = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = tr.GPT2LMHeadModel(
        tr.GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32,
                      bos_token_id=1, eos_token_id=2)
    )  # fmt: skip
    probe = slt.token_probe("d", torch.randint(1, 64, (8, 10)))
    expected = slt.sample(slt.causal_lm(model), probe, **RUN).tree["sampling"]["loss"].values
    model.train()
    with warnings.catch_warnings():  # a younger name says the same since transformers 5
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    found = slt.sample(slt.causal_lm(model), probe, **RUN).tree["sampling"]["loss"].values
    np.testing.assert_array_equal(found, expected)
    assert model.training and all(block.gradient_checkpointing for block in model.transformer.h)


# Losses that do not depend on the weights ---------------------------------------------------------

CUT = {
    "no_grad": torch.no_grad()(lambda m, x: m.inner(x)),
    "detach": lambda m, x: m.inner(x).detach(),
    "numpy": lambda m, x: torch.from_numpy(m.inner(x).detach().numpy()),
    "nothing": lambda m, x: torch.zeros(len(x), 5),
}


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("chains", [1, 2])
def test_a_loss_that_does_not_depend_on_the_weights_is_refused(kind, chains, tmp_path):
    with pytest.raises(slt.InputError, match=r"does not depend on its weights.*no_grad"):
        draws(Around(CUT[kind]), chains=chains, store=tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


def test_a_component_that_the_loss_does_not_depend_on_is_refused():
    module = nn.ModuleDict({"used": nn.Linear(3, 5), "unused": nn.Linear(3, 5)})
    loss = slt.loss_fn(
        dict(module.named_parameters()),
        lambda p, b: CE(F.linear(b["inputs"], p["used.weight"], p["used.bias"]), b["targets"]),
    )
    with pytest.raises(ComponentError, match=r"'param:unused\*', on which the loss does not"):
        slt.sample(loss, data(), components="param:unused*", **RUN)
    assert slt.sample(loss, data(), components="param:used*", **RUN).finished


def test_an_exact_minimum_is_not_refused():
    """All gradients are zero at w* = 0 of w^2 x^2, and rightly so."""
    loss = slt.loss_fn({"w": torch.zeros(3)}, lambda p, b: (b["inputs"] @ p["w"]).square())
    assert slt.sample(loss, data(), **RUN).finished


def test_reentrant_checkpointing_is_refused_with_the_remedy():
    reentrant = Around(lambda m, x: checkpoint(m.inner, x.requires_grad_(), use_reentrant=True))
    with pytest.raises(slt.InputError, match="use_reentrant=False"):
        draws(reentrant)


# Forward passes that write ------------------------------------------------------------------------


def writes_weights(module, x):
    with torch.no_grad():
        module.inner[0].weight.mul_(0.5)
    return module.inner(x)


WRITES = {
    "a weight": writes_weights,
    "a view": lambda m, x: (m.inner[0].weight.detach()[0].zero_(), m.inner(x))[1],
    "copy_": lambda m, x: (m.inner[2].bias.data.copy_(torch.ones(5)), m.inner(x))[1],
    "the data": lambda m, x: m.inner(x.sub_(1.0)),
}


@pytest.mark.parametrize("kind", WRITES)
def test_a_forward_pass_that_writes_is_refused_and_writes_nothing(kind):
    module, x = Around(WRITES[kind]), X.clone()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(slt.InputError, match="that writes to its weights|the field 'inputs'"):
        slt.sample(slt.supervised(module, CE), slt.array_probe("d", x, Y), **RUN)
    assert all(torch.equal(module.state_dict()[k], v) for k, v in before.items())
    assert torch.equal(x, X)


def test_a_language_model_that_rescales_its_weights_is_refused_unchanged():
    tr = pytest.importorskip("transformers")
    model = tr.RwkvForCausalLM(
        tr.RwkvConfig(vocab_size=64, hidden_size=16, attention_hidden_size=16, num_hidden_layers=4,
                      rescale_every=2, context_length=32, bos_token_id=1, eos_token_id=2)
    )  # fmt: skip
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    with pytest.raises(slt.InputError, match=r"writes to its weights.*rescale_every = 0"):
        slt.causal_lm(model)
    assert all(torch.equal(p, before[k]) for k, p in model.named_parameters())
    assert not getattr(model.rwkv, "layers_are_rescaled", False)


# What deepcopy refuses ----------------------------------------------------------------------------


def test_kept_activations_hooked_weights_and_locks():
    from torch.nn.utils import prune

    keeps = Around(lambda m, x: setattr(m, "kept", m.inner(x)) or m.kept)
    keeps(X)
    held = net()
    held.lock, held.stream = threading.Lock(), (i for i in range(3))
    pruned = net()
    prune.l1_unstructured(pruned[0], "weight", amount=0.3)
    pruned(X)
    dense = net()
    with torch.no_grad():
        dense[0].weight.copy_(pruned[0].weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed = net()
        nn.utils.weight_norm(normed[0])
    for module in (keeps, held, normed, pruned):
        before = {k: v.detach().clone() for k, v in module.state_dict().items()}
        with plain_modes():
            loss = slt.supervised(module, CE)
            value = loss.evaluate(loss.params, {"inputs": X, "targets": Y})
        np.testing.assert_allclose(value, CE(module(X), Y).detach(), rtol=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SLTWarning)
            assert slt.sample(loss, data(), **RUN).finished
        assert all(torch.equal(module.state_dict()[k], v) for k, v in before.items())
    # Pruned coordinates stay out of the function: their gradient is zero, and the rest is the same.
    loss = slt.supervised(pruned, CE)
    moved = {k: v + 0.1 for k, v in loss.params.items()}
    plain = dict(dense.named_parameters())
    mask = pruned[0].weight_mask
    plain = {k: v + 0.1 for k, v in plain.items()}
    plain["0.weight"] = plain["0.weight"] * mask
    expected = CE(torch.func.functional_call(dense, plain, (X,)), Y)
    found = loss.evaluate(moved, {"inputs": X, "targets": Y})
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-6)


def test_modules_without_weights_to_sample_are_refused():
    class Quantized(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("q", torch.ones(5, 3, dtype=torch.int8))

    whole = nn.Linear(3, 5)
    whole.weight = nn.Parameter(torch.ones(5, 3, dtype=torch.int8), requires_grad=False)
    whole.bias = None
    spectral = nn.Linear(3, 5)
    spectral.weight = nn.Parameter(torch.ones(5, 3, dtype=torch.complex64))
    cases = [
        (Quantized(), "without parameters"),
        (whole, "whole numbers"),
        (spectral, "complex parameter"),
        (nn.Sequential(nn.LazyLinear(5)), "call the module once"),
        (nn.Linear(3, 5, device="meta"), "meta device"),
        (3, "torch.nn.Module"),
    ]
    for module, words in cases:
        with pytest.raises(slt.InputError, match=words):
            slt.supervised(module, CE)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_modules_are_refused_with_the_remedy():
    scripted = torch.jit.script(nn.Linear(3, 5))
    for module in (scripted, nn.Sequential(scripted)):
        with pytest.raises(slt.InputError, match="the module that was scripted"):
            slt.supervised(module, CE)


# Wrappers and hooks -------------------------------------------------------------------------------


class NNsight:
    """As the library of that name wraps a module: an object that is none itself."""

    def __init__(self, model):
        self._model = model


WRAPPERS = {
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "data parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "nnsight": NNsight,
    "twice": lambda m: nn.DataParallel(torch.compile(m, backend="eager")),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_the_module_within_wrappers_is_sampled(kind, plain):
    wrapped = WRAPPERS[kind](net())
    loss = slt.supervised(wrapped, CE)
    assert set(loss.params) == {k for k, _ in net().named_parameters()}
    found = slt.sample(loss, data(), **RUN).tree["sampling"]["loss"].values
    np.testing.assert_array_equal(found, plain)


def test_hooks_that_look_on_do_not_fire_at_every_step(plain):
    module, kept = net(), []
    module[0].register_forward_hook(lambda m, i, o: kept.append(o.detach().sum().item()))
    module.register_full_backward_hook(lambda m, gi, go: kept.append(0.0))
    np.testing.assert_array_equal(draws(module)[0], plain)
    assert len(kept) <= 3
    module(X)
    assert len(kept) >= 1 and len(module[0]._forward_hooks) == 1


def test_hooks_that_change_the_output_belong_to_the_function():
    module = net()
    module[0].register_forward_hook(lambda m, i, o: 2 * o)
    doubled = net()
    with torch.no_grad():
        doubled[0].weight.mul_(2), doubled[0].bias.mul_(2)
    loss = slt.supervised(module, CE)
    found = slt.sample(loss, data(), probes=[data()], **RUN).tree["probe/d"].init_loss
    np.testing.assert_allclose(found, CE(doubled(X), Y).detach(), rtol=1e-5)


def test_a_forward_replaced_on_the_instance_is_refused_with_the_remedy():
    """As accelerate does: a function around the bound method of the original."""
    module = net()
    original = module.forward
    module.forward = lambda x: original(x).float()
    with pytest.raises(slt.InputError, match="unwrap_model"):
        draws(module)


# Modes and dtypes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_modes_of_the_caller_change_nothing(mode, plain):
    with mode():
        np.testing.assert_array_equal(draws(net())[0], plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(draws(net())[0], plain)


def test_a_model_made_under_inference_mode(plain):
    with torch.inference_mode():
        module = net()
        np.testing.assert_array_equal(draws(module)[0], plain)
    np.testing.assert_array_equal(draws(module)[0], plain)


def test_a_default_dtype_changes_nothing(plain):
    module = net()
    torch.set_default_dtype(torch.float64)
    try:
        found = draws(module)[0]
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found, plain)


def test_float64_networks_are_sampled_in_float64(tmp_path):
    """The oracle: a harmonic oscillator whose offset from w* float32 cannot hold."""
    module = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        module.weight.fill_(1.0)
    x, y = torch.ones(4, 1, dtype=torch.float64), torch.ones(4, 1, dtype=torch.float64)
    step = {"kernel": slt.SGLD(1e-24), "gamma": 1.0, "batch_size": 4, "draws": 50, "nbeta": 1.0}
    path = tmp_path / "run.zarr"
    _, run = draws(module, MSE, x, y, store=path, **step)
    distance = run.tree["sampling"].distance.values
    assert (distance > 0).all() and (distance < 1e-10).all()  # float32 has nothing below 6e-8
    import zarr

    assert zarr.open_array(str(path / "checkpoint/position"), mode="r").dtype == np.float64
    longer = draws(module, MSE, x, y, **{**step, "draws": 80})[1].tree["sampling"].distance.values
    again = draws(module, MSE, x, y, store=path, **{**step, "draws": 80})[1]
    np.testing.assert_array_equal(again.tree["sampling"].distance.values, longer)


def test_float64_data_reaches_a_float64_network_whole():
    inputs = np.array([[1 + 1e-12], [1.0]])
    module = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        module.weight.fill_(1.0)
    loss = slt.supervised(module, lambda out, y: out[:, 0] - y)
    probe = slt.array_probe("d", inputs, np.ones(2))
    value = loss.evaluate(loss.params, probe.tensors("cpu", torch.float64))
    np.testing.assert_allclose(value, [1e-12, 0], rtol=1e-3)
    assert probe.tensors("cpu")["inputs"].dtype == torch.float32
    assert probe.fingerprint == slt.array_probe("d", inputs.astype("f4"), np.ones(2)).fingerprint


@pytest.mark.parametrize(
    ("x", "y"),
    [(X.half(), Y), (X.bfloat16(), Y), (X, Y.int()), (X, Y.to(torch.uint8)), (X.double(), Y)],
)
def test_half_inputs_and_small_integers(x, y):
    found = draws(net(), x=x, y=y)[0]
    expected = draws(net(), x=x.float(), y=Y)[0]
    np.testing.assert_array_equal(found, expected)


# Settings and handles -----------------------------------------------------------------------------


def test_numbers_come_in_any_form(plain):
    forms = [
        {"kernel": slt.SGLD(step_size="1e-4"), "nbeta": "1e1", "draws": "4"},
        {"kernel": slt.SGLD(step_size=torch.tensor(1e-4)), "nbeta": torch.tensor(10.0)},
        {"kernel": slt.SGLD(step_size=np.float64(1e-4)), "chains": np.int64(2)},
        {"kernel": slt.SGLD(step_size=["1e-4", 1e-4]), "chains": torch.arange(2)},
        {"batch_size": 4.0, "draws": np.array(4), "chains": range(2), "seed": "0"},
    ]
    for form in forms:
        found, run = draws(net(), **form)
        np.testing.assert_allclose(found, plain, rtol=1e-5)
        assert run.task.to_json()
    for form in ({"draws": "four"}, {"draws": 4.5}, {"nbeta": "a"}, {"chains": True}, {"seed": -1}):
        with pytest.raises(slt.InputError, match=next(iter(form))):
            draws(net(), **form)
    with pytest.raises(slt.InputError, match="step_size"):
        slt.SGLD(step_size="fast")
    with pytest.raises(slt.InputError, match="decay"):
        slt.RMSProp(decay="slow")
    assert slt.RMSProp(decay="0.99") == slt.RMSProp(decay=0.99)


@pytest.mark.parametrize("store", ["s3://bucket/run.zarr", "a::b.zarr", "gs://b/c", "", " ", 3])
def test_addresses_are_no_folders(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (lambda: draws(net(), store=store), lambda: slt.open_run(store)):
        with pytest.raises(slt.SLTError, match="What to do:"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_places_of_stores(tmp_path, monkeypatch):
    (tmp_path / "taken.zarr").write_text("a letter")
    with pytest.raises(slt.StoreError, match="which is a file"):
        draws(net(), store=tmp_path / "taken.zarr")
    assert (tmp_path / "taken.zarr").read_text() == "a letter"
    with pytest.raises(slt.InputError, match="at most 240 bytes"):
        draws(net(), store=tmp_path / ("ä" * 130))
    monkeypatch.chdir(tmp_path)
    run = draws(net(), store="run.zarr")[1]
    monkeypatch.chdir("/")
    assert run.path == tmp_path / "run.zarr" and run.tree["sampling"].sizes["chain"] == 2


def test_a_run_that_is_pickled_says_what_to_pickle(tmp_path):
    run = draws(net(), store=tmp_path / "run.zarr")[1]
    with pytest.raises(slt.SLTError, match=r"pickle its path .*slt.open_run"):
        pickle.dumps(run)
    with pytest.raises(slt.SLTError, match="pickle its tree"):
        pickle.dumps(draws(net())[1])
    again = pickle.loads(pickle.dumps(run.tree.load()))
    assert float(slt.llc(again)["mean"]) == float(slt.llc(run)["mean"])


# Frozen weights -----------------------------------------------------------------------------------


def test_what_takes_gradients_moves():
    module = net()
    module[0].requires_grad_(False)
    _, run = draws(module)
    assert run.tree["sampling"].attrs["component"] == "trainable"
    assert run.tree["sampling"].attrs["space_dim"] == 45
    with pytest.warns(SLTWarning, match=r"32 of 77 coordinates are frozen"):
        _, full = draws(module, components="full")
    assert full.tree["sampling"].attrs["space_dim"] == 77
    named = draws(module, components="param:2.*")[0]
    np.testing.assert_array_equal(named, draws(module)[0])
    assert "trainable" in slt.components(module).index
    module.requires_grad_(False)  # a model that is only looked at
    assert draws(module)[1].tree["sampling"].attrs["component"] == "full"
    assert "trainable" not in slt.components(net()).index


def test_lora_is_a_component():
    class Lora(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.base = nn.Linear(3, 5).requires_grad_(False)
            self.lora_A, self.lora_B = nn.Linear(3, 2, bias=False), nn.Linear(2, 5, bias=False)

        def forward(self, x):
            return self.base(x) + self.lora_B(self.lora_A(x))

    table = slt.components(Lora())
    assert table.parameters[["full", "trainable", "lora"]].tolist() == [36, 16, 16]
    assert "20 of its coordinates are frozen" in table.note["full"]
    np.testing.assert_array_equal(draws(Lora())[0], draws(Lora(), components="lora")[0])
