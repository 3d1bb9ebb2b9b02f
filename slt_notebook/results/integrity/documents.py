"""Verify the documents that stand beside runs: notes files and exported pages.

Each line of a notes file and each page carries a digest of its own content.  Documents written
before there were digests are judged by their structure alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slt_notebook.errors import StoreError, say
from slt_notebook.results.integrity.chunks import Loss
from slt_notebook.results.integrity.sealed import document_digest

NOTES = ".jsonl"
PAGES = (".html", ".htm")
NOTE_DIGEST = "slt:digest"
# There as well, so that a damaged key does not pass for a line of before.
NOTE_FORMAT = "slt:format"
LINE_KEYS = (NOTE_FORMAT, NOTE_DIGEST)
"""What a line of a notes file says of itself; the note does not carry it."""
_PAGE_DIGEST = re.compile(r'<meta name="slt-digest" content="([0-9a-f]*)">')
_SEALED = 'data-slt-page="2"'
_DATA = re.compile(r'<script type="application/json" id="slt-page-data">(.*?)</script>', re.DOTALL)
_SCRIPT = re.compile(r'<script type="module">(.*?)</script>', re.DOTALL)
_SHOWN = re.compile(r'data-slt-model="([^"]*)"')
_NEEDED = ("id", "created", "modified", "body", "target")


@dataclass(frozen=True)
class Document:
    """What was found in a notes file or a page.

    Attributes:
        kind: "notes" or "page".
        lost: What is damaged.
        parts: Notes (versions of them), or interactive views.
        size: Bytes.
        digests: Whether it carries any.
    """

    kind: str
    lost: tuple[Loss, ...]
    parts: int
    size: int
    digests: bool


def is_document(path: Path) -> bool:
    """Whether a path names a notes file or a page, by its suffix."""
    return path.name.endswith((NOTES, *PAGES))


def check_document(path: Path) -> Document:
    """Read a notes file or a page, and return what is damaged.

    Raises:
        StoreError: An HTML file that this kit did not make, or a file that cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as cause:
        got = f"'{path}', which cannot be read ({cause.strerror or cause})"
        raise StoreError(say(got, "a file", "check the path and its permissions")) from cause
    return _check_notes(data) if path.name.endswith(NOTES) else _check_page(path, data)


# Notes --------------------------------------------------------------------------------------------


def sealed_line(note: dict[str, Any]) -> str:
    """Return a note as a line of a notes file, with the digest of its content."""
    doc: dict[str, Any] = {NOTE_FORMAT: 2}
    doc |= {k: v for k, v in note.items() if k not in LINE_KEYS}
    return json.dumps(doc | {NOTE_DIGEST: document_digest(doc, NOTE_DIGEST)}, ensure_ascii=True)


def _check_notes(data: bytes) -> Document:
    lost, count, sealed = [], 0, False
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        count += 1
        reason, has_digest = _judge_note(line)
        sealed |= has_digest
        if reason and number == len(lines):
            reason = "it was cut off while it was written"
        if reason:
            lost.append(Loss(f"line {number}", reason=reason))
    return Document("notes", tuple(lost), count, len(data), sealed)


def _judge_note(line: bytes) -> tuple[str, bool]:
    try:
        note = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as cause:
        return f"cannot be read ({type(cause).__name__})", False
    if not isinstance(note, dict) or any(k not in note for k in _NEEDED):
        return f"is no note (a note has {', '.join(_NEEDED)})", False
    if not any(k in note for k in LINE_KEYS):
        return "", False
    fits = note.get(NOTE_DIGEST) == document_digest(note, NOTE_DIGEST)
    return ("" if fits else "does not match its digest: it was changed after it was written"), True


def repair_notes(path: Path) -> list[str]:
    """Put what cannot be read of a notes file behind a `#`, so that the rest of it can be read.

    A line that can be read but does not match its digest stays: its words may be right.

    Returns:
        What was done, in sentences; empty where there was nothing to do.
    """
    lines = path.read_bytes().split(b"\n")
    said = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        reason, has_digest = _judge_note(line)
        if reason and not has_digest:
            lines[number - 1] = b"# damaged: " + line
            said.append(f"{path.name}: line {number} {reason}: it stands behind a # now")
    if said:
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(b"\n".join(lines))
        new.replace(path)
    return said


# Pages --------------------------------------------------------------------------------------------


def page_digest(page: str) -> str:
    """Return the digest of a page, which does not count the digest that it carries."""
    bare = _PAGE_DIGEST.sub('<meta name="slt-digest" content="">', page, count=1)
    return hashlib.sha256(bare.encode("utf-8")).hexdigest()[:32]


def seal_page(page: str) -> str:
    """Return a page with its digest in the place that it has for it."""
    meta = f'<meta name="slt-digest" content="{page_digest(page)}">'
    return _PAGE_DIGEST.sub(meta, page, count=1)


def _check_page(path: Path, data: bytes) -> Document:
    try:
        page = data.decode("utf-8")
    except UnicodeDecodeError as cause:
        loss = Loss(f"byte {cause.start}", reason="is no UTF-8")
        return Document("page", (loss,), 0, len(data), False)
    if "data-slt-page" not in page[:500]:
        got = f"'{path}', an HTML file that this kit did not make"
        raise StoreError(say(got, "a page of `slt-notebook export`", "check the path"))
    lost = []
    digest, sealed = _PAGE_DIGEST.search(page), _SEALED in page[:500]
    if sealed and not digest:
        lost.append(Loss("the page", reason="its digest is missing"))
    if digest and digest[1] != page_digest(page):
        lost.append(Loss("the page", reason="does not match its digest: it was changed"))
    if not page.rstrip().endswith("</html>"):
        lost.append(Loss("the end of the page", reason="is missing"))
    found, shown = _DATA.search(page), set(_SHOWN.findall(page))
    try:
        held = set(json.loads(found[1])["models"]) if found else set()
    except (ValueError, KeyError, TypeError, RecursionError):
        held = set()
        lost.append(Loss("the data of the views", reason="cannot be read"))
    if not found:
        lost.append(Loss("the data of the views", reason="is missing"))
    elif shown - held:
        names = ", ".join(sorted(html.unescape(s) for s in shown - held)[:3])
        lost.append(Loss("views", reason=f"{len(shown - held)} without data: {names}"))
    script = _SCRIPT.search(page)
    if not script or f"'sha256-{_csp(script[1])}'" not in page:
        lost.append(Loss("the script of the page", reason="is not the one that the page allows"))
    return Document("page", tuple(lost), len(shown), len(data), sealed or bool(digest))


def _csp(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
