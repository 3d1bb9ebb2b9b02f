"""The store of a run: resumed bit-equal, extended, locked, whole after a full disk or a kill."""

import subprocess
import sys
import time

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.errors import StoreError
from slt_notebook.runs.store import layout
from slt_notebook.runs.store import run_store as store_module
from tests.runs.problems import FAST, language, run_text, same, until


@pytest.fixture(scope="module")
def text():
    return language()


def test_stop_and_resume_is_bit_equal(text, tmp_path):
    path = tmp_path / "run.zarr"
    whole = run_text(text, draws=40).tree
    run = run_text(text, draws=40, store=path, blocking=False)
    until(lambda: run.progress()["draw"] >= 5 or run.finished)
    run.cancel()
    assert run.progress()["stage"] == "stopped" and "sample again" in run.progress()["message"]
    done = run.inspect()["probe/train"].loss
    finished = np.isfinite(done.isel(example=0, token=0)).sum("draw")
    assert (finished >= 5).all() and (finished < 40).all()
    same(whole, run_text(text, draws=40, store=path).tree)


def test_more_draws_continue(text, tmp_path):
    path = tmp_path / "run.zarr"
    first = run_text(text, draws=4, store=path).tree["probe/train"].loss.values
    more = run_text(text, draws=9, store=path).tree
    np.testing.assert_array_equal(first, more["probe/train"].loss.values[:, :4])
    same(run_text(text, draws=9).tree, more)


def test_a_finished_store_is_not_sampled_again(text, tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    run_text(text, store=path)
    from slt_notebook.runs.execute import worker

    monkeypatch.setattr(worker, "sampler_steps", None)
    assert run_text(text, store=path).progress()["stage"] == "finished"


def test_another_task_on_a_store_is_refused_with_the_difference(text, tmp_path):
    path = tmp_path / "run.zarr"
    run_text(text, store=path)
    with pytest.raises(slt.StoreMismatch) as caught:
        run_text(text, store=path, gamma=51.0, seed=1)
    message = str(caught.value)
    assert "gamma: stored [50.0" in message and "seed: stored 0, asked 1" in message
    assert "nbeta" not in message
    with pytest.raises(slt.StoreMismatch, match="model"):
        model, _, data = language(seed=1)
        slt.sample(
            slt.causal_lm(model), text[2], probes=[text[2]], store=path, draws=6, burnin=2, thin=2,
            batch_size=5, chains=4, **FAST,
        )  # fmt: skip


def test_a_store_in_use_is_refused(text, tmp_path):
    path = tmp_path / "run.zarr"
    run = run_text(text, draws=3000, store=path, blocking=False)
    try:
        with pytest.raises(StoreError, match="another run is writing"):
            run_text(text, draws=3000, store=path)
    finally:
        run.cancel()


def test_a_newer_schema_and_a_foreign_folder_are_refused(text, tmp_path):
    import zarr

    path = tmp_path / "run.zarr"
    run_text(text, store=path)
    zarr.open_group(str(path), mode="r+").attrs[names.A_SCHEMA] = names.SCHEMA + 1
    with pytest.raises(StoreError, match="update slt-notebook"):
        run_text(text, store=path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="something else"):
        run_text(text, store=other)
    assert (other / "thesis.txt").read_text() == "precious"


def test_a_full_disk_keeps_the_draws_so_far(text, tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    monkeypatch.setattr("slt_notebook.runs.execute.buffer.Buffer.due", lambda self: True)
    real, calls = store_module.RunStore.write_rows, []

    def failing(self, group, *rest):
        calls.append(group)
        if len(calls) > 20:
            raise OSError(28, "No space left on device")
        return real(self, group, *rest)

    monkeypatch.setattr(store_module.RunStore, "write_rows", failing)
    with pytest.raises(OSError, match="No space left"):
        run_text(text, draws=60, store=path)
    monkeypatch.undo()
    kept = slt.open_run(path)["probe/train"].loss.isel(example=0, token=0)
    assert 1 <= int(np.isfinite(kept).sum("draw").min()) < 60
    same(run_text(text, draws=60).tree, run_text(text, draws=60, store=path).tree)


KILLED = """
import sys, time
import slt_notebook as slt
from slt_notebook.runs.execute import buffer
from tests.runs.problems import language
buffer.FLUSH_SECONDS = 0.02
_, loss, data = language()
print("go", flush=True)
slt.sample(loss, data, probes=[data], draws=60, burnin=3, chains=3, batch_size=5, nbeta=20.0,
           gamma=50.0, kernel=slt.SGLD(1e-3), store=sys.argv[1], progress=False)
print("end", flush=True)
"""


def killed_and_resumed(tmp_path, times: int, seed: int = 0) -> int:
    """Kills a run `times` times at random moments; returns how many kills hit it at work."""
    import os

    rng = np.random.default_rng(seed)
    path, hits = tmp_path / "run.zarr", 0
    for _ in range(times):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": "."},
        )  # fmt: skip
        assert process.stdout.readline() == "go\n"
        time.sleep(rng.uniform(0.02, 0.7))
        process.kill()
        hits += process.communicate()[0] == ""
    return hits


@pytest.mark.exhaustive
def test_sigkill_and_resume_is_bit_equal(tmp_path):
    hits = killed_and_resumed(tmp_path, 3)
    assert hits >= 1
    text = language()
    settings = {"draws": 60, "burnin": 3, "thin": 1, "chains": 3}
    resumed = run_text(text, store=tmp_path / "run.zarr", **settings).tree
    same(run_text(text, **settings).tree, resumed)


def test_a_store_is_made_whole_or_not_at_all(text, tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    path.mkdir()  # an empty folder is a place for a store
    with monkeypatch.context() as broken:
        broken.setattr(layout, "_create_probe", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_text(text, store=path)
    assert list(path.iterdir()) == []
    same(run_text(text).tree, run_text(text, store=path).tree)
    assert not list(tmp_path.glob(".*.new"))
