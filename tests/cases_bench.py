"""Small calibrations and benchmarks with known features, for tests of their views."""

import numpy as np
import xarray as xr


def evidence(chosen=True) -> xr.Dataset:
    """Evidence of a calibration; the largest step is never trusted."""
    rng = np.random.default_rng(0)
    shape = (2, 2, 3)
    dims = ("gamma", "nbeta", "share")
    numbers = (
        "step_size", "llc", "mcse", "ess", "rhat", "drift", "virial", "acceptance", "rho_loc",
        "rho_loc_error", "halved", "halved_error",
    )  # fmt: skip
    data = {name: (dims, rng.uniform(0.1, 0.9, shape)) for name in numbers}
    data["llc"] = (dims, 10 + np.arange(12.0).reshape(shape))
    data["llc"][1][0, 0, 2] = np.nan
    verdict = np.full(shape, "trusted", dtype=object)
    verdict[:, :, 0] = "reference for next step"
    verdict[:, :, 2] = "depends on the step size"
    verdict[0, 0, 2] = "unstable"
    data["verdict"] = (dims, verdict.astype(str))
    data["trusted"] = (dims, verdict == "trusted")
    data["trace"] = ((*dims, "chain", "block"), rng.normal(10, 1, (*shape, 2, 40)))
    coords = {"gamma": [3.0, 30.0], "nbeta": [100.0, 1000.0], "share": [0.25, 0.5, 1.0]}
    attrs = {"steps": 400, "reason": "because <b>half</b> the step agrees"}
    if chosen:
        attrs |= {"chosen_gamma": 3.0, "chosen_nbeta": 1000.0, "chosen_share": 0.5}
    return xr.Dataset(data, coords, attrs)


def benchmark(problems=10) -> xr.Dataset:
    """Two samplers, five steps; SGLD is right at 1e-7 and not finite at 1e-6."""
    steps = np.array([1e-8, 3e-8, 1e-7, 3e-7, 1e-6])
    truth = 10.0 * np.arange(1, problems + 1)
    off = np.abs(np.log10(steps) + 7) / 2
    estimate = np.stack([np.outer(1 + off, truth), np.outer(1.1 + off, truth)])
    estimate[0, -1] = np.nan
    dims = ("sampler", "step_size", "problem")
    return xr.Dataset(
        {"estimate": (dims, estimate), "mcse": (dims, 0.01 * np.nan_to_num(estimate))},
        {
            "sampler": ["SGLD", "SGHMC"], "step_size": steps,
            "problem": [f"net <{k}>" for k in range(problems)], "truth": ("problem", truth),
            "certified": ("problem", np.arange(problems) % 2 == 0),
            "parameters": ("problem", np.arange(problems) + 100),
            "size": ("problem", ["1k"] * (problems // 2) + ["10k"] * (problems - problems // 2)),
        },
        {"steps": 1000, "burnin": 500},
    )  # fmt: skip
