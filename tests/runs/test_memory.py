"""What a run holds in memory is said before it starts; what does not fit after all is halved."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import slt_notebook as slt
from slt_notebook.core import chunking as fit
from slt_notebook.core.chunking import Fit
from slt_notebook.core.space import Space
from slt_notebook.runs.execute import worker
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.memory import activations
from slt_notebook.runs.plan.settings import Settings, Speed
from slt_notebook.runs.prepare import prepare
from tests.runs.problems import language

SETTINGS = {
    "kernel": slt.SGLD(1e-3), "nbeta": 4.0, "gamma": 10.0, "chains": 4, "draws": 6, "burnin": 1,
    "thin": 2, "batch_size": 8, "seed": 1, "progress": False,
}  # fmt: skip


def problem(limit: int | None = None, examples: int = 24):
    """Linear regression whose memory holds `limit` examples at once, over chains and batch."""
    rng = np.random.default_rng(0)
    data = slt.array_probe("d", rng.normal(size=(examples, 3)), rng.normal(size=examples))
    asked = []

    def loss(params, batch):
        x = batch["inputs"]
        rows = x.shape[0]
        if torch._C._functorch.is_batchedtensor(x):
            rows *= torch._C._functorch.get_unwrapped(x).shape[0]
        asked.append(rows)
        if limit is not None and rows > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 TiB")
        return (x @ params["w"] - batch["targets"]).square()

    return slt.loss_fn({"w": torch.ones(3)}, loss), data, asked


@pytest.mark.parametrize("limit", [32, 16, 8, 4, 1])
def test_a_run_that_does_not_fit_goes_on_in_halves_and_loses_no_draw(limit):
    loss, data, _ = problem()
    plain = slt.sample(loss, data, probes=[data], **SETTINGS)
    tight, data, asked = problem(limit)
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
    loss, data, _ = problem()
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
    loss, data, _ = problem()
    found = slt.memory_plan(loss, data, probes=[data], chains=5, kernel=slt.SGHMC(), draws=7,
                            batch_size=6)  # fmt: skip
    sizes = {what: size for what, size, _ in found.items}
    assert sizes["w*"] == 12 and sizes["chains"] == 60 and sizes["states"] == 60
    assert sizes["losses of probe 'd'"] == 3 * 4 * 5 * 24
    assert found.disk == 4 * 5 * 7 * 24 + 2 * 2 * 60
    assert found.total == sum(sizes.values()) and "vmap" in found.rule
    for text in (str(found), found._repr_html_()):
        assert "activations" in text and "losses of probe" in text
        assert "1.2e-05" in text  # megabytes of w*: not rounded to nothing
    with pytest.raises(slt.InputError, match=r"did you mean 'draws'"):
        slt.memory_plan(loss, data, draw=3)


def test_the_plan_takes_every_setting_of_a_run_and_refuses_what_the_run_refuses(monkeypatch):
    from slt_notebook.runs import memory_plan as module

    loss, data, _ = problem()
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


class Syncs(TorchDispatchMode):
    """Counts what makes the host wait for a device: reading a value, a shape that hangs on one."""

    WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        self.count += any(name.startswith(wait) for wait in self.WAITS)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "kernel", [slt.SGLD(1e-3), slt.SGLD(1e-3, metric=slt.RMSProp()), slt.SGHMC(1e-3), slt.SGNHT()]
)
@pytest.mark.parametrize("batch_size", [8, 24])
def test_no_step_makes_the_host_wait_for_the_device(kernel, batch_size, monkeypatch):
    """The code path of a GPU, run on a CPU where waits can be counted."""
    monkeypatch.setattr(worker, "may_ask", lambda device: False)
    monkeypatch.setattr(worker, "_controls", lambda *a: None)  # their number grows to 8
    counts = {}
    for draws in (12, 28):  # both have the Metropolis tests at draws 0 and 10
        loss, data, _ = problem()
        shared = Shared(loss, data, [data], torch.device("cpu"))
        settings = Settings(
            kernel=kernel, nbeta=4.0, gamma=10.0, chains=3, draws=draws, burnin=2,
            batch_size=batch_size,
        )  # fmt: skip
        run = prepare(shared, "full", None, settings, Speed())
        with Syncs() as seen:
            worker.run_chains(run._job, (0, 1, 2))
        counts[draws] = seen.count
        run._job.writer.shutdown()
        run._job.store.close()
        assert np.isfinite(run.tree["sampling"]["loss"]).all()
    assert counts[12] == counts[28]  # what a run does once; nothing a step


def test_the_code_path_of_a_gpu_gives_the_same_draws_and_stops_the_same_chains(monkeypatch):
    rng = np.random.default_rng(0)
    data = slt.array_probe("d", rng.normal(size=(24, 3)), rng.normal(size=24))

    def loss(params, batch):
        out = (batch["inputs"] @ params["w"] - batch["targets"]).square()
        return torch.where(params["w"].norm() > 2.2, torch.nan, out)

    of = slt.loss_fn({"w": torch.ones(3)}, loss)
    settings = {**SETTINGS, "draws": 60, "kernel": slt.SGLD((0.02, 1e-4, 1e-4, 0.3))}
    trees = []
    for asks in (True, False):
        monkeypatch.setattr(worker, "may_ask", lambda device, asks=asks: asks)
        trees.append(slt.sample(of, data, probes=[data], **settings).tree)
    one, other = trees
    assert (one["sampling"]["status"] != 0).any() and (one["sampling"]["status"] == 0).any()
    for group in ("sampling", "probe/d"):
        for name, values in one[group].data_vars.items():
            np.testing.assert_allclose(other[group][name], values, rtol=1e-5, err_msg=name)
