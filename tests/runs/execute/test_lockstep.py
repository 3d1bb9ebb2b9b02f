"""Runs evaluated in lockstep have the draws of single runs, and none waits for one that ended."""

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
import xarray as xr

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.errors import StoreError
from slt_notebook.results.sweep import run_of
from slt_notebook.runs.execute import grouping
from slt_notebook.runs.execute.lockstep import Lockstep
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.settings import Settings, Speed
from slt_notebook.runs.prepare import plan_task
from slt_notebook.runs.store import run_store as store_module
from tests.runs.problems import language, until

HEADS = [f"l0.h{i}" for i in range(4)]
FAST = {
    "progress": False, "kernel": slt.SGLD(1e-3), "nbeta": 20.0, "gamma": 50.0, "draws": 6,
    "burnin": 1, "batch_size": 5, "chains": 3, "components": HEADS,
}  # fmt: skip
ALONE = {"chain_chunk": 3}


@pytest.fixture(scope="module")
def text():
    return language()


@pytest.fixture
def asked(monkeypatch):
    """How many members each answer went to, and of what kind."""
    seen = []
    answer = Lockstep._answer
    monkeypatch.setattr(
        Lockstep,
        "_answer",
        lambda self, asked: seen.append([r.probe for r in asked.values()]) or answer(self, asked),
    )
    return seen


def close(one: xr.DataTree, other: xr.DataTree, rtol=1e-5) -> None:
    for path in ("sampling", "probe/train"):
        a, b = one[path].to_dataset(), other[path].to_dataset()
        assert set(a.variables) == set(b.variables)
        for name in a.data_vars:
            if a[name].dtype.kind == "f":
                np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=1e-6, err_msg=name)
            else:
                assert a[name].identical(b[name])


def equal(one: xr.DataTree, other: xr.DataTree) -> None:
    for path in ("sampling", "probe/train"):
        assert one[path].to_dataset().identical(other[path].to_dataset())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"components": ["full", "l0.h1", "l0.norm", "embed+l1.norm"], "kernel": slt.SGHMC(1e-4)},
        {"components": ["l1.h0", "l1.h3"], "kernel": slt.SGLD(1e-3, metric=slt.RMSProp())},
    ],
)
def test_draws_are_those_of_single_runs(text, asked, changes, monkeypatch):
    _, loss, data = text
    settings = {**FAST, "probes": [data], **changes}
    together = slt.sample(loss, data, **settings).tree
    members = len(settings["components"])
    assert asked.count([None] * members) >= 7 and asked.count(["train"] * members) == 6
    before = len(asked)
    # A single run of a head has a loss of its own, which rounds in its own way: see test_sweep.
    monkeypatch.setattr(Shared, "_single", lambda *a: None)
    alone = slt.sample(loss, data, **settings, **ALONE).tree
    assert len(asked) == before
    close(together, alone)


def test_any_module_by_its_parameters(asked):
    torch.manual_seed(0)
    net = torch.nn.Sequential(*(torch.nn.Linear(6, 6, bias=False) for _ in range(4)))
    loss = slt.supervised(net, lambda out, target: (out - target).square().sum(1))
    rng = np.random.default_rng(0)
    data = slt.array_probe("train", *(rng.standard_normal((40, 6)).astype("f4") for _ in range(2)))
    settings = {**FAST, "components": ["full", *(f"param:{n}" for n in loss.params)]}
    settings |= {"probes": [data], "nbeta": 5.0}
    together = slt.sample(loss, data, **settings).tree
    assert [None] * 5 in asked
    close(together, slt.sample(loss, data, **settings, **ALONE).tree)


