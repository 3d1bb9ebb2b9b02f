"""Select the losses that a caller names: a probe, example ids, or a part of a probe."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.results.result import check_probe, probe_of_loss, resolve
from slt_notebook.results.store import read

UNITS = ("token", "sequence")
_LABELS = (names.TOKEN_TEXT, names.FIRST_TEXT, names.LABEL)  # those on the sides of a matrix


def check_unit(unit: str) -> str:
    """Return `unit` if it is "token" or "sequence".

    Raises:
        InputError: Another one.
    """
    if unit not in UNITS:
        raise InputError(
            say(f"unit={unit!r}{nearest(unit, UNITS)}", "'token' or 'sequence'", "name one")
        )
    return unit


def pick(run: Any, what: Any = None) -> xr.Dataset:
    """Return the probe, or the part of one, that `what` names.

    Args:
        run: A run or a probe Dataset; estimators pass a `Result`.
        what: None (the only probe), a probe's name, an example id, a list of example ids, or a
            Dataset or `loss` DataArray of a probe or of a part of it.

    Returns:
        A probe with dims (chain, draw, example[, token]).

    Raises:
        InputError: Nothing of that name (the nearest are given).
    """
    if isinstance(what, xr.DataArray):
        what = probe_of_loss(what)
    if isinstance(what, xr.Dataset):
        return check_probe(_with_example(what))
    result = resolve(run)
    if what is None:
        return result.probe()
    probes = {p: result.probe(p) for p in result.probe_names}
    if isinstance(what, str) and what in probes:
        return probes[what]
    ids = [what] if isinstance(what, str) else list(what)
    for data in probes.values():
        known = {str(e) for e in data[names.EXAMPLE].values}
        if ids and all(str(i) in known for i in ids):
            labels = [str(e) for e in data[names.EXAMPLE].values]
            return data.isel({names.EXAMPLE: [labels.index(str(i)) for i in ids]})
    known = [str(e) for d in probes.values() for e in d[names.EXAMPLE].values]
    wrong = next((str(i) for i in ids if str(i) not in known), f"{ids} of several probes")
    raise InputError(
        say(
            f"{wrong!r}{nearest(wrong, [*probes, *known])}",
            f"a probe ({', '.join(p for p in probes if p) or 'none'}) or examples of one probe",
            "name a probe, or example ids such as " + repr(known[0] if known else "train/0"),
        )
    )


def _with_example(data: xr.Dataset) -> xr.Dataset:
    """Give a selected example or token its dim back, so that results always have it."""
    for dim in (names.EXAMPLE, names.TOKEN):
        if dim in data.coords and dim not in data.dims:
            data = data.expand_dims(dim)
    return data.transpose(
        names.CHAIN, names.DRAW, names.EXAMPLE, names.TOKEN, missing_dims="ignore"
    )


def result_dims(data: xr.Dataset, unit: str, suffix: str = "") -> tuple[list[str], dict, dict]:
    """Return dims, coords and sizes of one side of a matrix: `example` and, per token, `token`."""
    dims = [names.EXAMPLE]
    if unit == "token" and names.TOKEN in data[names.LOSS].dims:
        dims.append(names.TOKEN)
    coords: dict[str, Any] = {
        d + suffix: (d + suffix, data[d].values if d in data.coords else np.arange(data.sizes[d]))
        for d in dims
    }
    for key in _LABELS:
        if key in data and set(data[key].dims) <= set(dims):
            label = data[key].transpose(*(d for d in dims if d in data[key].dims))
            coords[key + suffix] = ([str(d) + suffix for d in label.dims], read(label))
    return [d + suffix for d in dims], coords, {d + suffix: data.sizes[d] for d in dims}


def excluded_text(chains: Mapping[Hashable, str]) -> str:
    """Return "chain 2: diverged ...; ..." for the attrs of a result, or "none"."""
    return "; ".join(f"chain {c}: {why}" for c, why in chains.items()) or "none"
