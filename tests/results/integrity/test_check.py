"""`slt.check` finds what is lost, and a run that was repaired is sampled again bit by bit."""

import json
import shutil

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.cli import main
from slt_notebook.errors import InputError, StoreError
from slt_notebook.results.integrity.repair import repair
from slt_notebook.results.integrity.sealed import META, read_sealed
from tests.results.integrity.test_integrity import (
    SETTINGS,
    alike,
    everything,
    files,
    old,
    run,
    sample_small,
)

__all__ = ["old", "run"]  # fixtures


def chunk_files(path):
    return [f for f in files(path) if f.name != META]


def damage(file, lose: bool) -> None:
    if lose:
        file.unlink()
    else:
        good = file.read_bytes()
        file.write_bytes(good[:3] + bytes([good[3] ^ 4]) + good[4:])


def repaired_and_resumed(run, path, lost, lose: bool) -> bool:
    """Whether a run that lost one file is sampled again as it was; False where it is refused."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(run, path)
    damage(path / lost, lose)
    found = slt.check(path)
    assert not found.ok and len(found.lost[str(path)]) >= 1
    try:
        assert repair(path)
    except StoreError as error:
        assert "the rest does not tell" in str(error)
        assert lost.parts[0] == "probe" or lost.parts[1] in ("step_size", "nbeta", "gamma")
        return False
    assert slt.check(path).ok
    slt.open_run(path)
    sample_small(path)
    assert slt.check(path).ok
    assert alike(everything(run), everything(path)), lost
    return True


SOME = ("probe/train/loss/c/1/0/0", "sampling/status/c/0", "checkpoint/position/c/1/0/0",
        "checkpoint/cursor/c/0/0", "sampling/draw/c/0", "sampling/gamma/c/0")  # fmt: skip


def test_repair_and_resume_some(run, tmp_path):
    here = {f.relative_to(run).as_posix(): f.relative_to(run) for f in chunk_files(run)}
    for number, name in enumerate(SOME):
        done = repaired_and_resumed(run, tmp_path / "run.zarr", here[name], number % 2 == 0)
        assert done == (name != SOME[-1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("lose", [True, False])
def test_repair_and_resume_every_chunk(run, tmp_path, lose):
    for file in chunk_files(run):
        repaired_and_resumed(run, tmp_path / "run.zarr", file.relative_to(run), lose)


def test_draws_before_the_damage_are_kept(tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    monkeypatch.setattr("slt_notebook.runs.store.layout.CHUNK_BYTES", 4 * 8 * 2)  # of two draws
    sample_small(path)
    whole = everything(path)
    damage(path / "probe/train/loss/c/1/2/0", False)
    assert any("chain 1 goes on from the first step" in s for s in repair(path))
    kept = slt.open_run(path)
    loss = kept["probe/train"].loss
    assert loss[0].notnull().all() and loss[1, :4].notnull().all() and loss[1, 4:].isnull().all()
    assert kept["sampling"].loss[1].notnull().sum() == 2 + 4 * 2
    sample_small(path)
    assert alike(whole, everything(path))


def test_nothing_is_lost_of_a_whole_run(run, old):
    found = slt.check(run)
    assert found.ok and "complete" in str(found) and "crc32c" in str(found)
    assert repair(run) == []
    assert slt.check(slt.open_run(run)).table.equals(found.table)
    before = slt.check(old)
    assert before.ok and "checksums: none" in str(before)


def test_metadata_cannot_be_made_again(run, tmp_path):
    path = shutil.copytree(run, tmp_path / "run.zarr")
    (path / "sampling/virial" / META).unlink()
    assert "sampling/virial: its zarr.json is missing" in str(slt.check(path))
    with pytest.raises(StoreError, match="sampling/virial"):
        repair(path)


def test_a_store_without_checksums_is_repaired(old):
    whole = everything(old)
    (old / "sampling/loss/c/1/0").unlink()
    repair(old)
    sample_small(old)
    assert alike(whole, everything(old)) or slt.check(old).ok


def test_what_cannot_be_checked(tmp_path):
    with pytest.raises(StoreError, match="no folder"):
        slt.check(tmp_path / "none.zarr")
    with pytest.raises(StoreError, match="neither a run nor a sweep"):
        slt.check(tmp_path)
    with pytest.raises(InputError, match="without a store"):
        slt.check(3)


def test_the_command(run, tmp_path, capsys):
    path = shutil.copytree(run, tmp_path / "run.zarr")
    assert main(["check", str(path)]) == 0
    assert "complete" in capsys.readouterr().out
    (path / "probe/train/loss/c/0/0/0").unlink()
    assert main(["check", str(path), str(run)]) == 1
    said = capsys.readouterr().out
    assert "probe/train/loss chunk 0/0/0 (chain 0, draws 0 to 5): its file is missing" in said
    assert main(["check", "--repair", str(path)]) == 0
    assert "chain 0 goes on from the first step" in capsys.readouterr().out
    sample_small(path)
    assert alike(everything(run), everything(path))
    assert read_sealed(path)["attributes"][names.A_CHECKSUMS] == "crc32c"


def test_a_sweep_is_checked_run_by_run(tmp_path):
    folder = tmp_path / "sweep"
    small_sweep(folder)
    assert slt.check(folder).ok and len(slt.check(folder).table) == 2
    lost = next(folder.glob("step100*.zarr")) / "sampling/loss/c/0/0"
    lost.unlink()
    found = slt.check(folder)
    assert not found.ok and [len(v) for v in found.lost.values()] == [0, 1]
    with pytest.raises(StoreError, match="sampling/loss chunk 0/0"):
        slt.open_sweep(folder)


def small_sweep(folder):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    function = lambda p, b: (b["inputs"] @ p["w"] - b["targets"]).square() / 2
    points = {f"step{t}": slt.loss_fn({"w": torch.full((3,), t / 50)}, function) for t in (20, 100)}
    data = slt.array_probe("train", rng.standard_normal((8, 3)), rng.standard_normal(8))
    return slt.sweep(
        None, data, checkpoints=points, probes=[data], kernel=slt.SGLD(1e-2), progress=False,
        store=folder, **SETTINGS,
    )  # fmt: skip


def test_the_table_of_a_sweep(tmp_path):
    folder = tmp_path / "sweep"
    small_sweep(folder)
    index = folder / names.SWEEP_INDEX
    whole, states = index.read_text(), everything_of_sweep(folder)
    # Two labels exchanged: every file is well-formed, and the checkpoints would be swapped.
    table = json.loads(whole)
    a, b = table["runs"]
    a["path"], b["path"] = b["path"], a["path"]
    index.write_text(json.dumps(table))
    for call in (slt.open_sweep, slt.check):
        with pytest.raises(StoreError, match=r"sweep.json does not match its digest"):
            call(folder)
    index.unlink()
    small_sweep(folder)
    assert json.loads(index.read_text()) == json.loads(whole)
    assert everything_of_sweep(folder) == states


def everything_of_sweep(folder) -> dict:
    return {f.relative_to(folder): f.stat().st_mtime_ns for f in folder.rglob("c/*/*")}


def test_a_run_of_a_sweep_that_lost_its_metadata_has_not_merely_not_begun(tmp_path):
    folder = tmp_path / "sweep"
    small_sweep(folder)
    second = next(folder.glob("step100*.zarr"))
    (second / META).unlink()
    assert not slt.check(folder).ok
    with pytest.raises(StoreError, match=r"its zarr.json is missing"):
        slt.open_sweep(folder)
    shutil.rmtree(second)  # as before its run begins
    assert slt.open_sweep(folder).sampling.loss.isel(checkpoint=1).isnull().all()
