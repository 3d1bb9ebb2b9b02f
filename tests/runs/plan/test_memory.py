"""What a run holds in memory is said before it starts; what does not fit after all is halved."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook.core import chunking as fit
from slt_notebook.core.chunking import Fit
from slt_notebook.core.space import Space
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.memory import activations
from tests.runs.problems import language, limited

SETTINGS = {
    "kernel": slt.SGLD(1e-3), "nbeta": 4.0, "gamma": 10.0, "chains": 4, "draws": 6, "burnin": 1,
    "thin": 2, "batch_size": 8, "seed": 1, "progress": False,
}  # fmt: skip


@pytest.mark.parametrize("limit", [32, 16, 8, 4, 1])
def test_a_run_that_does_not_fit_goes_on_in_halves_and_loses_no_draw(limit):
    loss, data, _ = limited()
    plain = slt.sample(loss, data, probes=[data], **SETTINGS)
    tight, data, asked = limited(limit)
    run = slt.sample(tight, data, probes=[data], **SETTINGS)
    for group, name in (("sampling", "loss"), ("probe/d", "loss"), ("sampling", "control_loss")):
        np.testing.assert_allclose(
            run.tree[group][name], plain.tree[group][name], rtol=2e-5, atol=1e-9
        )
    assert not plain.memory.fit.halved
    assert any("out of memory" in note for note in run.memory.fit.halved) or limit == 32
    assert min(run.memory.fit.rows, 24) <= limit and max(asked[-4:]) <= limit
    if limit < 32:
        assert "out of memory" in run.progress()["message"]


def test_nothing_fits_says_what_to_do_and_keeps_what_was_drawn(tmp_path):
    loss, data, _ = limited()
    path = tmp_path / "run.zarr"
    stop = {"at": None}

    def failing(params, batch):
        if stop["at"] is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss.function(params, batch)

    of = slt.loss_fn({"w": torch.ones(3)}, failing)
    first = slt.sample(of, data, store=path, **SETTINGS).tree["sampling"]["loss"].values
    stop["at"] = 0
    with pytest.raises(slt.OutOfMemory, match="every draw made so far is kept"):
        slt.sample(of, data, store=path, **{**SETTINGS, "draws": 9, "blocking": True})
    stop["at"] = None
    more = slt.sample(of, data, store=path, **{**SETTINGS, "draws": 9}).tree["sampling"]["loss"]
    np.testing.assert_array_equal(more.values[:, : first.shape[1]], first)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken():
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        fit.attempt(broken)
    with pytest.raises(ValueError):
        fit.attempt(lambda: int("x"))
    with pytest.raises(RuntimeError, match="allocate") as caught:
        torch.empty(1 << 50)
    assert fit.out_of_memory(caught.value)


def test_two_workers_that_fail_at_once_halve_once():
    sizes = Fit(chains=8, examples=None, rows=32)
    threads = [threading.Thread(target=sizes.fewer_rows, args=(32,)) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sizes.rows == 16 and len(sizes.halved) == 1


def test_the_plan_counts_what_a_run_holds():
    loss, data, _ = limited()
    found = slt.memory_plan(loss, data, probes=[data], chains=5, kernel=slt.SGHMC(), draws=7,
                            batch_size=6)  # fmt: skip
    sizes = {what: size for what, size, _ in found.items}
    assert sizes["w*"] == 12 and sizes["chains"] == 60 and sizes["states"] == 60
    assert sizes["losses of probe 'd'"] == 3 * 4 * 5 * 24
    series = 4 * 5 * 7 * (24 + 3 + 3) + 8 * 7 * 3  # thin=1: as many steps as draws
    assert found.disk == series + 2 * 2 * 60
    assert found.total == sum(sizes.values()) and "vmap" in found.rule
    for text in (str(found), found._repr_html_()):
        assert "activations" in text and "losses of probe" in text
        assert "1.2e-05" in text  # megabytes of w*: not rounded to nothing
    with pytest.raises(slt.InputError, match=r"did you mean 'draws'"):
        slt.memory_plan(loss, data, draw=3)


def test_the_plan_takes_every_setting_of_a_run_and_refuses_what_the_run_refuses(monkeypatch):
    from slt_notebook.runs import memory_plan as module

    loss, data, _ = limited()
    made = []
    monkeypatch.setattr(module, "Shared", lambda *a: made.append(Shared(*a)) or made[-1])
    settings = {**SETTINGS, "probe_dtype": "bfloat16", "batches": "shared", "chain_chunk": 2}
    found = slt.memory_plan(loss, data, probes=[data], store="not made", **settings)
    assert found.fit.chains == 2 and made[0].probe_dtype == "bfloat16"
    with pytest.raises(slt.InputError, match="probe_dtype='float8'"):
        slt.memory_plan(loss, data, batch_size=8, probe_dtype="float8")


def test_activations_are_what_the_backward_pass_keeps():
    module = torch.nn.Sequential(torch.nn.Linear(50, 200), torch.nn.Tanh(), torch.nn.Linear(200, 1))
    loss = slt.supervised(module, lambda out, y: (out[:, 0] - y).square())
    batch = {"inputs": torch.ones(3, 50), "targets": torch.ones(3)}
    total, largest = activations(loss, Space.of(loss.params), loss.params, batch)
    # Of one example: the input, tanh's output, the residual; the weights do not count.
    assert largest == 800 and 800 + 200 <= total <= 800 + 200 + 100


def test_measuring_activations_lets_go_of_the_graph(monkeypatch):
    model, loss, data = language()
    space = Space.of(loss.params)
    made = []
    flatten = Space.flatten

    def watched(self, params):
        vector = flatten(self, params)
        made.append(weakref.ref(vector))
        return vector

    monkeypatch.setattr(Space, "flatten", watched)
    batch = {key: torch.from_numpy(value) for key, value in data.fields.items()}
    gc.disable()  # at once, not when the collector comes round: a row of a large model is gigabytes
    try:
        total, largest = activations(loss, space, loss.params, batch)
        assert total > largest > 0 and made[0]() is None
    finally:
        gc.enable()


def test_a_loss_on_the_device_where_it_is_costs_no_second_model():
    _, loss, _ = language()
    again = loss.to("cpu")
    one, other = loss.shells.get(), again.shells.get()
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert a.data_ptr() == b.data_ptr() == dict(loss.params)[name[6:]].data_ptr()


def test_a_chunk_is_made_smaller_before_the_run_where_memory_is_short(monkeypatch):
    module = torch.nn.Linear(4096, 512)
    loss = slt.supervised(module, lambda out, y: out.square().sum(1) - y)
    data = slt.array_probe("d", np.ones((64, 4096), "f"), np.ones(64, "f"))
    monkeypatch.setattr(partition, "free_memory", lambda device: 120_000_000)
    found = slt.memory_plan(loss, data, chains=2, batch_size=64)
    assert found.fit.chains == 1 and found.fit.examples is None
    monkeypatch.setattr(partition, "free_memory", lambda device: 1_000_000)
    assert slt.memory_plan(loss, data, chains=1, batch_size=64).fit.examples < 64
