"""Each command does what its help says, and fails with a message and the right exit code."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pytest

from slt_notebook import cli
from slt_notebook.errors import InputError
from slt_notebook.share import tutorials

CELL = nbformat.v4.new_code_cell
PROSE = nbformat.v4.new_markdown_cell


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """A folder of tutorials as an installation has it."""
    folder = tmp_path / "installed"
    (folder / "data" / "run.zarr").mkdir(parents=True)
    for name, heading in (("00_tour", "The tour"), ("01_first_llc", "A first LLC")):
        nb = nbformat.v4.new_notebook(cells=[PROSE(f"# {heading}\n\ntext")])
        nbformat.write(nb, folder / f"{name}.ipynb")
        (folder / f"{name}.py").write_text("# %%")
    (folder / "data" / "run.zarr" / "zarr.json").write_text("{}")
    monkeypatch.setattr(tutorials, "source", lambda: folder)
    return folder


def notebook(path, *cells):
    nb = nbformat.v4.new_notebook(cells=list(cells))
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(nb, path)
    return path


def test_help_is_prompt_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'xarray', 'anywidget', 'nbconvert', 'jupyterlab'):\n"
        "    sys.modules[name] = None\n"
        "from slt_notebook import cli\n"
        "sys.exit(cli.main([]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    for name in ("demo", "lab", "tutorials", "export", "notes", "doctor"):
        assert name in found.stdout


@pytest.mark.parametrize("line", ["fly", "tutorials", "notes", "export", "lab a b"])
def test_a_command_not_understood_is_code_2(line, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(line.split())
    assert stop.value.code == 2
    assert "usage: slt-notebook" in capsys.readouterr().err


def test_tutorials_are_listed_with_their_titles(origin, capsys):
    assert cli.main(["tutorials", "--list"]) == 0
    out = capsys.readouterr().out
    assert "00_tour" in out
    assert "A first LLC" in out


def test_an_edited_tutorial_is_never_overwritten(origin, tmp_path, capsys):
    mine = tmp_path / "mine"
    assert cli.main(["tutorials", "--to", str(mine)]) == 0
    names = sorted(p.relative_to(mine).as_posix() for p in mine.rglob("*") if p.is_file())
    assert names == [
        ".slt-tutorials.json",
        "00_tour.ipynb",
        "01_first_llc.ipynb",
        "data/run.zarr/zarr.json",
    ]
    assert "3 copied" in capsys.readouterr().out
    # The reader edits one; the kit is upgraded, and both change there.
    (mine / "00_tour.ipynb").write_text("my own work")
    for path in origin.glob("*.ipynb"):
        nb = nbformat.read(path, 4)
        nb.cells.append(PROSE("new in this version"))
        nbformat.write(nb, path)
    assert cli.main(["tutorials", "--to", str(mine)]) == 0
    out = capsys.readouterr().out
    assert "kept 00_tour.ipynb" in out
    assert "1 copied" in out
    assert (mine / "00_tour.ipynb").read_text() == "my own work"
    assert "new in this version" in (mine / "01_first_llc.ipynb").read_text()
    # Without a manifest nothing is known to be ours: nothing that differs is replaced.
    (mine / tutorials.MANIFEST).write_text("{broken")
    (mine / "01_first_llc.ipynb").write_text("also mine")
    cli.main(["tutorials", "--to", str(mine)])
    assert (mine / "01_first_llc.ipynb").read_text() == "also mine"


def test_a_file_in_the_way_is_an_error(origin, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert cli.main(["tutorials", "--to", str(tmp_path / "file")]) == 1
    assert "What to do" in capsys.readouterr().err


def test_without_tutorials_it_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tutorials, "source", lambda: None)
    assert cli.main(["tutorials", "--list"]) == 1
    with pytest.raises(InputError, match="install"):
        tutorials.copy(tmp_path)


def test_lab_starts_jupyterlab_on_the_copy(origin, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "execv", lambda path, command: seen.append(command))
    cli.main(["lab", str(tmp_path / "work"), "--port", "8899", "--no-browser"])
    (command,) = seen
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={tmp_path / 'work'}" in command
    assert {"--port=8899", "--no-browser"} <= set(command)
    assert command[-1] == str(tmp_path / "work" / "slt-tutorials" / "00_tour.ipynb")
    assert (tmp_path / "work" / "slt-tutorials" / "01_first_llc.ipynb").is_file()


def test_export_executes_and_writes_a_page(tmp_path, capsys):
    view = (
        "import anywidget, traitlets\n"
        "class W(anywidget.AnyWidget):\n"
        "    _esm = 'export default {}'\n"
        "    x = traitlets.Int(41).tag(sync=True)\n"
        "W()"
    )
    path = notebook(tmp_path / "a b.ipynb", PROSE("# Title"), CELL(view))
    assert cli.main(["export", str(path), "--execute"]) == 0
    assert "1 views" in capsys.readouterr().out
    page = (tmp_path / "a b.html").read_text()
    assert "<title>Title</title>" in page
    assert '"x":41' in page
    assert "class W" in re.sub(r"</?span[^>]*>", "", page)
    assert not nbformat.read(path, 4).cells[1].outputs, "the notebook itself is left alone"


def test_export_without_outputs_says_so(tmp_path, capsys):
    path = notebook(tmp_path / "a.ipynb", CELL("1 + 1"))
    out = tmp_path / "out.html"
    assert cli.main(["export", str(path), "-o", str(out), "--no-code"]) == 0
    assert "--execute" in capsys.readouterr().err
    assert "<title>a</title>" in out.read_text()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "no file"),
        ("not json", [], "no notebook"),
        ("[1, 2]", [], "no notebook"),
        (CELL("raise ValueError('on purpose')"), ["--execute"], "ValueError: on purpose"),
        (CELL("import time; time.sleep(60)"), ["--execute", "--timeout", "1"], "over 1 s"),
    ],
)
def test_export_that_cannot_be_done(tmp_path, capsys, content, arguments, message):
    path = tmp_path / "a.ipynb"
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        notebook(path, content)
    assert cli.main(["export", str(path), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()


def test_notes_are_listed_merged_and_exported(tmp_path, capsys):
    from slt_notebook.views.notes.notes import notes

    first, second = tmp_path / "a.zarr.notes.jsonl", tmp_path / "b.zarr.notes.jsonl"
    mine, other = notes(str(first), author="ann"), notes(str(second), author="bob")
    mine.add(text="the whole run is <b>odd</b>")
    other.add(text="an induction head", component="l1.h2")
    assert cli.main(["notes", "list", str(first)]) == 0
    assert "ann" in capsys.readouterr().out
    assert cli.main(["notes", "merge", str(tmp_path / "a.zarr"), str(second)]) == 0
    assert "1 new notes, 2 in" in capsys.readouterr().out
    assert cli.main(["notes", "merge", str(first), str(second)]) == 0
    assert "0 new notes, 2 in" in capsys.readouterr().out
    assert cli.main(["notes", "export", str(first)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["type"] == "AnnotationCollection"
    assert found["total"] == 2
    out = tmp_path / "notes.md"
    assert cli.main(["notes", "export", str(first), "-o", str(out)]) == 0
    assert "- **component l1.h2**: an induction head" in out.read_text()
    assert cli.main(["notes", "list", str(tmp_path / "nowhere.zarr")]) == 1
    assert cli.main(["notes", "merge", str(first), str(tmp_path / "nowhere.zarr")]) == 1


def test_doctor_reports_and_counts_what_is_missing(monkeypatch, capsys):
    from slt_notebook import doctor

    cli.main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["packages"]["xarray"]
    assert report["bundles"]["state"] in ("fresh", "stale", "installed", "missing")
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "xarray" else real(name))
    assert cli.main(["doctor"]) == 1
    assert "MISSING: xarray is missing" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else real(name))
    problems = doctor.examine()["problems"]
    assert not any(p["blocks"] for p in problems if "torch" in p["what"])
    assert any("finished runs can be opened" in p["what"] for p in problems)


def test_an_error_of_the_disk_is_one_line(tmp_path, capsys):
    path = notebook(tmp_path / "a.ipynb", PROSE("x"))
    assert cli.main(["export", str(path), "-o", str(tmp_path / "no" / "a.html")]) == 1
    assert capsys.readouterr().err.count("\n") <= 2
