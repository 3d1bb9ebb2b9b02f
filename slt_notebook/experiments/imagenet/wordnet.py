"""Hypernyms, depths and path similarity of nouns in WordNet 3.0, read from `data.noun`.

A line of the file is: offset, file number, type, number of words (hexadecimal), words each with a
number, number of pointers, pointers (symbol, offset, part of speech, source/target), gloss.  The
pointers `@` and `@i` lead to hypernyms (wndb(5WN) of WordNet 3.0).  The ids of ImageNet's classes,
`n02084071`, are offsets of this very file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slt_notebook.errors import InputError, say


@dataclass(frozen=True)
class Synset:
    """A sense: its words, and the ids of what it is a kind of."""

    id: str
    words: tuple[str, ...]
    hypernyms: tuple[str, ...]


@dataclass(frozen=True)
class WordNet:
    """The nouns of WordNet as a directed acyclic graph of "is a kind of"."""

    synsets: dict[str, Synset]

    def __getitem__(self, name: str) -> Synset:
        if name not in self.synsets:
            do = "use WordNet 3.0, whose offsets are ImageNet's ids"
            raise InputError(say(f"the synset {name!r}", f"one of {len(self.synsets)} nouns", do))
        return self.synsets[name]

    def ancestors(self, name: str) -> dict[str, int]:
        """Every ancestor, itself included, with the fewest steps up to it; nearest first."""
        found, ring, steps = {name: 0}, [name], 0
        while ring:
            steps += 1
            above = dict.fromkeys(h for one in ring for h in self[one].hypernyms)
            ring = [h for h in above if h not in found]
            found.update(dict.fromkeys(ring, steps))
        return found

    def depth(self, name: str) -> int:
        """Return the fewest steps down from a root ("entity" has depth 0)."""
        return min(n for above, n in self.ancestors(name).items() if not self[above].hypernyms)

    def common_ancestor(self, a: str, b: str) -> str:
        """Return the lowest: of the greatest depth; of those the nearest.

        Raises:
            InputError: the two have none.
        """
        one, other = self.ancestors(a), self.ancestors(b)
        shared = [s for s in one if s in other]
        if not shared:
            raise InputError(say(f"{a} and {b} without a common ancestor", "one root", "add it"))
        return max(shared, key=lambda s: (self.depth(s), -one[s] - other[s]))

    def path_similarity(self, a: str, b: str) -> float:
        """`1 / (1 + steps)` of the shortest way up from a and down to b; 1 for the same sense."""
        one, other = self.ancestors(a), self.ancestors(b)
        shared = [one[s] + other[s] for s in one if s in other]
        return 1 / (1 + min(shared)) if shared else 0.0

    def chain(self, name: str) -> list[str]:
        """From a root down to `name` along first hypernyms: a tree, which a picture wants."""
        found = [name]
        while self[found[0]].hypernyms:
            found.insert(0, self[found[0]].hypernyms[0])
        return found

    def similarities(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Path similarity, and depth of the lowest common ancestor, of all pairs."""
        kinds = list(dict.fromkeys(ids))
        alike, depth = np.ones((2, len(kinds), len(kinds)))
        for i, a in enumerate(kinds):
            for j, b in enumerate(kinds[: i + 1]):
                alike[i, j] = alike[j, i] = self.path_similarity(a, b)
                depth[i, j] = depth[j, i] = self.depth(self.common_ancestor(a, b))
        of = [kinds.index(one) for one in ids]
        return alike[np.ix_(of, of)], depth[np.ix_(of, of)].astype(int)


def read_wordnet(folder: str | Path) -> WordNet:
    """Nouns of the WordNet in `folder`, which holds `data.noun`.

    Raises:
        InputError: no such file, or a line that is no synset.
    """
    path = Path(folder) / "data.noun"
    if not path.is_file():
        do = (
            "unpack Debian's wordnet-base (apt-get download wordnet-base; dpkg-deb -x FILE.deb "
            "FOLDER) and pass FOLDER/usr/share/wordnet"
        )
        raise InputError(say(f"no file {path.name} in {path.parent}", "WordNet 3.0", do))
    found = {}
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith("  "):  # the licence
                continue
            try:
                one = _synset(line.split("|")[0].split())
            except (IndexError, ValueError) as cause:
                do = "unpack the file again"
                got = f"line {number} of data.noun: {line[:40]!r}"
                raise InputError(say(got, "offset, words, pointers", do)) from cause
            found[one.id] = one
    return WordNet(found)


def _synset(part: list[str]) -> Synset:
    count = int(part[3], 16)
    words = tuple(w.replace("_", " ") for w in part[4 : 4 + 2 * count : 2])
    at = 4 + 2 * count
    pointers = [part[at + 1 + 4 * k : at + 5 + 4 * k] for k in range(int(part[at]))]
    above = tuple(f"n{p[1]}" for p in pointers if p[0] in ("@", "@i") and p[2] == "n")
    return Synset(f"n{int(part[0]):08d}", words, above)
