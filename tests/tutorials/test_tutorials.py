"""Every tutorial runs from top to bottom and stays interactive as an offline page."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest

from slt_notebook.share import slim
from slt_notebook.share.exporter import SltExporter
from tests.browser.offline import opened, states

FOLDER = Path(__file__).parents[2] / "tutorials"
NAMES = [path.name for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))]
each = pytest.mark.parametrize("name", NAMES)
ORDINARY = ("00", "03", "04", "07", "09")
"""Tutorials that the ordinary tests execute: the first steps, and four that take seconds."""
OUT = os.environ.get("SLT_TUTORIAL_PAGES")
"""A folder to keep the exported pages in, for people to look at."""


@each
def test_the_notebook_is_clean(name):
    nb = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(nb)
    for cell in nb.cells:
        assert not cell.get("outputs"), "commit tutorials without outputs"
        assert cell.get("execution_count") is None
    assert "widgets" not in nb.metadata


@each
def test_the_notebook_is_its_paired_source(name):
    jupytext = pytest.importorskip("jupytext")
    source = (FOLDER / name).with_suffix(".py")
    assert source.is_file(), "every tutorial has a paired .py:percent source"
    nb, paired = nbformat.read(FOLDER / name, as_version=4), jupytext.read(source)
    cells = [(c.cell_type, c.source.strip()) for c in nb.cells]
    assert cells == [(c.cell_type, c.source.strip()) for c in paired.cells], (
        f"run: jupytext --sync tutorials/{name}"
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name[:2] in ORDINARY else pytest.mark.exhaustive)
        for name in NAMES
    ],
)
@pytest.mark.browser
def test_it_runs_and_its_page_lives(name, browser, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    # The kernel takes the kit from this checkout, installed or not.
    paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    where = tmp_path / "tutorials"
    shutil.copytree(FOLDER, where)
    nb = nbformat.read(where / name, as_version=4)
    resources = {"metadata": {"path": str(where)}}
    NotebookClient(nb, timeout=300, kernel_name="python3", resources=resources).execute()
    exporter = SltExporter()
    meta = {"metadata": {"name": Path(name).stem, "path": str(where)}}
    path = tmp_path / f"{Path(name).stem}.html"
    path.write_text(exporter.from_notebook_node(nb, meta)[0], encoding="utf-8")
    if OUT:
        shutil.copy(path, OUT)
    shown = [i for i in slim.shown_models(nb) if slim.can_live(slim.notebook_states(nb).get(i))]
    assert shown, "a tutorial shows at least one view"
    with opened(browser, path) as page:
        assert set(states(page)) == {"live"}
        assert page.locator(".slt .problem").count() == 0


@each
def test_no_tutorial_names_a_place_of_one_machine(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert "/home/" not in text
    assert "/tmp/" not in text


def test_every_source_has_its_notebook():
    assert sorted(p.stem for p in FOLDER.glob("[0-9][0-9]_*.py")) == [Path(n).stem for n in NAMES]
