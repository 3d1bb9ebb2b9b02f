"""Many runs in one call: the same numbers as one by one, resumable; other settings refused."""

import json
import time

import numpy as np
import pytest
import torch
import xarray as xr

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.models.components import restriction
from slt_notebook.results.sweep import as_sweep, run_of
from slt_notebook.runs.execute import shared as shared_module
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.sweep import Entry
from tests.models.test_components import build
from tests.runs.problems import language

FAST = {
    "progress": False, "kernel": slt.SGLD(1e-3), "nbeta": 20.0, "gamma": 50.0, "draws": 3,
    "burnin": 1, "batch_size": 5, "chains": 2,
}  # fmt: skip
PARTS = ["full", "l1.h*", "l0.h0+l0.h1"]


@pytest.fixture(scope="module")
def text():
    return language()


@pytest.fixture(scope="module")
def points():
    return {f"step{n}": language(seed=n)[1] for n in (3, 10)}


@pytest.fixture(scope="module")
def swept(text, points, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "a"
    data = text[2]
    found = slt.sweep(
        None, data, components=PARTS, checkpoints=points, probes=[data], store=folder, **FAST
    )
    return folder, found, data


def test_dims_and_labels(swept):
    _, found, data = swept
    loss = found.tree["probe/train"].loss
    assert loss.dims == ("checkpoint", "component", "chain", "draw", "example", "token")
    assert loss.component.values.tolist() == [
        "full", "l1.h0", "l1.h1", "l1.h2", "l1.h3", "l0.h0+l0.h1"
    ]  # fmt: skip
    assert loss.training_step.values.tolist() == [3, 10]
    assert found.tree["probe/train"].init_loss.dims == ("checkpoint", "example", "token")
    assert found.tree["sampling"].space_dim.values[-1] == 2 * found.tree["sampling"].space_dim[1]
    assert np.isfinite(loss.values[..., 0, 0]).all() and found.finished


def test_a_run_of_a_sweep_is_the_single_run(swept, points, tmp_path):
    folder, found, data = swept
    single = slt.sample(
        points["step10"], data, probes=[data], components="l1.h2", store=tmp_path / "b", **FAST
    ).tree
    inside = run_of(found, checkpoint="step10", component="l1.h2")
    stored = slt.open_run(folder / "step10__l1.h2.zarr")
    for path in ("sampling", "probe/train"):
        one = single[path].to_dataset()
        assert inside[path].to_dataset().identical(stored[path].to_dataset())
        # Heads of a layer are evaluated in lockstep, which changes rounding only.
        xr.testing.assert_allclose(one, stored[path].to_dataset(), rtol=2e-5)
        assert one.attrs == stored[path].attrs
    assert float(slt.llc(inside)["mean"]) == pytest.approx(float(slt.llc(single)["mean"]), rel=1e-4)


def test_without_lockstep_a_run_of_a_sweep_is_bit_equal_to_a_single_run(points, text, tmp_path):
    data, settings = text[2], {**FAST, "chain_chunk": 2}  # one run after the other
    loss = points["step10"]
    single = slt.sample(loss, data, probes=[data], components="l1.h2", **settings).tree
    slt.sample(
        loss, data, probes=[data], components=["l1.h1", "l1.h2"], store=tmp_path / "a", **settings
    )
    stored = slt.open_run(tmp_path / "a" / "l1.h2.zarr")
    for path in ("sampling", "probe/train"):
        assert single[path].to_dataset().identical(stored[path].to_dataset())


def test_runs_read_the_same_batches(swept):
    init = swept[1].tree["sampling"].init_loss
    full = init.sel(component="full")
    np.testing.assert_allclose(init.sel(component="l1.h0"), full, rtol=2e-6)


def test_finished_runs_are_not_repeated_and_components_can_be_added(swept, points, monkeypatch):
    folder, _, data = swept
    made = []
    import slt_notebook.runs.sweep as module

    kept = module.prepare
    monkeypatch.setattr(module, "prepare", lambda *a, **k: made.append(a[1]) or kept(*a, **k))
    more = slt.sweep(
        None, data, components=["full", "unembed"], checkpoints=points, probes=[data],
        store=folder, **FAST,
    )  # fmt: skip
    assert made == ["unembed", "unembed"]
    assert (
        "unembed" in more.tree["sampling"].component and "l1.h3" in more.tree["sampling"].component
    )


def test_other_settings_are_refused_with_the_difference(swept, points):
    folder, _, data = swept
    with pytest.raises(
        slt.StoreMismatch, match=r"gamma: stored \[50.0, 50.0\], asked \[1.0, 1.0\]"
    ):
        slt.sweep(
            None, data, components=["full"], checkpoints=points, probes=[data], store=folder,
            **{**FAST, "gamma": 1.0},
        )  # fmt: skip
    other = slt.sample(points["step3"], data, store=folder / "x.zarr", **{**FAST, "gamma": 1.0})
    index = json.loads((folder / names.SWEEP_INDEX).read_text())
    row = {"dataset": "", "checkpoint": "step3", "component": "odd", "path": "x.zarr"}
    changed = {names.A_SCHEMA: names.SCHEMA, "runs": [*index["runs"], row]}
    (folder / names.SWEEP_INDEX).write_text(json.dumps(changed))
    try:
        with pytest.raises(slt.StoreMismatch, match="cannot be compared"):
            slt.open_sweep(folder)
    finally:
        (folder / names.SWEEP_INDEX).write_text(json.dumps(index))
    assert other.finished


def test_a_stopped_sweep_goes_on(text, tmp_path):
    _, loss, data = text
    settings = {**FAST, "draws": 30, "probes": [data], "components": ["l0.h0", "l0.h1", "full"]}
    settings["chain_chunk"] = 2  # one after the other
    whole = slt.sample(loss, data, store=tmp_path / "whole", **settings)
    stopped = slt.sample(loss, data, store=tmp_path / "cut", blocking=False, **settings)
    while stopped.progress()["run"] < 1:
        time.sleep(0.01)
    stopped.cancel()
    assert stopped.progress()["run"] < 3
    part = stopped.tree["sampling"].loss
    assert part.isnull().any()
    done = slt.sample(loss, data, store=tmp_path / "cut", **settings)
    a, b = whole.tree["probe/train"].loss, done.tree["probe/train"].loss
    np.testing.assert_array_equal(a.values, b.values)


def test_several_datasets(text):
    _, loss, data = text
    half = data.take(6)
    found = slt.sample(loss, {"all": data, "half": half}, components=["l0"], probes=[half], **FAST)
    group = found.tree["sampling"]
    assert group.loss.dims[:3] == ("dataset", "checkpoint", "component")
    assert not np.allclose(group.init_loss[0], group.init_loss[1])
    assert run_of(found, dataset="half")["sampling"].loss.dims == ("chain", "step")


def test_one_run_reads_as_a_sweep(text):
    _, loss, data = text
    run = slt.sample(loss, data, components="l0.h1", probes=[data], **FAST)
    tree = as_sweep(run)
    assert tree["probe/train"].loss.dims[:2] == ("checkpoint", "component")
    assert tree["sampling"].component.values.tolist() == ["l0.h1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"components": []}, "no components"),
        ({"components": ["l9.h1"]}, "slt.components"),
        ({"components": ["full"], "checkpoints": ["step1"]}, "function from a label"),
        ({"components": ["full"], "step_size": 1}, "step_size"),
        ({"components": ["full"], "nbeta": -1.0}, "nbeta"),
        ({"components": ["full"], "batch_size": 99}, "batch_size"),
    ],
)
def test_bad_input_is_refused_before_work(text, tmp_path, changes, message):
    _, loss, data = text
    with pytest.raises(slt.InputError, match=message):
        slt.sample(loss, data, store=tmp_path / "s", **{**FAST, **changes})
    assert not (tmp_path / "s").exists()


