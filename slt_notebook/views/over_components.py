"""Views of estimates over components, by the dims that an estimate has."""

from typing import Any

import xarray as xr

from slt_notebook import names
from slt_notebook.views.base.widget import View
from slt_notebook.views.charts.stage_curves import StageCurves
from slt_notebook.views.maps.component_grid import ComponentGrid, component_strip
from slt_notebook.views.text.token_strip import TokenStrip


def refined_llc_view(found: xr.Dataset, **options: Any) -> View:
    """Return `StageCurves` of refined LLCs over training, or a `ComponentGrid` of one checkpoint.

    Args:
        found: What `slt.refined_llc` returns.
        options: Of the view.
    """
    if names.TRAINING_STEP in found.coords and found.sizes.get(names.CHECKPOINT_DIM, 1) > 1:
        return StageCurves(found, **options)
    return ComponentGrid(found, **options)


def tokens_view(found: xr.Dataset, **options: Any) -> View:
    """Return the tokens of an estimate in their text, with a picker of components.

    Args:
        found: What `slt.susceptibility` or `slt.refined_llc(probe=...)` returns, or one component
            of it.
        options: Of `TokenStrip`.
    """
    if names.COMPONENT in found.dims:
        return component_strip(found, **options)
    return TokenStrip(found, **options)
