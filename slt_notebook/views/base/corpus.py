"""The tokens of a view: flat arrays in reading order, and the ids that name each token.

The browser's half is widgets/src/text/corpus.ts.  Padding is left out here, so that nothing after
this point knows about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.results.store import read

Array = np.ndarray


@dataclass(frozen=True)
class Corpus:
    """Tokens of several examples, one after the other.

    `mask [example, token]` says which cells of the arrays they came from are tokens; `flat` takes
    those cells.  `start [examples + 1]` is where each example begins.
    """

    examples: tuple[str, ...]
    labels: tuple[str | None, ...]
    first: tuple[str | None, ...]
    mask: Array
    token: Array
    text: tuple[str, ...]
    ids: Array | None

    @property
    def start(self) -> Array:
        """Where each example begins in the flat arrays, `[examples + 1]`."""
        return np.concatenate([[0], np.cumsum(self.mask.sum(1))]).astype("i4")

    def __len__(self) -> int:
        return len(self.text)

    def flat(self, values: Array) -> Array:
        """Return `[example, token] -> [tokens]`."""
        return np.asarray(values).reshape(self.mask.shape)[self.mask]

    def example_of(self, k: int) -> int:
        """Return the number of the example that holds flat token k."""
        return int(np.searchsorted(self.start, k, side="right") - 1)

    def where(self, k: int) -> str:
        """Return the place of flat token k, such as "train/0 · 17"."""
        return f"{self.examples[self.example_of(k)]} · {self.token[k]}"

    def find(self, example: Any, token: int) -> int | None:
        """Return the flat index of a token, or None."""
        if str(example) not in self.examples:
            return None
        e = self.examples.index(str(example))
        a, b = self.start[e], self.start[e + 1]
        at = np.flatnonzero(self.token[a:b] == token)
        return int(a + at[0]) if len(at) else None

    def context(self, k: int, width: int = 6) -> tuple[str, str, str]:
        """Return the text before, at and after token k, from its own example."""
        e = self.example_of(k)
        a, b = self.start[e], self.start[e + 1]
        head = "".join(self.text[max(a, k - width) : k])
        if k - width <= a and self.first[e]:
            head = (self.first[e] or "") + head
        return head, self.text[k], "".join(self.text[k + 1 : min(b, k + 1 + width)])

    def entries(self) -> dict:
        """Return what `pack` sends of it."""
        return {
            "examples": list(self.examples),
            "labels": list(self.labels),
            "first": list(self.first),
            "start": self.start,
            "token": self.token.astype("i4"),
            "text": list(self.text),
            "id": np.zeros(0, "i4") if self.ids is None else self.ids.astype("i4"),
        }


def of_probe(data: xr.Dataset) -> Corpus:
    """Return the tokens of a probe; of an array probe every example counts as one token.

    Padding is where `init_loss` is NaN; without `init_loss`, where no draw has a finite loss.
    """
    loss = data[names.LOSS]
    examples = _ids(data, names.EXAMPLE)
    textual = names.TOKEN in loss.dims
    if names.INIT_LOSS in data:
        mask = np.isfinite(_table(data[names.INIT_LOSS], textual))
    else:
        mask = ~np.isnan(_table(loss.mean((names.CHAIN, names.DRAW)), textual))
    labels = [None] * len(examples)
    if names.LABEL in data:
        labels = [str(x) for x in read(data[names.LABEL])]
    if not textual:
        shown = [label or name for label, name in zip(labels, examples, strict=True)]
        return _corpus(examples, labels, None, mask, np.zeros(1), np.array([shown]).T, None)
    tokens = (
        data[names.TOKEN].values if names.TOKEN in data.coords else 1 + np.arange(mask.shape[1])
    )
    ids = _table(data[names.TOKEN_ID], True) if names.TOKEN_ID in data else None
    if names.TOKEN_TEXT in data:
        text = _table(data[names.TOKEN_TEXT], True)
    else:
        text = np.array(
            [[f"[{x}]" for x in row] for row in (mask * 0 + tokens if ids is None else ids)]
        )
    first = read(data[names.FIRST_TEXT]) if names.FIRST_TEXT in data else None
    return _corpus(examples, labels, first, mask, tokens, text, ids)


def of_values(values: xr.DataArray, text: Any = None, examples: Any = None) -> Corpus:
    """Return the tokens of an array `(example, token)` or `(token,)`, with their text.

    Args:
        values: Numbers; a cell is padding where the number is NaN and the text is empty.
        text: Strings of the same shape, a list of strings (one example), a list of lists, or
            None: the coordinate `token_text`, else the token's index in brackets.
        examples: Ids; None: the coordinate `example`, else "0", "1", ...

    Raises:
        InputError: Other dims, or texts of another shape.
    """
    if names.EXAMPLE not in values.dims:
        name = values.coords[names.EXAMPLE].item() if names.EXAMPLE in values.coords else "text"
        values = values.expand_dims({names.EXAMPLE: [str(name)]})
    if set(values.dims) != {names.EXAMPLE, names.TOKEN}:
        raise InputError(
            say(
                f"values with dims {values.dims}",
                "(example, token) or (token,)",
                "select the rest, such as values.isel(component=0), or rename the dims",
            )
        )
    values = values.transpose(names.EXAMPLE, names.TOKEN)
    shape = (values.sizes[names.EXAMPLE], values.sizes[names.TOKEN])
    ids = _ids(values, names.EXAMPLE) if examples is None else [str(x) for x in examples]
    if len(ids) != shape[0] or len(set(ids)) != len(ids):
        raise InputError(say(f"examples={ids[:5]}", f"{shape[0]} different ids", "name each once"))
    tokens = values[names.TOKEN].values if names.TOKEN in values.coords else np.arange(shape[1])
    words = _texts(text, values, tokens, shape)
    mask = np.isfinite(values.values) | (words != "")
    number = values.coords.get(names.TOKEN_ID)
    ids_array = None if number is None else np.broadcast_to(_row(number), shape)
    return _corpus(ids, [None] * len(ids), None, mask, tokens, words, ids_array)


def join(parts: Sequence[Corpus]) -> Corpus:
    """Several corpora as one, examples one after the other (their masks side by side)."""
    wide = max(part.mask.shape[1] for part in parts)
    masks = [np.pad(p.mask, ((0, 0), (0, wide - p.mask.shape[1]))) for p in parts]
    ids = [p.ids for p in parts if p.ids is not None]
    return Corpus(
        sum((p.examples for p in parts), ()),
        sum((p.labels for p in parts), ()),
        sum((p.first for p in parts), ()),
        np.concatenate(masks),
        np.concatenate([p.token for p in parts]),
        sum((p.text for p in parts), ()),
        np.concatenate(ids) if len(ids) == len(parts) else None,
    )


def _corpus(examples, labels, first, mask, tokens, text, ids) -> Corpus:
    position = np.broadcast_to(np.asarray(tokens).astype(int), mask.shape)[mask]
    return Corpus(
        tuple(examples),
        tuple(labels),
        (None,) * len(examples) if first is None else tuple(str(x) for x in first),
        mask,
        position,
        tuple(str(x) for x in np.asarray(text, dtype=object)[mask]),
        None if ids is None else np.asarray(ids)[mask].astype(int),
    )


def _ids(data: Any, dim: str) -> list[str]:
    if dim in data.coords:
        return [str(x) for x in np.atleast_1d(data[dim].values)]
    return [str(i) for i in range(data.sizes[dim])]


def _table(array: xr.DataArray, textual: bool) -> Array:
    """Return `[example, token]`; an array probe gets one column."""
    if textual:
        return read(array.transpose(names.EXAMPLE, names.TOKEN))
    return read(array)[:, None]


def _row(array: xr.DataArray) -> Array:
    dims = [d for d in (names.EXAMPLE, names.TOKEN) if d in array.dims]
    return array.transpose(*dims).values


def _texts(text: Any, values: xr.DataArray, tokens: Array, shape: tuple[int, int]) -> Array:
    if text is None and names.TOKEN_TEXT in values.coords:
        text = values.coords[names.TOKEN_TEXT]
    if text is None:
        return np.broadcast_to(np.array([f"[{t}]" for t in tokens], object), shape)
    if isinstance(text, xr.DataArray):
        return np.broadcast_to(_row(text).astype(object), shape)
    rows = [text] if len(text) and isinstance(text[0], str) else [list(row) for row in text]
    if len(rows) != shape[0] or any(len(row) > shape[1] for row in rows):
        got = f"texts of {[len(r) for r in rows][:5]} tokens for values of shape {shape}"
        raise InputError(say(got, "one string a token", "give [[...], [...]], a list an example"))
    found = np.full(shape, "", object)
    for e, row in enumerate(rows):
        found[e, : len(row)] = row
    return found
