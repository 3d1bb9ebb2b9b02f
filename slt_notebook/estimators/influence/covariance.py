"""The matrix of covariances between two sets of losses: its size, labels and storage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.array import moments
from slt_notebook.estimators.losses import gather
from slt_notebook.results import selection
from slt_notebook.results.result import Result
from slt_notebook.results.store import plain_text


class Sides:
    """The rows and columns of a matrix of covariances, and the labels of the result.

    Args:
        result: The run.
        rows: Probe, or part of one.
        columns: The same; the very object `rows` for a matrix of the rows with themselves.
        unit: "token" or "sequence".
        centering: As in `moments.centre`.
        dtype: Of the result.

    Raises:
        InputError: An unknown unit or dtype.
    """

    def __init__(
        self, result: Result, rows: xr.Dataset, columns: xr.Dataset, unit: str, centering: str,
        dtype: np.dtype,
    ):  # fmt: skip
        self.rows, self.columns = rows, columns
        self.unit, self.centering, self.dtype = selection.check_unit(unit), centering, dtype
        if dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise InputError(say(f"dtype={dtype}", "float32 or float64", "use dtype='float32'"))
        self.skip = result.diverged
        self.row_dims, row_coords, self.row_sizes = selection.result_dims(rows, unit)
        self.column_dims, column_coords, self.column_sizes = selection.result_dims(
            columns, unit, "_"
        )
        self.coords = row_coords | column_coords

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        return (*self.row_sizes.values(), *self.column_sizes.values())

    def check_memory(self, limit: int, results: int) -> None:
        """Raise if the losses, while they are read and centred, and the results need too much.

        Args:
            limit: Bytes.
            results: Matrices held in memory: values, standard errors.

        Raises:
            InputError: More than `limit`.
        """
        sides = {id(d): d for d in (self.rows, self.columns)}.values()
        losses = 0
        for d in sides:
            loss = d[names.LOSS]
            series = loss.size if self.unit == "token" else loss.size // d.sizes.get("token", 1)
            losses += series * (2 * loss.dtype.itemsize + self.dtype.itemsize)
        need = losses + results * int(np.prod(self.shape)) * self.dtype.itemsize
        if need > limit:
            raise InputError(
                say(
                    f"{' x '.join(map(str, self.shape))} results, {need / 2**30:.1f} GiB of memory",
                    f"at most max_bytes = {limit / 2**30:.1f} GiB",
                    "choose examples with query= and train=, use unit='sequence', stderr=False "
                    "or slt_notebook.estimators.influence.top_sources, write to disk with "
                    "out='matrix.zarr', or raise max_bytes",
                )
            )

    def traces(self) -> tuple[moments.Traces, moments.Traces]:
        """Return the centred losses of rows and columns (one object where the two are one)."""
        a = gather(self.rows[names.LOSS], unit=self.unit, skip=self.skip)
        if self.columns is self.rows:
            centred = moments.centre(a, self.centering, self.dtype)
            return centred, centred
        b = gather(self.columns[names.LOSS], unit=self.unit, skip=self.skip)
        a, b = moments.common(a, b)
        return (
            moments.centre(a, self.centering, self.dtype),
            moments.centre(b, self.centering, self.dtype),
        )

    def attrs(
        self, a: moments.Traces, b: moments.Traces, normalize: bool, formula: str
    ) -> dict[str, Any]:
        """Return the attributes of the result: formula, units, and what it was made of."""
        flat = int(a.flat.sum()) + (0 if a is b else int(b.flat.sum()))
        between = "chains" if len(a.groups) == a.chains else "batches of successive draws"
        return {
            names.A_FORMULA: formula,
            "units": "1" if normalize else "nat^2",
            "normalized": int(normalize),
            "unit": self.unit,
            "sequence_loss": "sum over tokens",
            "centred": "per chain" if self.centering == "within" else "over all chains",
            "chains": a.chains,
            "draws": len(a.z),
            "stderr_from": f"{len(a.groups)} {between}",
            "zero_variance": flat,
            "excluded": selection.excluded_text(self.skip),
        }

    def dataset(
        self, value: np.ndarray, error: np.ndarray | None, attrs: dict[str, Any], name: str
    ) -> xr.Dataset:
        """Return the labelled result."""
        dims = (*self.row_dims, *self.column_dims)
        variables: dict[str, Any] = {name: (dims, value.reshape(self.shape), attrs)}
        if error is not None:
            about = {"long_name": f"Monte Carlo standard error, from {attrs['stderr_from']}"}
            variables["stderr"] = (dims, error.reshape(self.shape), about)
        return xr.Dataset(variables, self.coords, attrs)

    def write(
        self,
        path: str | os.PathLike,
        a: moments.Traces,
        b: moments.Traces,
        attrs: dict[str, Any],
        name: str,
        options: Mapping[str, Any],
    ) -> xr.Dataset:
        """Compute the result into a new Zarr store, one row example at a time, and open it.

        Args:
            path: Of the store.
            a: Traces of the rows.
            b: Traces of the columns.
            attrs: Of the result.
            name: Of the variable.
            options: For `moments.matrix`.
        """
        import zarr

        examples = self.shape[0]
        wide = a.series // examples
        dims = [*self.row_dims, *self.column_dims]
        # Text as variable-length strings: fixed-width ones have no place in the Zarr v3 standard.
        labels = {
            k: (d, v.astype(object) if np.asarray(v).dtype.kind == "U" else v)
            for k, (d, v) in self.coords.items()
        }
        xr.Dataset(coords=labels, attrs=attrs).to_zarr(path, mode="w-", consolidated=False)
        group = zarr.open_group(path, mode="r+")
        arrays = [
            group.create_array(
                key,
                shape=self.shape,
                chunks=(1, *(min(n, 512) for n in self.shape[1:])),
                dtype=self.dtype,
                fill_value=np.nan,
                dimension_names=dims,
                attributes=attrs if key == name else {},
            )
            for key in ([name, "stderr"] if options["errors"] else [name])
        ]
        for e in range(examples):
            parts = moments.matrix(a, b, rows=slice(e * wide, (e + 1) * wide), **options)
            for array, part in zip(arrays, parts, strict=False):
                if part is not None:
                    array[e] = part.reshape(self.shape[1:])
        found = xr.open_dataset(path, engine="zarr", consolidated=False, chunks=None)
        return plain_text(found)
