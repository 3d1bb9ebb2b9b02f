"""Which losses does a caller mean?  From a probe's name, example ids or a Dataset to traces.

Shared by `influence`, `kernel` and `sources`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.results import tree as trees

LEVELS = ("token", "sequence")
_LABELS = (names.TOKEN_TEXT, names.FIRST_TEXT, names.LABEL)


def check_level(level: str) -> str:
    if level not in LEVELS:
        raise InputError(
            say(f"level={level!r}{nearest(level, LEVELS)}", "'token' or 'sequence'", "name one")
        )
    return level


def pick(run: Any, what: Any = None) -> xr.Dataset:
    """The probe, or the part of one, that `what` names, with dims (chain, draw, example[, token]).

    Args:
        run: A run or a probe Dataset.
        what: None (the only probe), a probe's name, an example id, a list of example ids, or a
            Dataset or `loss` DataArray of a probe or of a part of it.

    Raises:
        InputError: Nothing of that name (the nearest are given).
    """
    if isinstance(what, xr.DataArray):
        what = _from_array(what)
    if isinstance(what, xr.Dataset):
        return trees.probe(_with_example(what))
    if what is None:
        return trees.probe(run)
    probes = (
        {"": trees.probe(run)}
        if isinstance(run, xr.Dataset)
        else {p: trees.probe(run, p) for p in trees.probe_names(run)}
    )
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


def _from_array(array: xr.DataArray) -> xr.Dataset:
    labels = {k: v for k, v in array.coords.items() if k in _LABELS}
    return array.drop_vars(list(labels)).to_dataset(name=names.LOSS).assign(labels)


def _with_example(data: xr.Dataset) -> xr.Dataset:
    """One selected example or token keeps its dim, so that results always have it."""
    for dim in (names.EXAMPLE, names.TOKEN):
        if dim in data.coords and dim not in data.dims:
            data = data.expand_dims(dim)
    return data.transpose(
        names.CHAIN, names.DRAW, names.EXAMPLE, names.TOKEN, missing_dims="ignore"
    )


def result_dims(data: xr.Dataset, level: str, suffix: str = "") -> tuple[list[str], dict, dict]:
    """Dims, coords and sizes of one side of a matrix: `example` and, at token level, `token`."""
    dims = [names.EXAMPLE]
    if level == "token" and names.TOKEN in data[names.LOSS].dims:
        dims.append(names.TOKEN)
    coords: dict[str, Any] = {
        d + suffix: (d + suffix, data[d].values if d in data.coords else np.arange(data.sizes[d]))
        for d in dims
    }
    for key in _LABELS:
        if key in data and set(data[key].dims) <= set(dims):
            label = data[key].transpose(*(d for d in dims if d in data[key].dims))
            coords[key + suffix] = ([str(d) + suffix for d in label.dims], trees.read(label))
    return [d + suffix for d in dims], coords, {d + suffix: data.sizes[d] for d in dims}


def skipped(run: Any) -> dict:
    """Chains to leave out, with the reason: the sampler marked them as diverged."""
    return trees.statuses(run) if not isinstance(run, xr.Dataset) else {}


def joined(texts: Sequence[str]) -> str:
    return "; ".join(texts) if texts else "none"
