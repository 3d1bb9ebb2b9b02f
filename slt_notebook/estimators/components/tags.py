"""Tags of tokens by simple rules, as boolean columns: a token may have several."""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.results.store import read

TAG = "tag"
TAGS = (
    "word start", "word part", "word end", "induction", "spacing", "left delimiter",
    "right delimiter", "formatting", "numeric",
)  # fmt: skip

_WORD = re.compile(r"[^\W\d_]+")
_SPACED = re.compile(r" [^\W\d_]+")
_FORMAT = re.compile(r"\s*(?:[#*=_\-~`|.>]{2,}|[#*|`~]|\n[ \t]+|</?\w+/?>?)\s*|.*\n[ \t]+")


def token_tags(probe: xr.Dataset) -> xr.DataArray:
    """Return tags of the tokens of a probe: the patterns of arXiv:2504.18274.

    The paper names the patterns; these rules are the kit's own, for vocabularies that mark the
    start of a word by a leading space:

    - word start: space and letters, and the next token continues it with letters;
    - word part, word end: letters without a leading space, which the next token continues, or does
      not;
    - induction: the token followed the same previous token earlier in the text;
    - spacing: blanks only; left, right delimiter: ``([{<`` and ``)]}>`` (with or without a space);
    - formatting: markup, repeated punctuation, a line break with indent; numeric: digits.

    Quotes are not delimiters, since one character both opens and closes.

    Args:
        probe: A Dataset with `token_text`, `token_id` and `first_id`: a probe, moments, an estimate
            made from them, all of text.

    Returns:
        bool DataArray `(tag, example, token)`; False at padding.

    Raises:
        InputError: No texts.
    """
    missing = [k for k in (names.TOKEN_TEXT, names.TOKEN_ID) if k not in probe.variables]
    if missing:
        raise InputError(say(f"data without {missing}", "a probe of texts", "see slt.text_probe"))
    dims = (names.EXAMPLE, names.TOKEN)
    text = read(probe[names.TOKEN_TEXT].transpose(*dims)).astype(str)
    ids = read(probe[names.TOKEN_ID].transpose(*dims))
    first = probe[names.FIRST_ID].values if names.FIRST_ID in probe.variables else ids[:, 0] * 0 - 1
    out = np.zeros((len(TAGS), *text.shape), bool)
    row = {tag: i for i, tag in enumerate(TAGS)}
    for e in range(len(text)):
        words = [w for w in text[e] if w != ""] if "" in text[e] else list(text[e])
        length = len(words)
        seen: set[tuple[int, int]] = set()
        before = int(first[e])
        for k in range(length):
            here = text[e, k]
            after = text[e, k + 1] if k + 1 < length else ""
            goes_on = bool(_WORD.fullmatch(after))
            for tag in _plain_tags(here, goes_on):
                out[row[tag], e, k] = True
            pair = (before, int(ids[e, k]))
            out[row["induction"], e, k] = pair in seen
            seen.add(pair)
            before = int(ids[e, k])
    coords = {TAG: list(TAGS), **{d: probe[d] for d in dims if d in probe.coords}}
    return xr.DataArray(out, coords, (TAG, *dims), names.A_TAGS)


def _plain_tags(text: str, goes_on: bool) -> list[str]:
    found = []
    if _SPACED.fullmatch(text) and goes_on:
        found.append("word start")
    if _WORD.fullmatch(text):
        found.append("word part" if goes_on else "word end")
    if text and not text.strip():
        found.append("spacing")
    bare = text.strip()
    if bare and all(c in "([{<" for c in bare):
        found.append("left delimiter")
    if bare and all(c in ")]}>" for c in bare):
        found.append("right delimiter")
    if _FORMAT.fullmatch(text):
        found.append("formatting")
    if bare and all(c.isdigit() for c in bare):
        found.append("numeric")
    return found


def by_tag(estimate: xr.DataArray, tags: xr.DataArray, stderr: xr.DataArray | None = None):
    """Return the means of an estimate over the tokens of each tag.

    Args:
        estimate: With the dims (example, token) and any others.
        tags: Of `token_tags`.
        stderr: Of each token, for the Monte Carlo error of the mean; errors of tokens are treated
            as independent, which gives a lower bound.

    Returns:
        Dataset over tag: `mean`, `spread` (standard error over tokens), `tokens`, and `stderr`.
    """
    dims = (names.EXAMPLE, names.TOKEN)
    here = estimate.where(tags)
    count = here.notnull().sum(dims)
    out = xr.Dataset({"mean": here.mean(dims), "tokens": count})
    out["spread"] = here.std(dims, ddof=1) / np.sqrt(count)
    if stderr is not None:
        out["stderr"] = np.sqrt((stderr.where(tags) ** 2).sum(dims)) / count
    return out
