"""Keep, share and merge notes on a run: `slt.notes(run)`.

Notes live beside the run, in `<run>.zarr.notes.jsonl` (a file inside the store would make Zarr
warn): append-only JSON lines, one version of one note each, so that a crash loses nothing and two
people's files merge by concatenation.  The same notes are state of the `Notes` model that views
share, and so travel in saved notebooks and exported pages.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, StoreError, say
from slt_notebook.results.integrity.documents import LINE_KEYS, sealed_line
from slt_notebook.results.result import resolve
from slt_notebook.views.base import fallback
from slt_notebook.views.base.corpus import Corpus, join, of_probe
from slt_notebook.views.base.widget import View
from slt_notebook.views.notes import annotation


def notes_path(run: str | os.PathLike) -> Path:
    """Return the notes file that belongs to a store."""
    path = Path(run)
    return path if path.name.endswith(".jsonl") else path.with_name(path.name + ".notes.jsonl")


def read_notes(path: str | Path) -> list[dict]:
    """Every note of a file, newest version each, tombstones included; [] where there is no file.

    Raises:
        StoreError: A line that is no annotation (a torn last line is passed over).
    """
    path = Path(path)
    if not path.is_file():
        return []
    items = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            found = annotation.check(json.loads(line))
            items.append({k: v for k, v in found.items() if k not in LINE_KEYS})
        except (ValueError, InputError) as cause:
            if number == len(lines):
                break  # cut off while it was being written
            raise StoreError(
                say(f"line {number} of {path.name}: {line[:60]!r}", "a note", "mend or remove it")
            ) from cause
    return annotation.union(items)


def mend(path: Path) -> None:
    """Close a last line that was cut off while it was written.

    What is left of it is kept behind a `#`, so that the next note starts on its own line.
    """
    data = path.read_bytes() if path.is_file() else b""
    if not data or data.endswith(b"\n"):
        return
    torn = data.rpartition(b"\n")[2]
    try:
        json.loads(torn)
        ending = torn + b"\n"
    except ValueError:
        ending = b"# torn: " + torn + b"\n"
    with open(path, "r+b") as file:
        file.seek(len(data) - len(torn))
        file.write(ending)


class Notes(View):
    """Notes that views share: W3C Web Annotations on tokens, spans and components.

    Made by `slt.notes(run)`.  Views take it as `notes=`; what is written in a view arrives here and
    in the file.  Displayed on its own it is the list of all notes.

    Attributes:
        items: All versions that count, tombstones included (dicts).
        source: What the notes are about, `slt:run/<name>`.
        author: Who writes.
        path: The file, or None (kept in memory until `save(path)`).
    """

    _bundle = "notes"
    items = traitlets.List(traitlets.Dict()).tag(sync=True)
    source = traitlets.Unicode("slt:run/unknown").tag(sync=True)
    author = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        items: Iterable[dict] = (),
        *,
        path: str | Path | None = None,
        source: str = "slt:run/unknown",
        author: str | None = None,
        corpus: Corpus | None = None,
    ):
        self.path = None if path is None else Path(path)
        self._corpus = corpus
        known = read_notes(self.path) if self.path else []
        self._written = {item["id"]: item["modified"] for item in known}
        who = default_author() if author is None else author
        super().__init__(items=annotation.union(known, items), source=source, author=who)
        self.observe(lambda _change: self._append(), names="items")

    def add(
        self,
        *,
        text: str,
        example: Any = None,
        tokens: tuple[int, int] | int | None = None,
        component: str | None = None,
        author: str | None = None,
        tags: Sequence[str] = (),
    ) -> str:
        """Write a note on tokens, on a component, or (with neither) on the whole run.

        Args:
            text: What you see, plain text.
            example: Id of the example, such as "train/0".
            tokens: One index of a predicted token, or (first, past the last).
            component: Such as "l0.h3".
            author: Signs this note; None: the author of these notes.
            tags: Words to find it by.

        Returns:
            The note's id.
        """
        if (example is None) != (tokens is None) or (component is not None and tokens is not None):
            raise InputError(
                say(
                    f"example={example!r}, tokens={tokens!r}, component={component!r}",
                    "example and tokens, or component, or none of them",
                    "write add(example='train/0', tokens=(17, 19), text=...)",
                )
            )
        if tokens is not None:
            span = (tokens, tokens + 1) if isinstance(tokens, int) else tokens
            target = annotation.on_tokens(self.source, str(example), span, self._corpus)
        elif component is not None:
            target = annotation.on_component(self.source, component)
        else:
            target = {"source": self.source}
        made = annotation.note(target, text, self.author if author is None else author, tags)
        self._put(made)
        return made["id"]

    def reply(self, to: str, text: str, author: str | None = None) -> str:
        """Answer a note; returns the answer's id."""
        self._get(to)
        who = self.author if author is None else author
        made = annotation.note(to, text, who, motivation="replying")
        self._put(made)
        return made["id"]

    def resolve(self, note: str, done: bool = True) -> None:
        """Mark a note as dealt with (`done=False`: open again)."""
        self._status(note, "resolved" if done else "open")

    def delete(self, note: str) -> None:
        """Take a note away; a tombstone stays, so that merging does not bring it back."""
        self._status(note, "deleted")

    def list(self, resolved: bool = True) -> "list[dict]":
        """Return the notes that are not deleted, oldest first."""
        gone = ("deleted",) if resolved else ("deleted", "resolved")
        return [item for item in self.items if item[annotation.STATUS] not in gone]

    def merge(self, other: Any) -> int:
        """Take in the notes of another `Notes`, a file, or a list; returns how many were new."""
        if isinstance(other, Notes):
            other = other.items
        elif isinstance(other, str | os.PathLike):
            path = notes_path(other)
            if not path.is_file():
                raise StoreError(say(f"no file {path.name!r}", "a notes file", "check the path"))
            other = read_notes(path)
        before = {item["id"] for item in self.items}
        self.items = annotation.union(self.items, other)
        return len({item["id"] for item in self.items} - before)

    def save(self, path: str | Path | None = None) -> Path:
        """Write every version that counts; returns the file.  Later changes go there too."""
        if path is not None:
            self.path = notes_path(path)
            self._written = {i["id"]: i["modified"] for i in read_notes(self.path)}
        if self.path is None:
            raise InputError(say("no path", "where to keep the notes", "notes.save('run.zarr')"))
        self._append()
        return self.path

    def placed(self, corpus: Corpus) -> tuple["list[str]", "list[tuple[str, str, str]]"]:
        """For the script-free views: marks a token, and (where, author, text) in order."""
        marks = [""] * len(corpus)
        found = [
            (annotation.anchor(item, corpus), item)
            for item in self.list()
            if annotation.parent_of(item) is None
        ]
        found.sort(key=lambda pair: pair[0][0] if pair[0] else len(corpus))
        listed = []
        for number, (at, item) in enumerate(found, 1):
            lost = annotation.selector(item, annotation.QUOTE) is not None and at is None
            where = annotation.points_at(item) + (" (its text is not in this view)" if lost else "")
            if at:
                marks[at[1] - 1] = ",".join(filter(None, [marks[at[1] - 1], str(number)]))
            author = item.get("creator", {}).get("name", "")
            listed.append((where, author, annotation.text_of(item)))
        return marks, listed

    def orphans(self, corpus: Corpus | None = None) -> "list[dict]":
        """Return the notes on tokens whose text is no longer found."""
        corpus = corpus or self._corpus
        return [
            item
            for item in self.list()
            if corpus is not None
            and annotation.selector(item, annotation.QUOTE) is not None
            and annotation.anchor(item, corpus) is None
        ]

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        rows = [f"Notes: {len(self.list())} on {self.source}"]
        rows += [f"- {annotation.points_at(i)}: {annotation.text_of(i)}" for i in self.list()]
        return "\n".join(rows)

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        items = [
            (annotation.points_at(i), i.get("creator", {}).get("name", ""), annotation.text_of(i))
            for i in self.list()
        ]
        return fallback.notes_list(items) or "<p>No notes yet.</p>"

    def _get(self, note: str) -> dict:
        found = next((i for i in self.items if i["id"] == note), None)
        if found is None:
            raise InputError(say(f"note {note!r}", "the id of a note", "see notes.list()"))
        return found

    def _put(self, item: dict) -> None:
        self.items = annotation.union(self.items, [item])

    def _status(self, note: str, status: str) -> None:
        old = self._get(note)
        self._put({**old, "modified": annotation.later(old), annotation.STATUS: status})

    def _append(self) -> None:
        """Versions that the file does not have yet; what others wrote there meanwhile stays."""
        if self.path is None:
            return
        new = [i for i in self.items if self._written.get(i["id"], "") < i["modified"]]
        if not new:
            return
        text = "".join(sealed_line(i) + "\n" for i in new)
        try:
            mend(self.path)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as cause:
            raise StoreError(
                say(f"{self.path.name}: {cause}", "a file to write to", "notes.save(another path)")
            ) from cause
        self._written |= {i["id"]: i["modified"] for i in new}


