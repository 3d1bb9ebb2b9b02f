"""The view that fits what is given: `slt.view(x)`.

Datasets say what they are (`attrs["slt_kind"]`), and one table says which view shows each kind.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, nearest, say
from slt_notebook.results.result import resolve
from slt_notebook.views.base.linking import Focus, link
from slt_notebook.views.base.widget import View
from slt_notebook.views.notes.notes import Notes, notes
from slt_notebook.views.old_kinds import infer_kind


class Kind(NamedTuple):
    """How data of a kind are shown.

    Attributes:
        shown_by: a view, or a function that returns one.  By name, so that only the module that is
            needed is imported.
        needs: variables and dims without which data are of this kind no longer: operations of
            xarray keep the declaration on what they leave.
    """

    shown_by: str
    needs: tuple[str, ...]


VIEWS: Mapping[str, Kind] = {
    "calibration": Kind("charts.calibration:CalibrationView", ("verdict", "trusted", "trace")),
    "clusters": Kind("text.cluster_browser:ClusterBrowser", ("cluster", "size", "conductance")),
    "compression": Kind("charts.compression:CompressionView", ("knob", "gap", "gap_stderr")),
    "embedding": Kind("maps.embedding:EmbeddingMap", ("axis",)),
    "llc": Kind("charts.altair_charts:llc_chart", ("mean", "interval")),
    "probe": Kind("text.influence_explorer:InfluenceExplorer", (names.LOSS, names.DRAW)),
    "refined_llc": Kind("over_components:refined_llc_view", ("llc", "mcse", "interval")),
    "refined_llc_by_token": Kind("over_components:tokens_view", ("llc", "stderr")),
    "sampler_benchmark": Kind(
        "charts.sampler_benchmark:SamplerBenchmark", ("estimate", "mcse", "truth", "certified")
    ),
    "sampling": Kind("charts.traces:TraceView", (names.LOSS, names.STEP)),
    "susceptibility": Kind("over_components:tokens_view", ("chi", "stderr")),
    "transience": Kind("charts.transience:TransienceView", ("ood", "to_dmmse", "to_ridge")),
}
"""Kind of a Dataset or DataArray -> what shows it."""
_TOKENS = "text.token_strip:TokenStrip"  # shows whatever is one number a token


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
    """Return the view that fits what is given.

    | given | shown |
    |---|---|
    | a run (handle, tree, path) | `Views`: traces, and for its probes a strip and the explorer |
    | what `slt.calibrate` returns | `CalibrationView` |
    | data of a kind in `VIEWS` | the view of that kind |
    | an array `(example, token)` or `(token,)`, a Dataset of such | `TokenStrip` |

    The kinds are: a probe (`InfluenceExplorer`), a group `sampling` (`TraceView`), the evidence of
    a calibration (`CalibrationView`), what `slt.benchmarks.run` returns (`SamplerBenchmark`), and
    the results of `slt.llc` (a chart), `slt.refined_llc`, `slt.susceptibility`, `slt.clusters`
    (`ClusterBrowser`), `slt.embed` (`EmbeddingMap`) and `slt.compression_series`
    (`CompressionView`).

    Args:
        x: What to show.
        options: Go to the view; of a run: `focus`, `notes`, `normalize`, `query`, `train`.

    Returns:
        A view, a chart, or `Views`: views that share one Focus and one set of notes.

    Raises:
        InputError: Nothing fits, or an unknown option.
    """
    if isinstance(x, xr.DataArray | xr.Dataset):
        return _show(kind_of(x), x, options)
    if isinstance(x, View):
        return x
    if isinstance(getattr(x, "evidence", None), xr.Dataset):
        return _show("calibration", x, options)
    return _run(x, options)


def kind_of(data: xr.Dataset | xr.DataArray) -> str:
    """Return the declared kind of `data` where it fits, else what its variables tell, or ""."""
    declared = str(data.attrs.get(names.A_KIND, ""))
    known = {*data.dims, *data.coords}
    if isinstance(data, xr.Dataset):
        known |= set(data.data_vars)
    if declared in VIEWS and known.issuperset(VIEWS[declared].needs):
        return declared
    return infer_kind(data) if isinstance(data, xr.Dataset) else ""


def maker(kind: str) -> Any:
    """Return what shows data of this kind: the view's class, or a function."""
    module, name = (VIEWS[kind].shown_by if kind in VIEWS else _TOKENS).split(":")
    return getattr(import_module(f"slt_notebook.views.{module}"), name)


def _show(kind: str, data: Any, options: dict) -> Any:
    return maker(kind)(data, **options)


_RUN_OPTIONS = ("focus", "notes", "normalize", "query", "train")


def _run(x: Any, options: dict) -> Views:
    wrong = next((k for k in options if k not in _RUN_OPTIONS), None)
    if wrong is not None:
        known = ", ".join(_RUN_OPTIONS)
        raise InputError(
            say(f"option {wrong!r}{nearest(wrong, _RUN_OPTIONS)}", known, "rename or drop it")
        )
    result = resolve(x)
    focus = options.get("focus") or Focus()
    shared = options.get("notes") or notes(result)
    explorer, strip, traces = maker("probe"), maker(""), maker("sampling")
    views: list[View] = [traces(result, focus=focus)]
    probes = result.probe_names
    textual = [p for p in probes if names.TOKEN in result.probe(p)[names.LOSS].dims]
    views += [strip(result, probe=p, focus=focus, notes=shared) for p in textual]
    if probes:
        rest = {k: options[k] for k in ("normalize", "query", "train") if k in options}
        views.append(explorer(result, focus=focus, notes=shared, **rest))
    return Views(views, focus, shared)
