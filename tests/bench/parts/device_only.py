"""What only a device shows: how long it idles in a run, and what probes in bf16 change."""

import inspect
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

import slt_notebook as slt
from slt_notebook import names
from tests.bench.parts.models import Work
from tests.bench.parts.rounds import Side


def idle(side: Side, draws: int) -> dict:
    """Share of the wall between the first and the last kernel in which no kernel ran.

    Kernels that overlap are counted once; copies between host and device are no kernels.
    """
    from torch.profiler import ProfilerActivity, profile

    with tempfile.TemporaryDirectory() as folder:
        side(2, Path(folder) / "warm")
        torch.cuda.synchronize()
        began = time.perf_counter()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            side(draws, Path(folder) / "run")
            torch.cuda.synchronize()
        wall = time.perf_counter() - began
    kernels = [
        (event.time_range.start, event.time_range.end)
        for event in seen.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not event.name.lower().startswith(("memcpy", "memset"))
    ]
    if not kernels:
        return {"left_out": "the profiler saw no kernel"}
    busy = union(kernels)
    span = max(end for _, end in kernels) - min(start for start, _ in kernels)
    return {
        "draws": draws, "kernels": len(kernels), "busy_s": busy / 1e6, "span_s": span / 1e6,
        "wall_s": wall, "idle_share": 1 - busy / span,
    }  # fmt: skip


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of what the intervals cover together."""
    total, reach = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reach))
        reach = max(reach, end)
    return total


def precision(work: Work, draws: int) -> dict:
    """Probe losses of one run with the probe's forward pass in bf16, against float32.

    Chains do not see the probe, so both runs stand at the same positions and every difference is
    that of the losses.  Influence: how far entries move, in units of their own standard error.
    """
    if "probe_dtype" not in inspect.signature(slt.sample).parameters:
        return {"left_out": "this version of slt.sample has no probe_dtype"}
    found = {}
    for name, dtype in (("float32", "float32"), ("bf16", "bfloat16")):
        with tempfile.TemporaryDirectory() as folder:
            run = slt.sample(
                slt.causal_lm(work.model), slt.token_probe("data", work.data),
                probes=[slt.token_probe("probe", work.probe[:8])],
                kernel=slt.SGLD(work.size.step), nbeta=30.0, gamma=300.0, chains=4, draws=draws,
                batch_size=work.size.batch, store=Path(folder) / "run.zarr", device=work.device,
                probe_dtype=dtype, progress=False,
            )  # fmt: skip
            losses = run.tree[f"{names.PROBE}/probe"].to_dataset()[names.LOSS].load()
            llc = slt.llc(run.tree)
            influence = slt.influence(run.tree, query="probe", train="probe").load()
            found[name] = (losses, float(llc["mean"]), float(llc["mcse"]), influence)
    (a, llc_a, mcse, bif_a), (b, llc_b, _, bif_b) = found["float32"], found["bf16"]
    out = {
        "size": work.name, "draws": draws, "rms_nat": float(np.sqrt(((a - b) ** 2).mean())),
        "llc_change": abs(llc_a - llc_b), "llc_mcse": mcse,
    }  # fmt: skip
    moved, error = abs(bif_a["influence"] - bif_b["influence"]), bif_a["stderr"]
    out["influence_rms_change"] = float(np.sqrt((moved**2).mean()))
    out["influence_change_over_error"] = float((moved / error).where(error > 0).median())
    return out