def default_author() -> str:
    """Who writes: SLT_AUTHOR, else the hub's user name, else nobody."""
    return os.environ.get("SLT_AUTHOR") or os.environ.get("JUPYTERHUB_USER") or ""


def notes(run: Any = None, *, author: str | None = None) -> Notes:
    """Return the notes of a run, kept in `<run>.zarr.notes.jsonl` beside its store.

    Args:
        run: A run handle, its tree, the path of its store or of a notes file; a probe Dataset or
            None gives notes that live in memory until `save(path)`.
        author: Signs what is written from here on.

    Raises:
        InputError: Anything else.  StoreError: a notes file that cannot be read.
    """
    if run is None:
        return Notes(author=author)
    if isinstance(run, str | os.PathLike):
        path = Path(run)
        if path.name.endswith(".jsonl"):
            return Notes(path=path, source=f"slt:run/{path.name}", author=author)
    if isinstance(run, xr.Dataset):
        corpus = of_probe(run) if names.LOSS in run else None
        return Notes(source=f"slt:probe/{run.attrs.get('probe', '')}", author=author, corpus=corpus)
    result = resolve(run)
    parts = [of_probe(result.probe(name)) for name in result.probe_names]
    # A DataTree has a `path` too: its place in the tree, "/".
    handle = None if isinstance(run, xr.DataTree) else getattr(run, "path", None)
    found = handle or result.source
    called = Path(found).stem if found else result.attrs.get(names.A_MODEL, "unknown")
    return Notes(
        path=notes_path(found) if found else None,
        source=f"slt:run/{called}",
        author=author,
        corpus=join(parts) if parts else None,
    )
