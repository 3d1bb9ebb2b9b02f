"""A store opens lazily, and the error for a broken one says what is wrong."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, StoreError
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.results.result import resolve
from slt_notebook.results.store import as_tree, open_run, read
from tests.cases import synthetic_tree
from tests.stores import write_store


def probe(run, name=None):
    return resolve(run).probe(name)


@pytest.fixture
def store(tmp_path):
    return write_store(synthetic_tree(), tmp_path / "a.zarr")


def test_round_trip(store):
    there, here = open_run(store), synthetic_tree()
    assert there.attrs == here.attrs
    for path in ("sampling", "probe/train"):
        xr.testing.assert_identical(
            there[path].to_dataset().load(), here[path].to_dataset()[list(there[path].data_vars)]
        )
    assert probe(there).token_text.dtype.kind == "U"


def test_losses_are_not_read_on_opening(store):
    loss = open_run(store)["probe/train"].loss
    assert not isinstance(loss.variable._data, np.ndarray)
    shutil.rmtree(store / "probe/train/loss/c")
    assert np.isnan(read(open_run(store)["probe/train"].loss)).all()  # not written yet


def test_the_checkpoint_stays_hidden_even_when_it_is_half_written(store):
    (store / "checkpoint").mkdir()
    (store / "checkpoint" / "zarr.json").write_text('{"zarr_fo')
    assert set(open_run(store).children) == {"sampling", "probe"}


def test_a_run_that_is_being_written(tmp_path):
    tree = synthetic_tree()
    for name in ("loss", "init_loss"):
        tree["sampling"][name][:, 60:] = np.nan
    tree["probe/train"].loss[:, 20:] = np.nan
    found = llc(write_store(tree, tmp_path / "a.zarr"))
    assert found.n_steps == 40 and found.n_chains == 4


def test_as_tree_takes_whatever_stands_for_a_run(store):
    class Handle:
        tree = synthetic_tree()

    assert as_tree(Handle()) is Handle.tree
    assert as_tree(str(store)).attrs == as_tree(store).attrs
    with pytest.raises(InputError, match="a DataTree, a path, or a Run"):
        as_tree(3)


def test_probe_names(store):
    tree = synthetic_tree()
    tree["probe/other"] = xr.DataTree(probe(tree))
    with pytest.raises(InputError, match="did you mean 'train'"):
        probe(tree, "trains")
    with pytest.raises(InputError, match="2 probes"):
        probe(tree)
    assert probe(probe(tree, "other")) is not None
    with pytest.raises(InputError, match="without probes"):
        probe(xr.DataTree.from_dict({"/sampling": tree["sampling"].to_dataset()}))


def break_(store, how):
    meta = store / "zarr.json"
    if how == "nothing there":
        shutil.rmtree(store)
    elif how == "no metadata":
        meta.unlink()
    elif how == "truncated root":
        meta.write_text(meta.read_text()[:40])
    elif how == "newer":
        data = json.loads(meta.read_text())
        data["attributes"][names.A_SCHEMA] = names.SCHEMA + 1
        meta.write_text(json.dumps(data))
    elif how == "no schema":
        data = json.loads(meta.read_text())
        data["attributes"] = {}
        meta.write_text(json.dumps(data))
    elif how == "task is no JSON":
        data = json.loads(meta.read_text())
        data["attributes"][names.A_TASK] = "{not"
        meta.write_text(json.dumps(data))
    elif how == "no sampling":
        shutil.rmtree(store / "sampling")
    elif how == "truncated probe":
        (store / "probe/train/zarr.json").write_text("{")
    elif how == "truncated array":
        (store / "probe/train/loss/zarr.json").write_text("")
    elif how == "no loss":
        shutil.rmtree(store / "sampling/loss")


@pytest.mark.parametrize(
    "how,words",
    [
        ("nothing there", "no folder"),
        ("no metadata", "not a run"),
        ("truncated root", "cannot be opened"),
        ("newer", "upgrade"),
        ("no schema", "without 'slt_schema'"),
        ("task is no JSON", "no JSON"),
        ("no sampling", "cannot be opened"),
        ("truncated probe", "cannot be opened"),
        ("truncated array", "copy the run again"),
        ("no loss", "without 'loss'"),
    ],
)
def test_broken_stores(store, how, words):
    break_(store, how)
    with pytest.raises(StoreError, match=words) as caught:
        open_run(store)
    assert "What to do:" in str(caught.value)


def test_a_damaged_chunk_is_named_on_reading(store):
    chunk = next(p for p in (store / "sampling/loss/c").rglob("*") if p.is_file())
    chunk.write_bytes(b"not zstd at all")
    with pytest.raises(StoreError, match="'loss' that cannot be read"):
        llc(store)


def test_the_folder_of_runs_names_the_runs(store):
    with pytest.raises(StoreError, match=r"a\.zarr"):
        open_run(store.parent)


def test_a_devinterp_store_is_sent_to_its_importer(tmp_path):
    data = xr.Dataset({"sampling_loss_micro": (("chain", "step"), np.zeros((1, 2)))})
    data.to_zarr(tmp_path / "d.zarr", consolidated=False)
    with pytest.raises(StoreError, match="import_devinterp"):
        open_run(tmp_path / "d.zarr")
