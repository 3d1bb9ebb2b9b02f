"""Long runs and many openings: memory and descriptors stay as they are, the store grows as planned.

pytest -m slow tests/runs/test_long_life.py -s        (half an hour on an idle core)
"""

import gc

import numpy as np
import pytest

import slt_notebook as slt
from tests.bench.bench_soak import SETTINGS, descriptors, planned, resident, size_of, soak
from tests.runs.problems import FAST, regression

STEPS, OPENS, SPREAD = 1_000_000, 10_000, 10.0  # MB between the least and the most: ± 5


@pytest.mark.slow
def test_a_million_steps_hold_no_more_than_the_first_hundred_thousand(tmp_path):
    found = list(soak(STEPS, tmp_path, every=10.0))
    later = [s for s in found if s.step > STEPS // 10]
    print(*found[:: max(1, len(found) // 30)], sep="\n")
    assert len(later) > 20 and found[-1].step == STEPS
    assert max(s.rss for s in later) - min(s.rss for s in later) < SPREAD
    assert len({s.descriptors for s in later[:-1]}) == 1  # at the end the lock is let go
    whole = planned(STEPS)
    assert 0.5 * whole < found[-1].store < 1.02 * whole
    tree = slt.open_run(tmp_path / "soak.zarr")
    assert np.isfinite(tree["probe/train"].loss.values).all()
    assert not tree["sampling"].status.values.any()


@pytest.mark.slow
def test_ten_thousand_openings_hold_no_more_than_the_first_thousand(tmp_path):
    path = tmp_path / "run.zarr"
    loss, data, _, _ = regression()
    slt.sample(loss, data, probes=[data], draws=100, store=path, **SETTINGS)
    found = []
    for number in range(OPENS):
        tree = slt.open_run(path)
        assert np.isfinite(tree["sampling"].loss.values).all()
        if number % (OPENS // 20) == 0:
            found.append((resident(), descriptors()))
    later = found[2:]
    print(*found, sep="\n")
    assert max(m for m, _ in later) - min(m for m, _ in later) < SPREAD
    assert len({d for _, d in later}) == 1


def test_a_run_leaves_no_descriptor_and_a_store_of_its_planned_size(tmp_path):
    loss, data, _, _ = regression()
    settings = {**FAST, "draws": 300, "chains": 2, "batch_size": 8, "probes": [data]}
    for _ in range(2):  # the first opens what stays open
        gc.collect()
        before = descriptors()
        path = tmp_path / f"{before}-{len(list(tmp_path.iterdir()))}.zarr"
        slt.sample(loss, data, store=path, **settings)
        slt.open_run(path)["probe/train"].loss.load()
    gc.collect()
    assert descriptors() == before
    settings.pop("progress")
    plan = slt.memory_plan(loss, data, **settings).disk / 1e6
    metadata = sum(f.stat().st_size for f in path.rglob("zarr.json")) / 1e6
    assert 0.5 * plan < size_of(path) - metadata < 1.05 * plan


def test_a_small_probe_is_kept_in_chunks_of_a_few_thousand_draws_at_most(tmp_path):
    loss, data, _, _ = regression()
    settings = {**FAST, "draws": 5000, "chains": 1, "batch_size": 4, "store": tmp_path / "a.zarr"}
    run = slt.sample(loss, data, probes=[data], blocking=False, **settings)
    run.cancel()
    probe = slt.open_run(tmp_path / "a.zarr")["probe/train"].loss
    assert probe.encoding["chunks"][:2] == (1, 4096)


def test_a_flush_comes_after_a_number_of_steps_however_long_writing_takes(tmp_path, monkeypatch):
    from slt_notebook.runs.execute import buffer

    monkeypatch.setattr(buffer, "FLUSH_SECONDS", 1e9)
    monkeypatch.setattr(buffer, "MOST_STEPS", 16)
    held, flush = [], buffer.Buffer.flush

    def noted(self, steps, *rest):
        held.append(len(self.per_step["loss"]))
        flush(self, steps, *rest)

    monkeypatch.setattr(buffer.Buffer, "flush", noted)
    loss, data, _, _ = regression()
    slt.sample(loss, data, **FAST, draws=40, chains=1, batch_size=4)
    assert held == [16, 16, 8]
