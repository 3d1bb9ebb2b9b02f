"""Find the tutorials, and copy them without overwriting a reader's work.

A copy that was edited is never overwritten: a manifest beside the copies keeps the hash of what was
put there, and a file is replaced only while it still has that hash.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from slt_notebook.errors import InputError, StoreError, say

PACKAGE = Path(__file__).resolve().parent.parent
FOLDER = "slt-tutorials"
MANIFEST = ".slt-tutorials.json"


def source() -> Path | None:
    """Return the folder with the tutorials: in the installed package, or in the checkout."""
    for folder in (PACKAGE / "_tutorials", PACKAGE.parent / "tutorials"):
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            return folder
    return None


def titles(folder: Path | None = None) -> list[tuple[str, str]]:
    """(file name, first heading) of every tutorial, in order."""
    folder = folder or source()
    if folder is None:
        return []
    return [(path.name, title(path)) for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))]


def title(path: Path) -> str:
    """Return the first heading of a notebook; its file's name where it has none."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return path.stem
    for cell in cells:
        for line in "".join(cell.get("source", "")).splitlines():
            if cell.get("cell_type") == "markdown" and line.startswith("# "):
                return line[2:].strip()
    return path.stem


@dataclass(frozen=True)
class Copied:
    """What `copy` did with each file, names relative to the folder."""

    folder: Path
    new: list[str]
    updated: list[str]
    same: list[str]
    kept: list[str]
    """Edited by the reader, and therefore left alone."""


def copy(to: str | Path, origin: Path | None = None) -> Copied:
    """Put the tutorials into `to`; files that the reader edited stay as they are.

    Raises:
        InputError: This installation has no tutorials, or `to` is a file.  StoreError:
    it cannot be written.
    """
    origin = origin or source()
    folder = Path(to).expanduser()
    if origin is None:
        raise InputError(
            say("an installation without tutorials", "the notebooks", "install slt-notebook again")
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(say(f"{folder}, a file", "a folder", "name another folder"))
    try:
        return _copy(origin, folder)
    except OSError as cause:
        raise StoreError(
            say(f"{folder}: {cause.strerror}", "a folder to write to", "name another folder")
        ) from cause


def _copy(origin: Path, folder: Path) -> Copied:
    folder.mkdir(parents=True, exist_ok=True)
    given = _manifest(folder)
    found = Copied(folder, [], [], [], [])
    for path in _files(origin):
        name = path.relative_to(origin).as_posix()
        target = folder / name
        fresh = _hash(path)
        if not target.exists():
            _place(path, target)
            found.new.append(name)
        elif (there := _hash(target)) == fresh:
            found.same.append(name)
        elif there == given.get(name):
            _place(path, target)
            found.updated.append(name)
        else:
            found.kept.append(name)
            continue
        given[name] = fresh
    scratch = folder / (MANIFEST + ".part")
    scratch.write_text(json.dumps(given, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(scratch, folder / MANIFEST)
    return found


def _files(origin: Path) -> list[Path]:
    """All files but the paired sources, caches and hidden files."""
    return [
        path
        for path in sorted(origin.rglob("*"))
        if path.is_file()
        and path.suffix != ".py"
        and not any(part.startswith((".", "__")) for part in path.relative_to(origin).parts)
    ]


def _place(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)  # not its mode: an installed file may be read-only


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _manifest(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
