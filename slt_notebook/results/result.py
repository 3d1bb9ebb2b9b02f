"""`Result`: a run that was opened once, read-only, on which every estimator works.

Public functions call `resolve` on what they are given and hand the `Result` to their inner
functions, so that a public call opens a store once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.results.store import as_tree, read

LABELS = (names.TOKEN_ID, names.TOKEN_TEXT, names.FIRST_ID, names.FIRST_TEXT, names.LABEL)
"""Labels of examples and tokens that an estimate keeps."""

_UNNAMED = ""  # the name of a probe that was given as a Dataset


@dataclass(frozen=True)
class Result:
    """A run as it was when it was opened; its values are read when they are used.

    Attributes:
        groups: `"sampling"` and `"probe/<name>"`, each a Dataset.  A probe that was given as a
            Dataset has the name `""`, and there is no `sampling` then.
        attrs: Those of the run: its task, versions and model.
        name: Of the run, or None.
        source: The folder of its store, or None for a run in memory.
    """

    groups: Mapping[str, xr.Dataset]
    attrs: Mapping[str, Any]
    name: str | None = None
    source: str | None = None

    @property
    def sampling(self) -> xr.Dataset:
        """The group `sampling`: one series per chain.

        Raises:
            InputError: The run has no such group, or a probe was given in place of a run.
        """
        if names.SAMPLING not in self.groups:
            found = ", ".join(k for k in self.groups if k != f"{names.PROBE}/{_UNNAMED}")
            raise InputError(
                say(
                    f"a tree with {found}" if found else "data without the run's chains",
                    "a run, with its group 'sampling'",
                    "pass a run: a DataTree, a path, or a Run",
                )
            )
        return self.groups[names.SAMPLING]

    @property
    def probe_names(self) -> list[str]:
        """Names of the probes, in the order in which they are stored."""
        start = f"{names.PROBE}/"
        return [k.removeprefix(start) for k in self.groups if k.startswith(start)]

    @property
    def is_probe(self) -> bool:
        """Whether a probe Dataset was given in place of a run."""
        return f"{names.PROBE}/{_UNNAMED}" in self.groups

    def probe(self, name: str | None = None) -> xr.Dataset:
        """Return one probe, as a Dataset `loss(chain, draw, example[, token])` and its labels.

        Args:
            name: Which probe; may be left out when there is only one.

        Raises:
            InputError: No such probe (the nearest names are given), or several and none named.
        """
        known = self.probe_names
        if self.is_probe:
            name = _UNNAMED
        if not known:
            do = "sample with probes=[...]"
            raise InputError(say("a run without probes", "at least one", do))
        if name is None:
            if len(known) > 1:
                got = f"{len(known)} probes ({', '.join(known)})"
                raise InputError(say(got, "the name of one", "name a probe"))
            name = known[0]
        if name not in known:
            got = f"probe {name!r}{nearest(name, known)}"
            raise InputError(say(got, f"one of {', '.join(known)}", "name one"))
        return check_probe(self.groups[f"{names.PROBE}/{name}"])

    @cached_property
    def diverged(self) -> dict[Hashable, str]:
        """What happened to each chain that is not ok: `{chain: "diverged: ... at step 41"}`."""
        at = None if not self._codes else self.sampling.get(names.STATUS_STEP)
        found = {}
        for i, code in enumerate(self._codes):
            if code != names.STATUS_OK:
                text = names.STATUS_TEXT.get(code, f"stopped with the unknown status {code}")
                where = f" at step {int(read(at)[i])}" if at is not None else ""
                data = self.sampling
                chain: Any = data[names.CHAIN].values[i] if names.CHAIN in data.coords else i
                found[chain.item() if hasattr(chain, "item") else chain] = text + where
        return found

    @cached_property
    def _codes(self) -> list[int]:
        """The status of each chain; none where a probe was given, which does not say."""
        data = self.groups.get(names.SAMPLING)
        if data is None or names.STATUS not in data:
            return []
        return [int(code) for code in np.asarray(read(data[names.STATUS]))]

    @property
    def remedies(self) -> str:
        """What to do about the chains that are not ok; "" if all are."""
        return remedies(self._codes)

    @property
    def tree(self) -> xr.DataTree:
        """The run as a DataTree, so that a `Result` is accepted wherever a run is.

        Raises:
            InputError: A probe was given in place of a run.
        """
        if self.is_probe:
            raise InputError(say("a probe Dataset", "a run", "pass a DataTree, a path, or a Run"))
        groups = {"/": xr.Dataset(attrs=dict(self.attrs))}
        tree = xr.DataTree.from_dict(
            groups | {f"/{k}": v for k, v in self.groups.items()}, name=self.name
        )
        if self.source is not None:
            tree.encoding["source"] = self.source
        return tree


def remedies(codes: Iterable[int]) -> str:
    """Return what to do about chains of these statuses; "" if all are ok."""
    bad = [code for code in codes if code != names.STATUS_OK]
    every = dict.fromkeys(names.STATUS_DO.get(code, names.STATUS_DO_ELSE) for code in bad)
    return "; ".join(every)


def resolve(run: Any) -> Result:
    """Open a run once and return it as a `Result`.

    Args:
        run: A DataTree, a path, an object with a `.tree` such as a Run, a group `sampling` (a
            Dataset with the dim `step`), a probe (a Dataset, or its `loss`), or a `Result`, which
            is returned as it is.

    Raises:
        InputError: None of these.  StoreError: No run at that path, or a corrupt one.
    """
    if isinstance(run, Result):
        return run
    if isinstance(run, xr.DataArray):
        run = probe_of_loss(run)
    if isinstance(run, xr.Dataset):
        group = names.SAMPLING if names.STEP in run.dims else f"{names.PROBE}/{_UNNAMED}"
        return Result(MappingProxyType({group: run}), MappingProxyType({}))
    tree = as_tree(run)
    groups = {
        node.path.removeprefix(tree.path).lstrip("/"): node.to_dataset(inherit=False)
        for node in tree.subtree
        if node is not tree and (node.data_vars or node.coords)
    }
    known = {k: v for k, v in groups.items() if k == names.SAMPLING or k.startswith(names.PROBE)}
    return Result(
        MappingProxyType(known),
        MappingProxyType({str(k): v for k, v in tree.attrs.items()}),
        tree.name,
        tree.encoding.get("source"),
    )


def probe_of_loss(array: xr.DataArray) -> xr.Dataset:
    """Return a probe Dataset made of its `loss`, with the labels that the array carries."""
    labels = {k: v for k, v in array.coords.items() if k in LABELS}
    return array.drop_vars(list(labels)).to_dataset(name=names.LOSS).assign(labels)


def check_probe(data: xr.Dataset) -> xr.Dataset:
    """Return `data` if it is a probe.

    Raises:
        InputError: No `loss`, or a loss with other dims.
    """
    if names.LOSS not in data:
        raise InputError(
            say(f"a Dataset with {', '.join(map(str, data.data_vars))}", "'loss'", "pass a probe")
        )
    dims = data[names.LOSS].dims
    allowed = {names.CHAIN, names.DRAW, names.EXAMPLE, names.TOKEN}
    needed = {names.CHAIN, names.DRAW, names.EXAMPLE}
    if not needed <= set(dims) <= allowed:
        raise InputError(
            say(
                f"a loss with dims {tuple(dims)}",
                "(chain, draw, example) or (chain, draw, example, token)",
                "rename the dims; a single chain needs expand_dims('chain')",
            )
        )
    return data
