"""A language with three abilities of known entropy: pairs, brackets, repeats.

A sequence is a chain of pieces drawn independently, cut at `length`, after a first token `^`:

    pair     a3 b3           a head, and its own tail with probability `regular` (else another one)
    bracket  [ x1 ( x0 ) x7 ]   1 to 3 slots, each equally often; a slot is a filler or, at depth 1
                                with probability `nested`, a bracket of fillers; the closer fits
    span     w5 w2 .. w9     `span` distinct words: new the first time, the same ones ever after

What comes next depends on the past alone, so the best possible loss of every token is known.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from slt_notebook.errors import InputError, say

Array = np.ndarray
ROLES = ("start", "head", "tail", "opener", "filler", "closer", "first", "fresh", "repeat")
"""What a token is: `first` begins a span, `fresh` goes on in a new one, `repeat` in an old one."""
ABILITIES = {"bigram": "tail", "bracket": "closer", "induction": "repeat"}
"""The three things to learn, and the tokens that show whether they are."""
SLOTS = 3


class Sample(NamedTuple):
    """Sequences with what is known of every token, arrays `[example, position]`.

    Attributes:
        ids: the tokens.
        role: index in `ROLES`.
        ideal: the best possible loss, nats: -ln p(token | past) under the language.
    """

    ids: Array
    role: Array
    ideal: Array


@dataclass(frozen=True)
class Language:
    """Sizes and shares of the language; see the module.

    Attributes:
        pairs, kinds, fillers, words: how many heads (and tails), brackets, fillers, words exist.
        shares: of the pieces: pair, bracket, span.
    """

    pairs: int = 12
    kinds: int = 4
    fillers: int = 12
    words: int = 24
    span: int = 8
    length: int = 64
    regular: float = 0.9
    nested: float = 0.25
    shares: tuple[float, float, float] = (0.45, 0.35, 0.2)

    def __post_init__(self):
        wrong = not (
            min(self.pairs, self.kinds, self.fillers) >= 2
            and 2 <= self.span <= self.words
            and self.length >= 2
            and 0 < self.regular < 1
            and 0 < self.nested < 1
            and len(self.shares) == 3
            and min(self.shares) > 0
            and abs(sum(self.shares) - 1) < 1e-9
        )
        if wrong:
            need = "sizes from 2, span up to words, odds inside 0 to 1, shares that add to 1"
            raise InputError(say(repr(self), need, "change what differs from Language()"))

    @property
    def starts(self) -> dict[str, int]:
        """The first id of every kind of symbol; `end` is the size of the vocabulary."""
        sizes = {
            "start": 1, "head": self.pairs, "tail": self.pairs, "opener": self.kinds,
            "closer": self.kinds, "filler": self.fillers, "word": self.words,
        }  # fmt: skip
        ends = np.cumsum([0, *sizes.values()]).tolist()
        return dict(zip((*sizes, "end"), ends, strict=True))

    @property
    def vocabulary(self) -> int:
        """Number of ids."""
        return self.starts["end"]

    def strings(self) -> dict[int, str]:
        """Return what each id shows as."""
        marks = {"start": "^", "head": "a", "tail": "b", "filler": "x", "word": "w"}
        at, kinds = self.starts, list(self.starts)
        out = {}
        for kind, following in itertools.pairwise(kinds):
            for k, i in enumerate(range(at[kind], at[following])):
                mark = marks.get(kind) or {"opener": "([{<", "closer": ")]}>"}[kind][k % 4]
                bare = kind == "start" or (kind in ("opener", "closer") and k < 4)
                out[i] = f" {mark}" + ("" if bare else str(k))
        return out

    def floor(self) -> dict[str, float]:
        """Return the best possible mean loss of the tokens of an ability, nats.

        bigram: `-r ln r - (1 - r) ln((1 - r) / (pairs - 1))`; bracket: closing after slot 1, 2, 3
        has probability 1/3, 1/2, 1, so `(ln 3 + ln 2) / 3`; induction: 0.
        """
        r = self.regular
        pair = -r * np.log(r) - (1 - r) * np.log((1 - r) / (self.pairs - 1))
        return {"bigram": float(pair), "bracket": float(np.log(6) / 3), "induction": 0.0}

    def blind(self) -> dict[str, float]:
        """Return the same for a reader who lacks that ability and knows all else.

        bigram: any tail; bracket: when to close, but not which; induction: any word that this span
        has not had yet (which needs no memory of an earlier span), `mean ln(words - k)`, k >= 1.
        """
        fresh = np.log(self.words - np.arange(1, self.span)).mean()
        return {
            "bigram": float(np.log(self.pairs)),
            "bracket": float(np.log(6) / 3 + np.log(self.kinds)),
            "induction": float(fresh),
        }

    def sample(self, count: int, seed: int) -> Sample:
        """`count` sequences that depend on the seed alone."""
        rng = np.random.default_rng(seed)
        ids = np.zeros((count, self.length), np.int64)
        role = np.zeros((count, self.length), np.int8)
        ideal = np.zeros((count, self.length))
        for e in range(count):
            tokens = [(0, "start", 0.0)]
            span: Array | None = None
            while len(tokens) < self.length:
                kind = int(np.searchsorted(np.cumsum(self.shares), rng.random() * (1 - 1e-12)))
                price = -np.log(self.shares[kind])
                if kind == 0:
                    tokens += self._pair(rng, price)
                elif kind == 1:
                    tokens += self._bracket(rng, price, 1)
                else:
                    new = span is None
                    span = rng.permutation(self.words)[: self.span] if span is None else span
                    tokens += self._span(span, price, new)
            for t, (token, name, loss) in enumerate(tokens[: self.length]):
                ids[e, t], role[e, t], ideal[e, t] = token, ROLES.index(name), loss
        return Sample(ids, role, ideal)

    def _pair(self, rng, price: float):
        at, head = self.starts, int(rng.integers(self.pairs))
        usual = rng.random() < self.regular
        tail = head if usual else (head + 1 + int(rng.integers(self.pairs - 1))) % self.pairs
        odds = self.regular if usual else (1 - self.regular) / (self.pairs - 1)
        return [
            (at["head"] + head, "head", price + np.log(self.pairs)),
            (at["tail"] + tail, "tail", -np.log(odds)),
        ]

    def _bracket(self, rng, price: float, depth: int):
        at, kind = self.starts, int(rng.integers(self.kinds))
        out = [(at["opener"] + kind, "opener", price + np.log(self.kinds))]
        slots = 1 + int(rng.integers(SLOTS))
        for done in range(slots):
            # Not closed yet: certain in the first slot, else (SLOTS - done) of (SLOTS - done + 1).
            on = 0.0 if done == 0 else -np.log(1 - 1 / (SLOTS - done + 1))
            if depth == 1 and rng.random() < self.nested:
                out += self._bracket(rng, on - np.log(self.nested), 2)
            else:
                plain = -np.log(1 - self.nested) if depth == 1 else 0.0
                token = at["filler"] + int(rng.integers(self.fillers))
                out.append((token, "filler", on + plain + np.log(self.fillers)))
        out.append((at["closer"] + kind, "closer", np.log(SLOTS - slots + 1)))
        return out

    def _span(self, span: Array, price: float, new: bool):
        out = []
        for k, word in enumerate(span.tolist()):
            loss = np.log(self.words - k) if new else 0.0
            name = "first" if k == 0 else "fresh" if new else "repeat"
            out.append((self.starts["word"] + word, name, loss + (price if k == 0 else 0.0)))
        return out
