"""Which view fits what was given?  `slt.view(x)`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.results.result import resolve
from slt_notebook.views.base.linking import Focus, link
from slt_notebook.views.base.widget import View
from slt_notebook.views.charts.calibration import CalibrationView, is_evidence
from slt_notebook.views.charts.sampler_benchmark import SamplerBenchmark, is_benchmark
from slt_notebook.views.notes.notes import Notes, notes
from slt_notebook.views.text.cluster_browser import ClusterBrowser
from slt_notebook.views.text.influence_explorer import InfluenceExplorer
from slt_notebook.views.text.token_strip import TokenStrip


class Views:
    """Linked views, shown one under the other; an ordinary sequence besides.

    `views[0]`, `len(views)`, iteration; `views.focus` and `views.notes` are what they share.
    (Not an `ipywidgets.VBox`: containers do not work in every host, nor without a kernel.)
    """

    def __init__(self, views: list[View], focus: Focus | None = None, notes: Notes | None = None):
        self._views = tuple(views)
        self.focus = link(*views, focus=focus)
        self.notes = notes

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[View]:
        return iter(self._views)

    def __getitem__(self, index: int) -> View:
        return self._views[index]

    def __repr__(self) -> str:
        return "\n".join(view.describe() for view in self._views)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for view in self._views:
            display(view)

    def save_html(self, path: str | Path) -> Path:
        """Write all of them as one HTML file that works with no network and no Python."""
        from slt_notebook.share.page import widgets_page

        path = Path(path)
        path.write_text(widgets_page(list(self._views)), encoding="utf-8")
        return path


def view(x: Any, **options: Any) -> Any:
    """The view that fits what is given.

    | given | shown |
    |---|---|
    | a run (handle, tree, path) | `Views`: traces, and for its probes a strip and the explorer |
    | a probe Dataset | `InfluenceExplorer` |
    | a DataArray `(example, token)` or `(token,)`, a Dataset of such | `TokenStrip` |
    | what `slt.calibrate` returns, or its evidence | `CalibrationView` |
    | what `slt.benchmarks.run` returns | `SamplerBenchmark` |
    | what `slt.clusters` returns | `ClusterBrowser` |
    | what `slt.llc` returns | a chart of the LLC with its interval |

    Args:
        options: go to the view; of a run: `focus`, `notes`, `normalize`, `query`, `train`.

    Returns:
        A view, a chart, or `Views`: views that share one Focus and one set of notes.

    Raises:
        InputError: Nothing fits, or an unknown option.
    """
    if isinstance(x, xr.DataArray):
        return TokenStrip(x, **options)
    if isinstance(x, xr.Dataset):
        return _dataset(x, options)
    if isinstance(x, View):
        return x
    if isinstance(getattr(x, "evidence", None), xr.Dataset):
        return CalibrationView(x, **options)
    return _run(x, options)


def _dataset(x: xr.Dataset, options: dict) -> Any:
    if {"cluster", "size", "conductance"} <= set(x.data_vars):
        return ClusterBrowser(x, **options)
    if is_benchmark(x):
        return SamplerBenchmark(x, **options)
    if is_evidence(x):
        return CalibrationView(x, **options)
    if names.LOSS in x and {names.CHAIN, names.DRAW, names.EXAMPLE} <= set(x[names.LOSS].dims):
        return InfluenceExplorer(x, **options)
    if {"mean", "interval"} <= set(x.data_vars):
        from slt_notebook.views.charts.altair_charts import llc_chart

        return llc_chart(x, **options)
    if names.LOSS in x and names.STEP in x[names.LOSS].dims:
        from slt_notebook.views.charts.traces import TraceView

        return TraceView(x, **options)
    return TokenStrip(x, **options)


_RUN_OPTIONS = ("focus", "notes", "normalize", "query", "train")


def _run(x: Any, options: dict) -> Views:
    from slt_notebook.views.charts.traces import TraceView

    wrong = next((k for k in options if k not in _RUN_OPTIONS), None)
    if wrong is not None:
        known = ", ".join(_RUN_OPTIONS)
        raise InputError(
            say(f"option {wrong!r}{nearest(wrong, _RUN_OPTIONS)}", known, "rename or drop it")
        )
    result = resolve(x)
    focus = options.get("focus") or Focus()
    shared = options.get("notes") or notes(result)
    views: list[View] = [TraceView(result, focus=focus)]
    probes = result.probe_names
    textual = [p for p in probes if names.TOKEN in result.probe(p)[names.LOSS].dims]
    views += [TokenStrip(result, probe=p, focus=focus, notes=shared) for p in textual]
    if probes:
        rest = {k: options[k] for k in ("normalize", "query", "train") if k in options}
        views.append(InfluenceExplorer(result, focus=focus, notes=shared, **rest))
    return Views(views, focus, shared)