def test_tied_components_are_refused(tmp_path):
    loss = slt.causal_lm(build("gpt2"))
    data = slt.token_probe("train", np.random.default_rng(0).integers(3, 97, (8, 10)))
    with pytest.raises(slt.errors.ComponentError, match="tied"):
        slt.sample(loss, data, components=["embed", "unembed"], **FAST)


def test_names_of_files_are_safe_and_distinct():
    odd = [
        Entry("", "main/1", "param:a*"),
        Entry("", "main/1", "param:a?"),
        Entry("", "x", "l0+l1"),
    ]
    paths = {e.path for e in odd}
    assert len(paths) == 3 and all("/" not in p and "*" not in p for p in paths)
    assert Entry("", "step10", "l0.h1").path == "step10__l0.h1.zarr"


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neo", "bloom"])
def test_a_kept_prefix_changes_nothing(kind, monkeypatch):
    """Restricted sampling with and without what lies before the component, from layer 1 and after
    all layers: the same losses to rounding, in both forms of the gradient."""
    loss = slt.causal_lm(build(kind))
    rng = np.random.default_rng(0)
    data = slt.token_probe("train", [rng.integers(3, 97, n) for n in (12, 7, 12, 9, 12, 5)])
    settings = {**FAST, "draws": 2, "probes": [data], "batch_size": 4}
    known = Shared(loss, data, [data], torch.device("cpu")).parts
    for name, chunk in (("l1.h1", 1), *([("l1.mlp", 2), ("unembed", 2)] * (kind == "llama"))):
        kept = slt.sample(loss, data, components=name, chain_chunk=chunk, **settings)
        assert kept._job.loss.depth == known[name].first_layer
        with monkeypatch.context() as small:
            small.setattr(restriction, "PREFIX_BYTES", 0)
            whole = slt.sample(loss, data, components=name, chain_chunk=chunk, **settings)
        assert whole._job.loss.depth == 0
        for path in ("probe/train", "sampling"):
            a, b = kept.tree[path].loss.values, whole.tree[path].loss.values
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_earlier_components_keep_no_prefix(text):
    _, loss, data = text
    for name in ("embed", "l0.h0+l1.h0", "final_norm"):
        run = slt.sample(loss, data, components=name, **{**FAST, "draws": 1})
        assert run._job.loss.depth == 0


