"""The code path of a GPU, run on a CPU: it never waits for the device, and gives the same draws."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import slt_notebook as slt
from slt_notebook.runs.execute import worker
from slt_notebook.runs.execute.shared import Shared
from slt_notebook.runs.plan.settings import Settings, Speed
from slt_notebook.runs.prepare import prepare
from tests.runs.problems import limited

SETTINGS = {
    "kernel": slt.SGLD(1e-3), "nbeta": 4.0, "gamma": 10.0, "chains": 4, "draws": 6, "burnin": 1,
    "thin": 2, "batch_size": 8, "seed": 1, "progress": False,
}  # fmt: skip


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
        loss, data, _ = limited()
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