def test_which_runs_are_grouped(text, monkeypatch):
    _, loss, data = text
    shared = Shared(loss, data, [], torch.device("cpu"))

    def task(component, **changes):
        kept = {k: v for k, v in FAST.items() if k not in ("progress", "components")}
        return component, plan_task(shared, component, Settings(**{**kept, **changes}))

    def groups(tasks, **speed):
        return grouping.lockstep_groups(shared, tasks, Speed(**speed))

    mixed = [task(c) for c in ("full", "l0.h0", "l1.h0", "l1.h1", "l0.h1")]
    assert groups(mixed) == [[0, 1], [2, 3], [4]]  # runs from layer 1 on keep what is before it
    single = [[i] for i in range(5)]
    assert groups(mixed, chain_chunk=3) == groups(mixed, executor=object()) == single
    assert groups([task(c, chains=1) for c in HEADS]) == [[0], [1], [2], [3]]
    many = [task(c, chains=30) for c in HEADS]
    assert groups(many) == [[0, 1], [2, 3]] and grouping.ROWS >= 60
    monkeypatch.setattr(partition, "SMALL", 1.0)
    assert groups(mixed) == single


def test_a_closed_form_gradient_is_left_alone(asked):
    loss = slt.loss_fn(
        {"a": np.zeros(2), "b": np.zeros(2)},
        lambda p, b: (b["inputs"] @ (p["a"] + p["b"])).square(),
        gradient=lambda p, b: None,
    )
    data = slt.array_probe("train", np.ones((9, 2), "f4"), np.zeros(9, "f4"))
    slt.sample(loss, data, **{**FAST, "components": ["param:a", "param:b"]})
    assert not asked


def test_stopped_and_gone_on_is_bit_equal(text, tmp_path):
    _, loss, data = text
    settings = {**FAST, "probes": [data], "draws": 60}
    whole = slt.sample(loss, data, store=tmp_path / "whole", **settings).tree
    part = slt.sample(loss, data, store=tmp_path / "cut", blocking=False, **settings)
    until(lambda: (part.progress()["current"] or {"step": 0})["step"] > 5)
    p = part.progress()
    assert p["run"] == 0 and p["components"] == HEADS
    part.cancel()
    assert part.finished and part.tree["sampling"].loss.isnull().any()
    kept = part.tree["sampling"].loss.notnull().sum("step")
    assert int(kept.min()) > 5
    equal(whole, slt.sample(loss, data, store=tmp_path / "cut", **settings).tree)


def test_members_at_different_steps_meet_all_the_same(text, tmp_path, asked):
    """Two heads have gone further than the others, as after a kill; then all go on."""
    _, loss, data = text
    settings = {**FAST, "probes": [data]}
    whole = slt.sample(loss, data, store=tmp_path / "whole", **settings).tree
    slt.sample(loss, data, store=tmp_path / "cut", **{**settings, "draws": 3})
    for head in HEADS[:2]:  # the others stay at 3 draws
        path = tmp_path / "cut" / f"{head}.zarr"
        single = {k: v for k, v in settings.items() if k != "components"}
        slt.sample(loss, data, components=head, store=path, **{**single, "draws": 5})
    del asked[:]
    on = slt.sample(loss, data, store=tmp_path / "cut", **settings)
    assert {len(a) for a in asked} == {2, 4}
    close(whole, on.tree)


def test_a_component_that_diverges_leaves_the_others_as_they_are(text, asked):
    """Weights of one head enter the loss through exp of their size: its chains overflow."""

    def function(params, batch):
        out = batch["inputs"] @ params["a"] + params["b"].sum() + 0 * params["c"].sum()
        return out.square() + (params["b"].abs().sum() * 200).exp()

    loss = slt.loss_fn({"a": np.zeros(3), "b": np.zeros(2), "c": np.zeros(1)}, function)
    rng = np.random.default_rng(0)
    data = slt.array_probe("train", rng.standard_normal((30, 3)).astype("f4"), np.zeros(30, "f4"))
    settings = {**FAST, "components": ["param:a", "param:b", "param:c"], "probes": [data]}
    settings |= {"kernel": slt.SGLD(1e-1), "gamma": 1.0, "draws": 20, "nbeta": 1.0}
    found = slt.sample(loss, data, **settings)
    status = found.tree["sampling"].status.isel(checkpoint=0)
    assert (status.sel(component="param:b") != names.STATUS_OK).all()
    assert (status.drop_sel(component="param:b") == names.STATUS_OK).all()
    assert "param-b" in found.progress()["messages"][0]
    assert [None] * 3 in asked and [None] * 2 in asked
    alone = slt.sample(loss, data, **settings, **ALONE)
    for part in ("param:a", "param:c"):
        close(run_of(found, component=part), run_of(alone, component=part))
    both = slt.sample(loss, data, **{**settings, "components": ["param:a", "param:c"]})
    close(run_of(found, component="param:c"), run_of(both, component="param:c"))


