"""A flipped byte or a lost file of a run is an error or changes nothing; it is never silent."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.errors import SLTError, StoreError
from slt_notebook.results.integrity.sealed import META, read_metadata, read_sealed
from slt_notebook.results.store import read

SETTINGS = {
    "draws": 6, "burnin": 2, "thin": 2, "chains": 2, "batch_size": 4, "nbeta": 5.0, "gamma": 5.0,
}  # fmt: skip


def sample_small(store, **changed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    function = lambda p, b: (b["inputs"] @ p["w"] - b["targets"]).square() / 2
    loss = slt.loss_fn({"w": torch.full((3,), 0.5)}, function)
    data = slt.array_probe("train", rng.standard_normal((8, 3)), rng.standard_normal(8))
    settings = {**SETTINGS, "kernel": slt.SGLD(1e-2), **changed}
    return slt.sample(loss, data, probes=[data], store=store, progress=False, **settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run.zarr"
    sample_small(path)
    return path


def files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


def everything(path: Path) -> dict:
    """All that an estimate can see of a run: every value and every attribute."""
    tree = slt.open_run(path)
    found = {"attrs": dict(tree.attrs)}
    for node in tree.subtree:
        data = node.to_dataset(inherit=False)
        found[node.path] = dict(data.attrs)
        for name, variable in data.variables.items():
            values = read(data[name])
            found[f"{node.path}/{name}"] = (variable.dims, dict(variable.attrs), values)
    return found


def alike(a: dict, b: dict) -> bool:
    if a.keys() != b.keys():
        return False
    for key, value in a.items():
        if isinstance(value, dict):
            if value != b[key]:
                return False
            continue
        (dims, attrs, values), (dims_b, attrs_b, values_b) = value, b[key]
        if (dims, attrs, values.dtype) != (dims_b, attrs_b, values_b.dtype):
            return False
        if values.shape != values_b.shape or values.tobytes() != values_b.tobytes():
            return False
    return True


def silent(path: Path, whole: dict) -> bool:
    """Whether reading the damaged run gives other values without an error of the kit."""
    try:
        return not alike(whole, everything(path))
    except SLTError as error:
        assert "What to do:" in str(error)
        return False


def flipped(path: Path, file: Path, place: int, mask: int, whole: dict) -> bool:
    """Whether one changed byte stays unnoticed."""
    good = file.read_bytes()
    bad = bytearray(good)
    bad[place] ^= mask
    try:
        file.write_bytes(bytes(bad))
        return silent(path, whole)
    finally:
        file.write_bytes(good)


def flips(path: Path, count: int, seed: int) -> list:
    rng = np.random.default_rng(seed)
    sizes = np.array([f.stat().st_size for f in files(path)])
    whole = everything(path)
    found = []
    for number in range(count):
        # The first ones go through all files; the others hit every byte alike.
        which = number if number < len(sizes) else rng.choice(len(sizes), p=sizes / sizes.sum())
        file = files(path)[which]
        place, mask = int(rng.integers(sizes[which])), 1 << int(rng.integers(8))
        if flipped(path, file, place, mask, whole):
            found.append((file.relative_to(path), place, mask))
    return found


def test_flipped_bytes_are_noticed(run):
    assert flips(run, 2 * len(files(run)), 0) == []


@pytest.mark.slow
def test_20000_flipped_bytes_are_noticed(run):
    assert flips(run, 20_000, 1) == []


@pytest.mark.exhaustive
def test_every_byte_of_every_file_alone(run):
    """File by file: a changed byte of a chunk or of metadata does not read as something else."""
    for file in files(run):
        good = file.read_bytes()
        meta = file.name == META
        folder = file.parent
        if not meta:
            folder = next(p for p in file.parents if (p / META).is_file())
        load = lambda at=folder, m=meta: (
            read_sealed(at) if m else zarr.open_array(str(at), mode="r")[...].tobytes()
        )
        whole = load()
        for place in range(len(good)):
            bad = bytearray(good)
            bad[place] ^= 1 << (place % 8)
            file.write_bytes(bytes(bad))
            try:
                assert load() == whole, (file, place)
            except ValueError:
                pass
        file.write_bytes(good)


@pytest.mark.parametrize("cursor", [True, False])
def test_no_lost_file_stays_unnoticed(run, tmp_path, cursor):
    path = shutil.copytree(run, tmp_path / "run.zarr")
    if not cursor:  # as in a run that was passed on without its states
        shutil.rmtree(path / names.CHECKPOINT)
    whole = everything(path)
    for file in files(path):
        good = file.read_bytes()
        file.unlink()
        inside = names.CHECKPOINT in file.relative_to(path).parts
        last = not cursor and file.relative_to(path).parts[0] == names.PROBE and "loss" in str(file)
        if not last:
            assert not silent(path, whole), file
        if inside:
            with pytest.raises(StoreError):
                sample_small(path)
        file.write_bytes(good)


def test_the_error_names_array_chunk_chain_and_draws(run, tmp_path):
    path = shutil.copytree(run, tmp_path / "run.zarr")
    chunk = path / "probe/train/loss/c/1/0/0"
    good = chunk.read_bytes()
    chunk.unlink()
    words = r"probe/train/loss chunk 1/0/0 \(chain 1, draws 0 to 5\): its file is missing"
    with pytest.raises(StoreError, match=words):
        slt.open_run(path)
    with pytest.raises(StoreError, match=words):
        sample_small(path, draws=8)
    chunk.write_bytes(good[:9] + b"\0" + good[10:])
    with pytest.raises(StoreError, match=r"chunk 1/0/0 \(chain 1, draws 0 to 5\): does not match"):
        slt.loss_kernel(path)
    sample_small(path, draws=8)
    with pytest.raises(StoreError, match=r"chunk 1/0/0 \(chain 1, draws 0 to 5\): does not match"):
        slt.loss_kernel(path)


def test_a_diverged_chain_keeps_its_gap(tmp_path):
    path = tmp_path / "run.zarr"
    step = slt.SGLD([1e-2, 1e6])
    sample_small(path, kernel=step, draws=20)
    found = slt.llc(path)
    assert found.n_chains == 1
    assert len(files(path / "sampling/accept")) == 3  # of NaN, and there


def test_every_array_ends_with_its_checksum(run):
    for file in run.rglob(META):
        doc = read_sealed(file.parent)
        if doc["node_type"] == "array":
            assert doc["codecs"][-1]["name"] == "crc32c"
    assert read_sealed(run)["attributes"][names.A_CHECKSUMS] == "crc32c"


# Zarr says of every text array, in whatever store, that its type is not in the standard yet.
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_a_copy_of_the_tree_is_a_run_without_checksums(run, tmp_path):
    """What an opened tree says of its store is not true of another that it is written to."""
    tree = slt.open_run(run)
    assert not set(tree.attrs) & set(names.STORE_ATTRS)
    tree.to_zarr(tmp_path / "copy.zarr", consolidated=False)
    copy = slt.open_run(tmp_path / "copy.zarr")
    assert float(slt.llc(copy)["llc"]) == float(slt.llc(tree)["llc"])
    assert set(slt.check(tmp_path / "copy.zarr").table.checksums) == {"none"}


# Stores of before ---------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path):
    """A run that was written before there were checksums, by the settings of `sample_small`."""
    shutil.unpack_archive(Path(__file__).parents[1] / "data/store_schema1.zip", tmp_path)
    return tmp_path / "run.zarr"


def test_a_store_without_checksums_is_read_and_extended(old, run, tmp_path):
    assert not set(read_metadata(old)["attributes"]) & set(names.STORE_ATTRS)
    assert slt.llc(old).n_chains == 2
    np.testing.assert_allclose(
        read(slt.open_run(old)["sampling"].loss), read(slt.open_run(run)["sampling"].loss), 1e-5
    )
    codecs = (old / "sampling/loss" / META).read_text()
    sample_small(old, draws=9)
    assert '"crc32c"' not in (old / "sampling/loss" / META).read_text() and '"zstd"' in codecs
    sample_small(tmp_path / "new.zarr", draws=9)
    new = slt.open_run(tmp_path / "new.zarr")
    found = slt.open_run(old)
    for path in ("sampling", "probe/train"):
        np.testing.assert_allclose(read(found[path].loss), read(new[path].loss), 1e-5)


def test_a_lost_chunk_of_a_store_without_checksums(old):
    (old / "sampling/loss/c/1/0").unlink()
    with pytest.raises(StoreError, match=r"sampling/loss chunk 1/0 \(chain 1, steps 0 to 13\)"):
        slt.llc(old)
