"""How is a matrix of covariances between two sets of losses sized, labelled and written?

Shared by `influence` and `kernel`; the arithmetic is in `_moments`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.array import moments as _moments
from slt_notebook.results import selection as _pick
from slt_notebook.results import tree as trees


class Sides:
    """The rows and columns of a matrix of covariances, and how the result is labelled."""

    def __init__(self, run, rows, columns, level, chains, dtype):
        self.run, self.rows, self.columns = run, rows, columns
        self.level, self.chains, self.dtype = level, chains, dtype
        if dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise InputError(say(f"dtype={dtype}", "float32 or float64", "use dtype='float32'"))
        self.skip = _pick.skipped(run)
        self.row_dims, row_coords, self.row_sizes = _pick.result_dims(rows, level)
        self.column_dims, column_coords, self.column_sizes = _pick.result_dims(columns, level, "_")
        self.coords = row_coords | column_coords

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.row_sizes.values(), *self.column_sizes.values())

    def check_memory(self, limit: int, results: int) -> None:
        """Losses while they are read (twice) and centred, and `results` matrices, must fit."""
        sides = {id(d): d for d in (self.rows, self.columns)}.values()
        losses = 0
        for d in sides:
            loss = d[names.LOSS]
            series = loss.size if self.level == "token" else loss.size // d.sizes.get("token", 1)
            losses += series * (2 * loss.dtype.itemsize + self.dtype.itemsize)
        need = losses + results * int(np.prod(self.shape)) * self.dtype.itemsize
        if need > limit:
            raise InputError(
                say(
                    f"{' x '.join(map(str, self.shape))} results, {need / 2**30:.1f} GiB of memory",
                    f"at most max_bytes = {limit / 2**30:.1f} GiB",
                    "choose examples with query= and train=, use level='sequence', stderr=False "
                    "or slt_notebook.estimators.influence.top_sources, write to disk with "
                    "out='matrix.zarr', or raise max_bytes",
                )
            )

    def traces(self) -> tuple[_moments.Traces, _moments.Traces]:
        skip = tuple(self.skip)
        a = _moments.gather(self.rows[names.LOSS], level=self.level, skip=skip)
        if self.columns is self.rows:
            centred = _moments.centre(a, self.chains, self.dtype)
            return centred, centred
        b = _moments.gather(self.columns[names.LOSS], level=self.level, skip=skip)
        a, b = _moments.common(a, b)
        return (
            _moments.centre(a, self.chains, self.dtype),
            _moments.centre(b, self.chains, self.dtype),
        )

    def attrs(self, a, b, normalize: bool, formula: str) -> dict:
        flat = int(a.flat.sum()) + (0 if a is b else int(b.flat.sum()))
        between = "chains" if len(a.groups) == a.chains else "batches of successive draws"
        return {
            names.A_FORMULA: formula,
            "units": "1" if normalize else "nat^2",
            "normalized": int(normalize),
            "level": self.level,
            "sequence_loss": "sum over tokens",
            "centred": "per chain" if self.chains == "within" else "over all chains",
            "chains": a.chains,
            "draws": len(a.z),
            "stderr_from": f"{len(a.groups)} {between}",
            "zero_variance": flat,
            "excluded": _pick.joined([f"chain {c}: {t}" for c, t in self.skip.items()]),
        }

    def dataset(self, value, error, attrs: dict, name: str) -> xr.Dataset:
        dims = (*self.row_dims, *self.column_dims)
        variables = {name: (dims, value.reshape(self.shape), attrs)}
        if error is not None:
            about = {"long_name": f"Monte Carlo standard error, from {attrs['stderr_from']}"}
            variables["stderr"] = (dims, error.reshape(self.shape), about)
        return xr.Dataset(variables, self.coords, attrs)

    def write(self, path, a, b, attrs: dict, name: str, options: dict) -> xr.Dataset:
        """The same into a Zarr store, one row example at a time; returned lazily opened."""
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
            parts = _moments.matrix(a, b, rows=slice(e * wide, (e + 1) * wide), **options)
            for array, part in zip(arrays, parts, strict=False):
                if part is not None:
                    array[e] = part.reshape(self.shape[1:])
        found = xr.open_dataset(path, engine="zarr", consolidated=False, chunks=None)
        return trees.plain_text(found)
