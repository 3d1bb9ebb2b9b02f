"""Single questions to a run that is given in any form, for the views.

Each of these functions resolves the run anew.  Code that asks more than once calls `resolve` and
works on the `Result`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import xarray as xr

from slt_notebook.errors import InputError
from slt_notebook.results.result import resolve
from slt_notebook.results.store import as_tree, open_run, plain_text, read

__all__ = [
    "as_tree", "open_run", "plain_text", "probe", "probe_names", "read", "sampling", "statuses",
]  # fmt: skip


def sampling(run: Any) -> xr.Dataset:
    """Return the group `sampling` of a run; see `Result.sampling`."""
    return resolve(run).sampling


def probe_names(run: Any) -> list[str]:
    """Return the names of the probes of a run; see `Result.probe_names`."""
    return resolve(run).probe_names


def probe(run: Any, name: str | None = None) -> xr.Dataset:
    """Return one probe of a run; see `Result.probe`."""
    return resolve(run).probe(name)


def statuses(run: Any) -> dict[Hashable, str]:
    """Return what happened to each chain that is not ok; see `Result.diverged`."""
    try:
        return resolve(run).diverged
    except InputError:
        return {}
