"""The shape of the package: no circle between files, no crowded and no empty folder."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "slt_notebook"
CIRCLES_LEFT: set[frozenset[str]] = set()
"""Circles that are known and allowed: sets of module names."""
MOST_FILES = 14
CROWDED_LEFT: set[str] = set()
"""Folders that are known to hold more files, and allowed to."""


def modules() -> dict[str, Path]:
    """Module name -> file, of the whole package."""
    out = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        out[name.removesuffix(".__init__")] = path
    return out


def imports_of(name: str, source: str, known: Mapping[str, object]) -> Iterator[str]:
    """Modules of `known` that `source` imports: anywhere, in functions and for type checkers too.

    A package counts as imported only where its own file is meant, and not on the way to one of its
    modules.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                target = inner if inner in known else node.module
                if target in known and target != name:
                    yield target


def circles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Strongly connected parts of two modules or more, and modules that import themselves."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    out: set[frozenset[str]] = set()

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = set()
            while node not in part:
                part.add(stack.pop())
            if len(part) > 1 or node in graph.get(node, ()):
                out.add(frozenset(part))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return out


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {n: set(imports_of(n, p.read_text(encoding="utf-8"), known)) for n, p in known.items()}


def test_no_circle_between_files(graph):
    found = circles(graph)
    assert found == CIRCLES_LEFT, [sorted(part) for part in found ^ CIRCLES_LEFT]


def test_circles_are_found():
    ring = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"e"}}
    assert circles(ring) == {frozenset("abc"), frozenset("e")}
    known = {"p": 0, "p.a": 0, "p.b": 0}
    source = "if TYPE_CHECKING:\n    from p.b import x\ndef f():\n    from p import a\n"
    assert sorted(imports_of("p.c", source, known)) == ["p.a", "p.b"]


def test_no_folder_is_crowded_or_empty():
    folders = [d for d in PACKAGE.rglob("*") if d.is_dir() and d.name != "__pycache__"]
    count = {d: len(list(d.glob("*.py"))) for d in (PACKAGE, *folders)}
    crowded = {str(d.relative_to(ROOT)): n for d, n in count.items() if n > MOST_FILES}
    assert set(crowded) == CROWDED_LEFT, crowded
    packages = [d for d, n in count.items() if n]
    hollow = [
        str(d.relative_to(ROOT))
        for d in packages
        if count[d] == 1 and not any(inside != d and d in inside.parents for inside in packages)
    ]
    assert not hollow
