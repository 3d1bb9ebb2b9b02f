"""`slt.critical_compression`: how far a model can be compressed before its loss rises."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch.func import vmap
from tqdm.auto import tqdm

from slt_notebook import names
from slt_notebook.core.capabilities import capabilities
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.space import dtype_of
from slt_notebook.core.types import Params
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.estimators.llc.compression import BOUND, LEVEL, TOLERANCE, crossings
from slt_notebook.models.components.catalog import parts
from slt_notebook.models.compression import schemes
from slt_notebook.models.compression.protocol import Candidate, Scheme, chosen
from slt_notebook.models.probes import Probe
from slt_notebook.runs.plan import partition
from slt_notebook.runs.plan.settings import Speed


@in_plain_modes
def critical_compression(
    loss,
    data: Probe,
    scheme: str | Scheme = "quantize",
    tolerance: float | Sequence[float] = (0.03, 0.1, 0.3),
    *,
    levels: Sequence[float] | None = None,
    parameters: str = "matrices",
    device: str | torch.device = Speed.device,
    chunk: int | None = None,
    progress: bool = False,
    **options: Any,
) -> xr.Dataset:
    """The compression at which the loss has risen by `tolerance`, for each of several tolerances.

        gap(P) = L(comp_P(w*)) - L(w*),   P*(eps) = the level where gap(P) first exceeds eps

    All levels, ranges and repeats are evaluated on the same examples (all of `data`), so that the
    noise of the data cancels in the gap; the crossing is interpolated between levels, log gap
    against log level (against the level itself for shares).

    Args:
        loss: from `slt.causal_lm`, `slt.supervised` or `slt.loss_fn`; the model is left untouched.
        data: the examples whose mean loss counts.
        scheme: "quantize" (grid of n levels), "factorize" (singular values dropped), "prune"
            (smallest weights to zero), "heads" (attention heads to zero), "noise", "torchao" (the
            int8 and int4 weight-only quantizers that people deploy; not interpolated; needs
            torchao), or a scheme of `models/compression/`.
        tolerance: rise of the loss, nats; one or several.
        levels: of the scheme's knob, from the least compression to the most; its own by default.
        parameters: which weights: "matrices", "all", or a glob of parameter names.
        device: as in `slt.sample`.
        chunk: how many candidates are evaluated at once; None chooses.
        progress: show progress.
        options: of the scheme: `granularity="global" | "tensor" | "channel"`, `ranges`, `repeats`,
            `seed`, ...

    Returns:
        Dataset over `level` and `epsilon` (the tolerance): `loss`, `gap`, `gap_stderr` (paired,
        over examples; for noise also over repeats), `setting` (the range that was best),
        `init_loss`; `critical (epsilon)` and its 95 % `interval (epsilon, bound)`; of grids also
        `bits = log2 critical` and `bits_interval`.  An infinite value: no level (or every one) is
        within the tolerance.

    Raises:
        InputError: an unknown scheme or option, levels out of range, nothing to compress.

    References: Urdshals et al. 2025 (arXiv:2510.12077).
    """
    maker = _scheme(scheme, options, loss)
    tolerances = np.atleast_1d(np.asarray(tolerance, float))
    if tolerances.ndim != 1 or not len(tolerances) or not (tolerances > 0).all():
        raise InputError(say(f"tolerance={tolerance!r}", "nats above 0", "pass [0.03, 0.1]"))
    if not isinstance(data, Probe):
        raise InputError(say(f"data of type {type(data).__name__}", "a Probe", "slt.text_probe"))
    loss.check(data)
    levels = tuple(maker.levels if levels is None else levels)
    if len(levels) < 2 and levels != tuple(maker.levels):
        raise InputError(say(f"levels={levels}", "two or more", "leave it out"))
    maker.check(levels)
    where = partition.pick_device(device, next(iter(loss.params.values())).device)
    loss = loss.to(where)
    weights = chosen(loss.params, "all" if maker.name == "heads" else parameters)
    evaluate = _Evaluation(loss, data, where, chunk)
    base, counts = evaluate.sums([Candidate(0.0, {})])
    prepared = maker.prepare(weights)
    rows = []
    for level in tqdm(levels, desc=maker.name, disable=not progress):
        found, settings = [], []
        for block in _blocks(maker.candidates(prepared, level), evaluate.chunk):
            found.append(evaluate.sums(block)[0])
            settings += [c.setting for c in block]
        rows.append(_level(np.concatenate(found), settings, base[0], counts, maker.pick))
    each = {k: np.array([r[k] for r in rows]) for k in rows[0]}
    size = sum(v.numel() for v in weights.values())
    return _dataset(maker, levels, tolerances, each, base[0].sum() / counts.sum(), size, data)


def _scheme(scheme: Any, options: dict, loss: Any) -> Scheme:
    if not isinstance(scheme, str):
        if options:
            raise InputError(say(f"options {sorted(options)}", "none", "set them on the scheme"))
        return scheme
    known = {**schemes.SCHEMES, "torchao": None, "heads": None}
    if scheme not in known:
        raise InputError(
            say(f"scheme={scheme!r}{nearest(scheme, known)}", f"one of {sorted(known)}", "choose")
        )
    if scheme == "torchao":
        from slt_notebook.models.compression.torchao_schemes import TorchAO

        kind = TorchAO
    elif scheme == "heads":
        found = parts(loss).components
        options = {"heads": tuple(c.pieces for c in found.values() if c.kind == "head"), **options}
        kind = schemes.Heads
    else:
        kind = schemes.SCHEMES[scheme]
    fields = [f.name for f in dataclasses.fields(kind)]
    for name in options:
        if name not in fields:
            also = [p for p in inspect.signature(critical_compression).parameters if p != "options"]
            raise InputError(
                say(
                    f"option {name!r}{nearest(name, fields + also)} for {scheme!r}",
                    f"one of {fields}",
                    "rename or drop it",
                )
            )
    return kind(**options)


class _Evaluation:
    """Sums of losses of each example under many parameter sets, on one fixed set of examples."""

    def __init__(self, loss, data: Probe, device: torch.device, chunk: int | None):
        self.loss, self.device = loss, device
        self.rows = min(len(data), partition.probe_rows(data))
        self.tensors = data.tensors(device, dtype_of(loss.params))
        self.size = len(data)
        dim = sum(v.numel() for v in loss.params.values())
        work = float(dim) * self.rows * data.tokens
        free = partition.free_memory(device)
        self.chunk = chunk or partition.chunk(16, work, device, 32 * dim, free, 0.5)

    def sums(self, candidates: list[Candidate]) -> tuple[np.ndarray, np.ndarray]:
        """`[candidate, example]` sums and `[example]` counts of the losses that count."""
        changed = [self._typed(c.params) for c in candidates]
        batched = len(changed) > 1 and self.chunk > 1
        stacked = {k: torch.stack([c[k] for c in changed]) for k in changed[0]} if batched else {}
        parts, counts = [], []
        for start in range(0, self.size, self.rows):
            batch = {k: v[start : start + self.rows] for k, v in self.tensors.items()}
            if batched:
                value = self._batched(stacked, batch)
            else:
                value = torch.stack(
                    [self.loss.evaluate({**self.loss.params, **c}, batch) for c in changed]
                )
            value = value.reshape(*value.shape[:2], -1).double()
            parts.append(value.nansum(-1).cpu().numpy())
            counts.append((~value[0].isnan()).sum(-1).cpu().numpy())
        return np.concatenate(parts, 1), np.concatenate(counts)

    def _typed(self, changed: Params) -> dict[str, torch.Tensor]:
        return {k: v.to(self.loss.params[k]) for k, v in changed.items()}

    def _batched(self, stacked: Params, batch) -> torch.Tensor:
        function = capabilities(self.loss).batched
        rest = {k: v for k, v in self.loss.params.items() if k not in stacked}
        with torch.no_grad():
            return vmap(lambda changed: function({**rest, **changed}, batch))(dict(stacked))


def _blocks(items, size: int):
    block = []
    for item in items:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def _level(sums: np.ndarray, settings: list, base: np.ndarray, counts: np.ndarray, pick: str):
    """One level from its candidates `[candidate, example]`: the best of them, or their mean.

    The gap is a ratio of sums; its variance over examples is that of `rise_i - gap counts_i`.
    """
    means = sums.sum(1) / counts.sum()
    finite = np.where(np.isfinite(means), means, np.inf)
    k = int(finite.argmin())
    of = sums[k] if pick == "best" else sums.mean(0)
    rise = of - base
    gap = rise.sum() / counts.sum()
    n = len(counts)
    spread = np.square(rise - gap * counts).sum() * (n / (n - 1) if n > 1 else np.nan)
    variance = spread / counts.sum() ** 2
    if pick == "mean":
        variance = variance + means.var(ddof=1) / len(means)
    return {
        "loss": of.sum() / counts.sum(),
        "gap": gap,
        "gap_stderr": np.sqrt(variance),
        "setting": settings[k] if pick == "best" else np.nan,
    }


def _dataset(maker, levels, tolerances, each, init_loss, size, data) -> xr.Dataset:
    found, interval = crossings(
        levels, each["gap"], each["gap_stderr"], tolerances, log=maker.log, between=maker.between
    )
    values: dict[str, Any] = {k: ((LEVEL,), v) for k, v in each.items()}
    values |= {
        names.INIT_LOSS: ((), float(init_loss)),
        "critical": ((TOLERANCE,), found),
        "interval": ((TOLERANCE, BOUND), interval),
    }
    if maker.name in ("quantize", "torchao"):
        for key, of in (("bits", found), ("bits_interval", interval)):
            bits = np.where(np.isfinite(of), np.log2(np.where(np.isfinite(of), of, 1.0)), of)
            values[key] = (values["critical" if key == "bits" else "interval"][0], bits)
    coords = {LEVEL: list(levels), TOLERANCE: tolerances, BOUND: ["lower", "upper"]}
    attrs = {
        "scheme": maker.name, "settings": repr(maker), "unit": maker.unit, "log": int(maker.log),
        "weights": size, "examples": len(data), "data": data.name,
        names.A_FORMULA: "the level where L(comp(w*)) - L(w*) first exceeds the tolerance",
        names.A_SOURCE: "Urdshals et al. 2025 (arXiv:2510.12077)",
        "uncertainty": "95 % over examples of this distribution, weights fixed",
    }  # fmt: skip
    return xr.Dataset(values, coords, attrs)
