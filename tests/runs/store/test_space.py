"""A disk that is full, limited or read-only: said before the run, or with what is kept."""

import errno
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.runs.store import run_store as store_module
from slt_notebook.runs.store import space
from tests.runs.problems import language, run_text, same


@pytest.fixture(scope="module")
def text():
    return language()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_failing_write_says_what_is_kept(text, tmp_path, monkeypatch, number):
    path = tmp_path / "run.zarr"
    monkeypatch.setattr("slt_notebook.runs.execute.buffer.Buffer.due", lambda self: True)
    real, calls = store_module.RunStore.write_rows, []

    def failing(self, group, *rest):
        calls.append(group)
        if len(calls) > 20:
            raise OSError(number, "made up by the test")
        return real(self, group, *rest)

    monkeypatch.setattr(store_module.RunStore, "write_rows", failing)
    with pytest.raises(slt.StoreError, match="made up by the test") as caught:
        run_text(text, draws=60, store=path)
    said = str(caught.value)
    assert caught.value.errno == number
    assert "free" in said and "to be written" in said and "checkpoint is kept" in said
    monkeypatch.undo()
    assert slt.check(path).ok
    same(run_text(text, draws=60).tree, run_text(text, draws=60, store=path).tree)


def test_a_store_that_would_not_fit_is_refused_before_the_run(text, tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    room = SimpleNamespace(free=10_000)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda at: room)
    with pytest.raises(slt.StoreError, match=r"needs about .*B .* where 10 kB are free"):
        run_text(text, draws=60, store=path)
    assert not path.exists()
    room.free = 10**9
    run_text(text, draws=60, store=path)
    room.free = 0
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    space.check_space(path, size)  # what is there is written over
    with pytest.raises(slt.StoreError, match="where 0 bytes are free"):
        space.check_space(path, size + 1)


def test_room_is_asked_of_the_nearest_folder_that_exists(tmp_path):
    there = space.free_bytes(tmp_path)
    found = space.free_bytes(tmp_path / "a/b/c.zarr")
    assert there is not None and found is not None and np.isclose(there, found, rtol=0.1)


LIMITED = """
import resource, sys
import slt_notebook as slt
from tests.runs.problems import language
_, loss, data = language()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    slt.sample(loss, data, probes=[data], draws=60, burnin=3, chains=3, batch_size=5, nbeta=20.0,
               gamma=50.0, kernel=slt.SGLD(1e-3), store=sys.argv[1], progress=False)
except slt.StoreError as error:
    print("StoreError", error.errno, error)
"""


def test_a_real_limit_on_the_size_of_files(tmp_path):
    """As by `ulimit -f`: the metadata fits, a chunk of losses does not."""
    where = str(tmp_path / "run.zarr")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, where, "8000"], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith(f"StoreError {errno.EFBIG}"), done.stderr
    assert "File too large" in done.stdout
    assert slt.check(where).ok