def test_with_a_prefix_kept_nothing_is_measured_twice(text, monkeypatch):
    _, loss, data = text
    asked = []
    kept = shared_module.init_losses

    def counted(loss, probe, tensors, rows):
        asked.append(loss.depth)
        return kept(loss, probe, tensors, rows)

    monkeypatch.setattr(shared_module, "init_losses", counted)
    inputs = Shared(loss, data, [data], torch.device("cpu"))
    assert inputs.at("l1.h0", len(data)).loss.depth == 1
    assert inputs.at("l1.h2", len(data)) is inputs.at("l1.h0", len(data))
    assert asked == [
        1,
        1,
    ]  # the probe and the data, from the kept states on; the model is not asked


def test_a_random_layer_before_the_component_is_noticed(text):
    """What is kept is one answer of the first layers; if they have several, nothing is kept."""
    _, loss, data = text
    inputs = Shared(loss, data, [data], torch.device("cpu"))
    assert inputs.parts.layers
    first = inputs.loss.shells._template.model.get_submodule("model.layers.0")
    first.register_forward_hook(lambda m, a, out: (out[0] + torch.randn_like(out[0]), *out[1:]))
    inputs.loss = inputs.loss.to("cpu")  # threads' modules are made anew, with the hook
    with pytest.raises(slt.NotReproducible):
        inputs.at("l1.h0", len(data))


MANY = [pytest.param(k, marks=pytest.mark.exhaustive) for k in ("gpt_neox", "opt", "bloom")]


@pytest.mark.parametrize("kind", ["llama", "tiny", "gpt2", *MANY])
@pytest.mark.parametrize("name", ["l0.h1", pytest.param("l1.h0", marks=pytest.mark.exhaustive)])
def test_one_head_computed_alone_changes_nothing(kind, name, monkeypatch):
    """A head with the rest of its attention kept, against the whole attention: the same losses to
    rounding.  Attentions that insist on all of their heads are computed whole (that of `opt`
    answers rightly at w*, and wrongly elsewhere)."""
    loss = language()[1] if kind == "tiny" else slt.causal_lm(build(kind))
    rng = np.random.default_rng(0)
    data = slt.token_probe("train", [rng.integers(3, 61, n) for n in (12, 7, 12, 9, 12, 5)])
    settings = {**FAST, "draws": 3, "probes": [data], "batch_size": 4, "components": name}
    for chunk in (1, 2) if kind != "bloom" else (1,):  # which `vmap` cannot batch
        kept = slt.sample(loss, data, chain_chunk=chunk, **settings)
        job = kept._job
        assert job.loss.rest == (kind in ("llama", "gpt_neox", "tiny"))
        if job.loss.rest:  # as many coordinates, of smaller matrices
            matrices = [job.loss.params[p.name].shape for p in job.potential.space.pieces]
            assert matrices == [p.shape for p in job.potential.space.pieces]
        with monkeypatch.context() as small:
            small.setattr(shared_module.Shared, "_single", lambda *a: None)
            whole = slt.sample(loss, data, chain_chunk=chunk, **settings)
        assert not whole._job.loss.rest
        for path in ("probe/train", "sampling"):
            a, b = kept.tree[path].loss.values, whole.tree[path].loss.values
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
