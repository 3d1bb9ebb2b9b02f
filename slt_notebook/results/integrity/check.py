"""Check whether a run, a sweep, a notes file or an exported page is complete and undamaged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from slt_notebook import names
from slt_notebook.errors import InputError, StoreError, nearest, say
from slt_notebook.results.integrity.chunks import Loss
from slt_notebook.results.integrity.damage import damage_of
from slt_notebook.results.integrity.documents import check_document, is_document
from slt_notebook.results.integrity.sealed import array_paths, attributes, has_checksums
from slt_notebook.results.integrity.states import broken_seals
from slt_notebook.results.integrity.verify import inspect
from slt_notebook.results.integrity.words import reading
from slt_notebook.results.sweep import read_index


@dataclass(frozen=True)
class Check:
    """What was verified of a run, a sweep, a notes file or a page, and what is lost.

    Attributes:
        path: The run, the folder of the sweep, or the file.
        table: One row for each run or file: its `kind` ("run", "notes" or "page"), arrays, chunks
            (versions of notes, views of a page) and bytes that were read, the checksum that they
            carry ("crc32c", "sha256", or "none" where they were written before there were any),
            and how many things are lost.
        lost: What is lost, by the path of the run or file.
    """

    path: str
    table: pd.DataFrame
    lost: dict[str, tuple[Loss, ...]]

    @property
    def ok(self) -> bool:
        """Whether nothing is lost."""
        return not any(self.lost.values())

    def __str__(self) -> str:
        lines = []
        for path, row in self.table.to_dict("index").items():
            state = f"{row['lost']} lost" if row["lost"] else "complete"
            checks = f"checksums: {row['checksums']}"
            if row["checksums"] == "none":
                checks += " (written before there were any; only reading was tested)"
            size = _PARTS[row["kind"]].format(**row) + f", {row['bytes'] / 1e6:,.1f} MB"
            lines.append(f"{path}: {state}; {size}; {checks}")
            lines += [f"  {loss}" for loss in self.lost[str(path)]]
        if not self.ok:
            lines.append("What to do: copy it again from where it is whole, or `--repair` it.")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


_PARTS = {
    "run": "{arrays} arrays, {chunks} chunks",
    "notes": "{chunks} versions of notes",
    "page": "{chunks} interactive views",
}


def check(run: Any) -> Check:
    """Read every chunk of a run, or of all runs of a sweep, and return what is lost.

    Notes files (`.jsonl`) and exported pages (`.html`) are compared with the digests that they
    carry.

    Args:
        run: A path, a `Run` or `Sweep` with a store, or a tree opened from one.

    Returns:
        A `Check`: print it, or ask whether it is `ok`.

    Raises:
        StoreError: No run there.
        InputError: A run that has no store.
    """
    if file := document_of(run):
        found = check_document(file)
        row = {
            "kind": found.kind, "arrays": 0, "chunks": found.parts, "bytes": found.size,
            "checksums": "sha256" if found.digests else "none", "lost": len(found.lost),
        }  # fmt: skip
        table = pd.DataFrame.from_dict({str(file): row}, orient="index")
        return Check(str(file), table, {str(file): found.lost})
    root = path_of(run)
    lost, rows = {}, {}
    for path in runs_at(root):
        found, arrays, chunks, size = check_run(path)
        attrs = attributes(path)
        rows[str(path)] = {
            "kind": "run",
            "arrays": arrays,
            "chunks": chunks,
            "bytes": size,
            "checksums": "crc32c" if has_checksums(attrs) else "none",
            "lost": len(found),
        }
        lost[str(path)] = tuple(found)
    return Check(str(root), pd.DataFrame.from_dict(rows, orient="index"), lost)


def document_of(run: Any) -> Path | None:
    """Return the path of a notes file or a page, or None for anything else."""
    if not isinstance(run, str | os.PathLike):
        return None
    path = Path(run).expanduser()
    return path if is_document(path) and not path.is_dir() else None


def path_of(run: Any) -> Path:
    """Return the folder of a run or a sweep.

    Raises:
        StoreError: None there.  InputError: A run that has no store.
    """
    if not isinstance(run, str | os.PathLike):
        source = getattr(run, "path", None) if not hasattr(run, "encoding") else None
        source = source or getattr(run, "encoding", {}).get("source")
        if not isinstance(source, str | os.PathLike):
            got = f"{type(run).__name__} without a store"
            raise InputError(say(got, "a path, or a run with a store", "pass its path"))
        run = source
    root = Path(run).expanduser()
    if not root.is_dir():
        here = [p.name for p in root.parent.glob("*")] if root.parent.is_dir() else []
        got = f"no folder at '{root}'{nearest(root.name, here)}"
        raise StoreError(say(got, "a run or a sweep", "check the path"))
    return root


def runs_at(root: Path) -> list[Path]:
    """Return the run at `root`, or the runs of the sweep in that folder."""
    if (root / names.SWEEP_INDEX).exists():
        paths = [root / row["path"] for row in read_index(root)["runs"]]
        return [p for p in paths if p.is_dir() and any(p.iterdir())]
    known = (names.SAMPLING, "zarr.json")
    if not any((root / name).exists() for name in known):
        got = f"'{root}', which is neither a run nor a sweep"
        raise StoreError(say(got, "the folder of a run", "check the path"))
    return [root]


def check_run(root: Path) -> tuple[list[Loss], int, int, int]:
    """Return what is lost of one run, and how many arrays, chunks and bytes were read."""
    state = inspect(root, checkpoint=True)
    found = list(state.found)
    attrs = attributes(root)
    paths = array_paths(root, attrs, checkpoint=True)
    chunks = size = 0
    for path in paths:
        found += damage_of(root, path)
        for file in (root / path / "c").rglob("*"):
            if file.is_file() and not file.name.startswith("."):
                chunks, size = chunks + 1, size + file.stat().st_size
    if state.done is not None:
        with reading(root):
            found += broken_seals(root, state.done)
    chunked = {loss.array for loss in found if loss.chunk}
    found = [loss for loss in found if loss.chunk or loss.array not in chunked]
    return found, len(paths), chunks, size
