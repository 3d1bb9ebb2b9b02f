"""The README's example runs as it is written (with fewer draws); its links and map are true."""

import importlib.util
import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    small = code
    for name, value in {"draws": 6, "burnin": 2, "thin": 1, "chains": 2, "batch_size": 4}.items():
        small, found = re.subn(rf"\b{name}=\d+", f"{name}={value}", small)
        assert found == 1, name
    monkeypatch.chdir(tmp_path)
    exec(compile(small, "README.md", "exec"), {})
    assert (tmp_path / "first.html").stat().st_size > 50_000
    assert "R-hat" in capsys.readouterr().out


def test_links_and_pictures_exist():
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (root / target).exists(), target


def test_every_room_is_on_the_map():
    root = Path(__file__).parents[1] / "slt_notebook"
    rooms = {p.name for p in root.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert all(f"`{room}/`" in README for room in rooms), rooms


def test_the_commands_of_the_figures_exist():
    root = Path(__file__).parents[1]
    commands = re.findall(r"`((?:python -m|pytest|slt-notebook) [^`]+)`", README)
    assert len(commands) > 30
    for command in commands:
        for path in re.findall(r"\b(?:tests|tutorials)/[\w./]*\w", command):
            assert (root / path).exists(), command
        for module in re.findall(r"python -m ([\w.]+)", command):
            assert importlib.util.find_spec(module), command
