"""The kind of a Dataset that was made before Datasets declared one.

Compatibility only: what the kit makes now carries `attrs["slt_kind"]`, and a new kind needs no rule
here.
"""

import xarray as xr

from slt_notebook import names
from slt_notebook.views.charts.calibration import is_evidence
from slt_notebook.views.charts.sampler_benchmark import is_benchmark


def infer_kind(data: xr.Dataset) -> str:
    """Return the kind that the variables and dims of `data` tell, or "" for none that is known."""
    variables, dims = set(data.data_vars), set(data.dims)
    loss = set(data[names.LOSS].dims) if names.LOSS in data else set()
    if {"cluster", "size", "conductance"} <= variables:
        return "clusters"
    if is_benchmark(data):
        return "sampler_benchmark"
    if is_evidence(data):
        return "calibration"
    if {names.CHAIN, names.DRAW, names.EXAMPLE} <= loss:
        return "probe"
    if {"mean", "interval"} <= variables:
        return "llc"
    if {"knob", "gap", "gap_stderr"} <= variables:
        return "compression"
    if {"ood", "to_dmmse", "to_ridge"} <= variables:
        return "transience"
    if names.STEP in loss:
        return "sampling"
    if names.COMPONENT in dims and {"llc", "mcse", "interval"} <= variables:
        return "refined_llc"
    by_token = {names.COMPONENT, names.EXAMPLE, names.TOKEN} <= dims and "stderr" in variables
    if by_token and "chi" in variables:
        return "susceptibility"
    if by_token and "llc" in variables:
        return "refined_llc_by_token"
    return ""