def test_an_error_in_one_ends_all_and_keeps_what_they_have(text, tmp_path, monkeypatch):
    _, loss, data = text
    settings = {**FAST, "probes": [data], "draws": 60, "store": tmp_path / "a"}
    write = store_module.RunStore.write_rows
    monkeypatch.setattr("slt_notebook.runs.execute.buffer.FLUSH_SECONDS", 0.05)

    def full(self, *args):
        if self.path.name == "l0.h2.zarr":
            raise StoreError("no space left on the disk")
        return write(self, *args)

    with monkeypatch.context() as change:
        change.setattr(store_module.RunStore, "write_rows", full)
        with pytest.raises(StoreError, match="no space"):
            slt.sample(loss, data, **settings)
    found = slt.open_sweep(tmp_path / "a")["sampling"].loss.isel(checkpoint=0)
    steps = found.notnull().sum("step")
    assert bool((steps.drop_sel(component="l0.h2") > 0).all()) and bool((steps < 61).all())
    again = slt.sample(loss, data, **settings)
    assert again.finished and not again.tree["sampling"].loss.isnull().any()


def test_an_error_of_the_loss_reaches_all(text, monkeypatch):
    _, loss, data = text
    monkeypatch.setattr(Lockstep, "_gradients", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        slt.sample(loss, data, **FAST)


def test_a_store_in_use_lets_go_of_the_others(text, tmp_path):
    _, loss, data = text
    slt.sample(loss, data, store=tmp_path / "a", **{**FAST, "draws": 1})
    held = store_module.RunStore(tmp_path / "a" / "l0.h2.zarr")
    held.acquire()
    with pytest.raises(StoreError, match="another run is writing"):
        slt.sample(loss, data, store=tmp_path / "a", **FAST)
    held.close()
    assert slt.sample(loss, data, store=tmp_path / "a", **FAST).finished


SCRIPT = textwrap.dedent("""
    import sys
    import slt_notebook as slt
    from slt_notebook.runs.execute import buffer
    from tests.runs.problems import language

    buffer.FLUSH_SECONDS = 0.02
    _, loss, data = language()
    print("ready", flush=True)
    slt.sample(
        loss, data, probes=[data], kernel=slt.SGLD(1e-3), nbeta=20.0, gamma=50.0, draws=60,
        burnin=1, batch_size=5, chains=3, components=["l0.h0", "l0.h1", "l0.h2", "l0.h3"],
        store=sys.argv[1], progress=False,
    )
""")


def test_killed_and_gone_on_is_bit_equal(text, tmp_path):
    _, loss, data = text
    settings = {**FAST, "probes": [data], "draws": 60}
    whole = slt.sample(loss, data, store=tmp_path / "whole", **settings).tree
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "cut")], stdout=subprocess.PIPE
    )
    until(lambda: (tmp_path / "cut" / "l0.h3.zarr" / "zarr.json").exists(), 120)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    equal(whole, slt.sample(loss, data, store=tmp_path / "cut", **settings).tree)


def test_no_thread_is_left_behind(text):
    import threading

    _, loss, data = text
    slt.sample(loss, data, **FAST)
    until(lambda: not any(t.name.startswith("slt-") for t in threading.enumerate()), 10)
