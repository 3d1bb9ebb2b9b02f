"""Sums over the coordinates of each chain, in float64, whatever other chains there are.

A sum over `[chain, dim]` must not round by how many rows there are, or chains would depend on how
they are split over workers; torch splits the sum of a single long row over threads.  Long rows are
summed block by block: nothing of the size of a large model is held besides the rows themselves.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

LONG = 1 << 16
"""Coordinates from which a row is taken in blocks."""
BLOCK = 1 << 16
_PART = 1 << 12


def row_sums(rows: Tensor) -> Tensor:
    """Sum over the last axis of `[chain, dim]`, which round the same however many rows there are.

    Torch splits the sum of a single row over threads, so that row is summed as one of two.
    """
    if len(rows) == 1:
        return rows.expand(2, -1).contiguous().sum(1)[:1]
    return rows.sum(1)


def row_totals(terms: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """Return sums of `terms(*rows)` over coordinates, of every row: `[chain]`.

    `terms` goes coordinate by coordinate; it is called with parts of all `rows` `[chain, dim]`.
    """
    dim = rows[0].shape[1]
    if dim < LONG:
        return row_sums(terms(*rows))
    sums: list[Tensor] = []
    for number in range(len(rows[0])):
        parts: list[Tensor] = []
        for start in range(0, dim, BLOCK):
            part = terms(*(r[number, start : start + BLOCK] for r in rows))
            whole = len(part) // _PART * _PART
            # Many outputs: threads share them, and no sum is split.
            parts += [part[:whole].view(-1, _PART).sum(1), part[whole:].sum()[None]]
        sums.append(torch.cat(parts).sum())
    return torch.stack(sums)


def row_dots(one: Tensor, other: Tensor, origin: Tensor | None = None) -> Tensor:
    """`(one - origin) . other` of every row, float64 `[chain]`."""
    if origin is None:
        return row_totals(_products, one, other)
    return row_totals(_products_from, one, other, origin.expand_as(one))


def row_norms(rows: Tensor, origin: Tensor | None = None) -> Tensor:
    """Euclidean norm of every row of `rows - origin`, float32 `[chain]`."""
    if origin is None:
        return row_totals(_squares, rows).sqrt().float()
    return row_totals(_squares_from, rows, origin.expand_as(rows)).sqrt().float()


def finite_rows(rows: Tensor) -> Tensor:
    """Whether all of a row is finite, bool `[chain]`.

    A float64 sum of float32 numbers is finite exactly where all of them are.
    """
    if rows.shape[1] < LONG or rows.dtype == torch.float64:
        return rows.isfinite().all(1)
    return row_totals(_doubles, rows).isfinite()


def finite_leaves(leaves: Sequence[Tensor]) -> Tensor | None:
    """Whether all of a chain's row is finite in every leaf `[chain, ...]`: bool `[chain]`.

    None where there are no leaves.
    """
    found = [finite_rows(leaf.reshape(len(leaf), -1)) for leaf in leaves]
    return torch.stack(found).all(0) if found else None


def _products(one: Tensor, other: Tensor) -> Tensor:
    return one.double() * other


def _products_from(one: Tensor, other: Tensor, origin: Tensor) -> Tensor:
    return (one - origin).double() * other


def _squares(row: Tensor) -> Tensor:
    return row.double().square()


def _squares_from(row: Tensor, origin: Tensor) -> Tensor:
    return (row - origin).double().square()


def _doubles(row: Tensor) -> Tensor:
    return row.double()
