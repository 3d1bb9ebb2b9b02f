"""A public call opens a store once: once for each run or sweep that it is given."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.estimators.health import checks, health_text, rho_loc
from slt_notebook.estimators.influence.top_sources import top_sources
from slt_notebook.results import store
from slt_notebook.results.result import resolve
from slt_notebook.results.sweep import open_sweep
from slt_notebook.views.card import run_card, run_text
from slt_notebook.views.charts.altair_charts import trace_chart
from tests.cases import synthetic_tree
from tests.stores import write_store

OF_ONE_RUN = {
    "llc": slt.llc,
    "health": slt.health,
    "health_text": health_text,
    "checks": checks,
    "rho_loc": rho_loc,
    "influence": lambda r: slt.influence(r, query="train", train="train"),
    "influence of two probes": lambda r: slt.influence(r, query="train", train="other"),
    "influence of ids": lambda r: slt.influence(r, query="other/1", train=["train/0", "train/2"]),
    "top_sources": lambda r: top_sources(r, "train/1", train="other"),
    "group_influence": lambda r: slt.group_influence(
        r, {"first": np.array([True, False, False])}, probe="train"
    ),
    "screen": lambda r: slt.screen(r, query="train", train="other"),
    "loss_kernel": lambda r: slt.loss_kernel(r, probe="train"),
    "kernel_map": lambda r: slt.kernel_map(r, probe="train", modes=2),
    "neighbours": lambda r: slt.neighbours(r, probe="train", k=1),
    "loss_moments": lambda r: slt.loss_moments(r, probe="train"),
    "waic": lambda r: slt.waic(r, probe="train"),
    "wbic": lambda r: slt.wbic(r, strict=False),
    "to_arviz": slt.to_arviz,
    "moments": lambda r: slt.moments(r, probe="train", train="other"),
    "refined_llc": slt.refined_llc,
    "refined_llc by token": lambda r: slt.refined_llc(r, probe="train"),
    "susceptibility": lambda r: slt.susceptibility(r, probe="train", estimator="within"),
    "view": slt.view,
    "notes": slt.notes,
    "run_card": run_card,
    "run_text": run_text,
    "trace_chart": trace_chart,
    "TraceView": slt.TraceView,
    "TokenStrip": lambda r: slt.TokenStrip(Path(r) if isinstance(r, str) else r, probe="train"),
    "InfluenceExplorer": slt.InfluenceExplorer,
    "InfluenceExplorer of ids": lambda r: slt.InfluenceExplorer(
        r, query="other/1", train=["train/0", "train/2"]
    ),
    "KernelMatrix": lambda r: slt.KernelMatrix(r, probe="train"),
    "EmbeddingMap": lambda r: slt.EmbeddingMap(np.eye(33, 2), probe=resolve(r).probe("train")),
}
OF_TWO_RUNS = {
    "screen with control": lambda r: slt.screen(r, query="train", train="other", control=r),
    "phase_mixture": lambda r: slt.phase_mixture(r, r, probe="train"),
}
OF_A_SWEEP = {
    "refined_llc": slt.refined_llc,
    "moments": slt.moments,
    "susceptibility": lambda s: slt.susceptibility(s, estimator="within"),
    "over_checkpoints": lambda s: slt.over_checkpoints(s, slt.llc),
    "over_checkpoints of influence": lambda s: slt.over_checkpoints(
        s, slt.influence, unit="sequence"
    ),
}


class Handle:
    """Like a Run in memory: its store is opened again at every look at `tree`."""

    def __init__(self, path, opened=slt.open_run):
        self.path, self.opened = path, opened

    @property
    def tree(self):
        return self.opened(self.path).load()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    tree = synthetic_tree()
    other = tree["probe/train"].to_dataset()
    other["example"] = [f"other/{i}" for i in range(3)]
    tree["probe/other"] = xr.DataTree(other)
    return write_store(tree, tmp_path_factory.mktemp("runs") / "a.zarr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    function = lambda p, b: (b["inputs"] @ p["w"] - b["targets"]).square() / 2
    points = {f"step{t}": slt.loss_fn({"w": torch.full((3,), t / 50)}, function) for t in (20, 100)}
    data = slt.array_probe("train", rng.standard_normal((12, 3)), rng.standard_normal(12))
    folder = tmp_path_factory.mktemp("sweeps") / "a"
    slt.sweep(
        None, data, checkpoints=points, probes=[data], kernel=slt.SGLD(1e-2), nbeta=5.0, gamma=5.0,
        chains=3, draws=10, batch_size=12, progress=False, store=folder,
    )  # fmt: skip
    return folder


@pytest.fixture
def openings(monkeypatch):
    count = [0]
    plain = store._open_store

    def counted(root):
        count[0] += 1
        return plain(root)

    monkeypatch.setattr(store, "_open_store", counted)
    return count


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_one_opening_for_a_path_and_for_a_handle(name, path, openings):
    for run in (path, str(path), Handle(path)):
        openings[0] = 0
        OF_ONE_RUN[name](run)
        assert openings[0] == 1, run


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_a_result_is_taken_as_it_is(name, path, openings):
    result = resolve(path)
    openings[0] = 0
    OF_ONE_RUN[name](result)
    assert openings[0] == 0


@pytest.mark.parametrize("name", OF_TWO_RUNS)
def test_one_opening_for_each_run(name, path, openings):
    for run in (path, Handle(path)):
        openings[0] = 0
        OF_TWO_RUNS[name](run)
        assert openings[0] == 2, run


@pytest.mark.parametrize("name", OF_A_SWEEP)
def test_one_opening_for_a_sweep(name, folder, openings):
    for sweep in (folder, Handle(folder, open_sweep)):
        openings[0] = 0
        OF_A_SWEEP[name](sweep)
        assert openings[0] == 1, sweep
