"""Every experiment has its command, and nothing else imports them."""

import ast
from pathlib import Path

import pytest

from slt_notebook import cli
from slt_notebook.experiments import EXPERIMENTS

PACKAGE = Path(__file__).parents[2] / "slt_notebook"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_explains_its_arguments(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["experiment", name, "--help"])
    assert ended.value.code == 0
    assert f"usage: slt-notebook experiment {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--list"], []])
def test_all_are_listed_with_their_time(arguments, capsys):
    assert cli.main(["experiment", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
    assert all(line.endswith(f"({EXPERIMENTS[line.split()[0]].time})") for line in lines)


def test_an_unknown_name_gets_the_nearest(capsys):
    assert cli.main(["experiment", "smolm"]) == 1
    assert "smollm" in capsys.readouterr().err


def test_every_program_of_the_room_is_listed():
    modules = {e.module.replace(".", "/") for e in EXPERIMENTS.values()}
    room = PACKAGE / "experiments"
    programs = {
        str(path.relative_to(room).with_suffix(""))
        for path in room.rglob("*.py")
        if "\ndef main(" in path.read_text(encoding="utf-8")
    }
    assert programs == modules


def test_only_the_command_line_imports_experiments():
    for path in (*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "tutorials").glob("*.py")):
        if path.is_relative_to(PACKAGE / "experiments") or path.name == "cli.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" for a in node.names]
            assert not any(n.startswith("slt_notebook.experiments") for n in names), path
