"""Read the losses of a probe as plain arrays, one row per draw."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import Diverged, say
from slt_notebook.estimators.array.moments import Raw
from slt_notebook.results.selection import check_unit
from slt_notebook.results.store import read

_SLAB = 2**26  # bytes of losses read at a time


def slabs(loss: xr.DataArray, skip: Container[Any] = ()) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield losses in pieces: `(chain, first draw, [draw, example(, token)])`, in stored order.

    A piece holds successive draws of one chain, at most 64 MB.

    Args:
        loss: `loss` of a probe.
        skip: Labels of chains that are left out.
    """
    rest = [d for d in (names.EXAMPLE, names.TOKEN) if d in loss.dims]
    array = loss.transpose(names.CHAIN, names.DRAW, *rest)
    one_draw = max(1, int(np.prod([array.sizes[d] for d in rest]))) * array.dtype.itemsize
    many = max(1, _SLAB // one_draw)
    labels = array[names.CHAIN].values if names.CHAIN in array.coords else None
    for c in range(array.sizes[names.CHAIN]):
        if labels is not None and labels[c] in skip:
            continue
        for d in range(0, array.sizes[names.DRAW], many):
            piece = array.isel({names.CHAIN: c, names.DRAW: slice(d, d + many)})
            yield c, d, read(piece)


def gather(loss: xr.DataArray, *, unit: str = "token", skip: Container[Any] = ()) -> Raw:
    """Return the losses at all draws that exist, one row per draw.

    A sequence in which a token other than padding is not finite is NaN at that draw.

    Args:
        loss: `loss` of a probe.
        unit: "token", or "sequence" for sums over the tokens of an example, padding skipped.
        skip: Labels of chains that are left out.

    Raises:
        InputError: Another unit.  Diverged: No finite draw.
    """
    summed = check_unit(unit) == "sequence" and names.TOKEN in loss.dims
    parts, chain, draw, padding = [], [], [], None
    for c, d, piece in slabs(loss, skip):
        flat = piece.reshape(len(piece), -1)
        rows = np.flatnonzero(~np.isnan(flat).all(1))
        if not len(rows):
            continue
        if summed:
            missing = np.isnan(piece[rows])
            if padding is None:
                padding = missing[0]
            totals = np.where(missing, 0.0, piece[rows]).sum(2, dtype=np.float64)
            totals[(missing != padding).any(2)] = np.nan
            totals[:, padding.all(1)] = np.nan
            parts.append(totals)
        else:
            parts.append(flat if len(rows) == len(flat) else flat[rows])
        chain.append(np.full(len(rows), c))
        draw.append(d + rows)
    if not parts:
        raise Diverged(say("no finite draw", "at least 2 draws of a chain", "sample longer"))
    return Raw(
        parts[0] if len(parts) == 1 else np.concatenate(parts),
        np.concatenate(chain),
        np.concatenate(draw),
    )
