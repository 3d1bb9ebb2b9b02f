"""Notes as plain dicts, and where they are anchored: W3C Web Annotations.

The same JSON as in the browser (widgets/src/notes/annotation.ts), after the Web Annotation Data
Model (W3C Recommendation, 2017).  A note on tokens is anchored twice: by dims (exact) and by its
quote with the text before and after it, which survives another tokenization.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from slt_notebook.errors import InputError, say
from slt_notebook.views.base.corpus import Corpus

CONTEXT = 48
"""Characters of prefix and suffix that a quote is found again by."""

QUOTE = "TextQuoteSelector"
DIMS = "slt:DimsSelector"
STATUS = "slt:status"
STATUSES = ("open", "resolved", "deleted")


def now() -> str:
    """Return the time in UTC, to the millisecond, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def later(note: dict) -> str:
    """A time after the note's last change, also where the clock is coarse or was set back."""
    before = datetime.fromisoformat(note["modified"].replace("Z", "+00:00"))
    after = before + timedelta(milliseconds=1)
    text = after.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return max(now(), text)


def note(
    target: Any,
    text: str,
    author: str = "",
    tags: Sequence[str] = (),
    motivation: str = "commenting",
) -> dict:
    """One annotation of `target` (a dict with selectors, or the id of the note it answers)."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(say(f"text={text!r}", "some words", "say what you see"))
    time = now()
    body = {"type": "TextualBody", "value": text, "format": "text/plain", "purpose": motivation}
    labels = [{"type": "TextualBody", "value": str(t), "purpose": "tagging"} for t in tags]
    made = {
        "@context": "http://www.w3.org/ns/anno.jsonld",
        "id": f"urn:uuid:{uuid.uuid4()}",
        "type": "Annotation",
        "motivation": motivation,
        "created": time,
        "modified": time,
        "body": [body, *labels],
        "target": target,
        STATUS: "open",
    }
    if author:
        made["creator"] = {"type": "Person", "name": str(author)}
    return made


def on_tokens(source: str, example: str, tokens: tuple[int, int], corpus: Corpus | None) -> dict:
    """Target of a note on the tokens [first, past the last) of an example.

    Raises:
        InputError: A span that is empty, or that `corpus` does not hold.
    """
    first, stop = int(tokens[0]), int(tokens[1])
    if stop <= first:
        got = f"tokens=({first}, {stop})"
        raise InputError(say(got, "(first, past the last)", f"write tokens=({first}, {first + 1})"))
    dims = {"type": DIMS, "dims": {"example": str(example), "token": [first, stop]}}
    if corpus is None:
        return {"source": source, "selector": [dims]}
    a, b = corpus.find(example, first), corpus.find(example, stop - 1)
    if a is None or b is None:
        known = ", ".join(corpus.examples[:5])
        raise InputError(
            say(f"tokens {first} to {stop - 1} of {example!r}", f"tokens of {known}, ...", "check")
        )
    e = corpus.example_of(a)
    begin, end = corpus.start[e], corpus.start[e + 1]
    before = (corpus.first[e] or "") + "".join(corpus.text[begin:a])
    quote = {
        "type": QUOTE,
        "exact": "".join(corpus.text[a : b + 1]),
        "prefix": before[-CONTEXT:],
        "suffix": "".join(corpus.text[b + 1 : end])[:CONTEXT],
    }
    return {"source": source, "selector": [quote, dims]}


def on_component(source: str, component: str) -> dict:
    """Target of a note on a component such as "l0.h3"."""
    return {"source": source, "selector": [{"type": DIMS, "dims": {"component": str(component)}}]}


def selector(item: dict, kind: str) -> dict | None:
    """Return the selector of this type in the target of a note, or None."""
    target = item.get("target")
    found = target.get("selector", []) if isinstance(target, dict) else []
    return next((s for s in found if s.get("type") == kind), None)


def text_of(item: dict) -> str:
    """Return the text of a note."""
    return next((b["value"] for b in item["body"] if b.get("purpose") != "tagging"), "")


def parent_of(item: dict) -> str | None:
    """Return the id of the note that this one answers, or None."""
    target = item.get("target")
    return target if item.get("motivation") == "replying" and isinstance(target, str) else None


def points_at(item: dict) -> str:
    """Where a note points, in words."""
    dims = (selector(item, DIMS) or {}).get("dims", {})
    if "component" in dims:
        return f"component {dims['component']}"
    if "token" not in dims:
        return "a note" if parent_of(item) else "the whole run"
    a, b = dims["token"]
    return f"{dims['example']} · {a}" if b - a == 1 else f"{dims['example']} · {a}–{b - 1}"


def check(item: Any) -> dict:
    """Return the annotation itself, if it is one.

    Raises:
        InputError: Something that is no annotation of ours.
    """
    needed = ("id", "created", "modified", "body", "target")
    if not isinstance(item, dict) or any(k not in item for k in needed):
        raise InputError(
            say(f"{str(item)[:60]!r}", f"an annotation with {', '.join(needed)}", "check the file")
        )
    return {STATUS: "open", "motivation": "commenting", **item}


def union(*lists: Iterable[dict]) -> list[dict]:
    """Return every note once: of two versions the one modified last.

    Deleted ones stay as tombstones, so that merging an older copy does not bring them back.
    """
    found: dict[str, dict] = {}
    for item in (check(i) for one in lists for i in one):
        old = found.get(item["id"])
        if old is None or old["modified"] < item["modified"]:
            found[item["id"]] = item
    return sorted(found.values(), key=lambda item: item["created"])


def anchor(item: dict, corpus: Corpus) -> tuple[int, int, str] | None:
    """Return where a note is anchored: flat tokens (from, to) and "dims" or "quote", or None.

    By its dims if the quoted text is still there; else where the quote is found with at least half
    of what stood around it (or alone, if it is 8 characters or more and occurs once); else it is an
    orphan: to be listed, never dropped.
    """
    dims = (selector(item, DIMS) or {}).get("dims", {})
    quote = selector(item, QUOTE)
    if "token" not in dims:
        return None
    first, stop = dims["token"]
    a, b = corpus.find(dims["example"], first), corpus.find(dims["example"], stop - 1)
    if a is not None and b is not None and b >= a:
        held = quote is None or "".join(corpus.text[a : b + 1]) == quote["exact"]
        if held:
            return a, b + 1, "dims"
    if not quote or not quote["exact"]:
        return None
    wanted = len(quote["prefix"]) + len(quote["suffix"])
    best, best_score, found = None, -1.0, 0
    for e, name in enumerate(corpus.examples):
        begin, end = int(corpus.start[e]), int(corpus.start[e + 1])
        head = corpus.first[e] or ""
        text = head + "".join(corpus.text[begin:end])
        at = text.find(quote["exact"])
        while at >= 0:
            found += 1
            past = at + len(quote["exact"])
            score = _shared(text[:at][::-1], quote["prefix"][::-1])
            score += _shared(text[past:], quote["suffix"]) + 0.5 * (name == dims["example"])
            if score > best_score and past > len(head):
                best_score = score
                span = _tokens_of(corpus.text[begin:end], at - len(head), past - len(head))
                best = (begin + span[0], begin + span[1], "quote")
            at = text.find(quote["exact"], at + 1)
    sure = best_score >= wanted / 2 or (found == 1 and len(quote["exact"].strip()) >= 8)
    return best if sure else None


def _shared(a: str, b: str) -> int:
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n


def _tokens_of(parts: Sequence[str], at: int, past: int) -> tuple[int, int]:
    """Return the tokens that the characters [at, past) touch."""
    first = last = None
    end = 0
    for k, part in enumerate(parts):
        end += len(part)
        if first is None and end > at:
            first = k
        if end >= past:
            last = k + 1
            break
    return first or 0, last or len(parts)
