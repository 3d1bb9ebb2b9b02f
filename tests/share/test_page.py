"""A page holds everything, each module once, and only what its widgets need."""

import json
import re
import subprocess
import sys

import anywidget
import pytest
import traitlets

from slt_notebook.errors import InputError
from slt_notebook.share import markdown, slim, vega
from slt_notebook.share.cells import console_text, outputs_html
from slt_notebook.share.page import widgets_page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Shared(anywidget.AnyWidget):
    _esm = "export default {} // shared"
    at = traitlets.Unicode("").tag(sync=True)


class Part(anywidget.AnyWidget):
    _esm = "export default {} // part"
    _css = ".part { color: red }"
    text = traitlets.Unicode("").tag(sync=True)
    data = traitlets.Bytes(b"").tag(sync=True)
    focus = anywidget.WidgetTrait().tag(sync=True)


def page_json(page):
    found = re.search(r'<script type="application/json" id="slt-page-data">(.*?)</script>', page)
    return json.loads(found[1])


def test_modules_once_buffers_in_and_strangers_out():
    shared, stranger = Shared(), Part(text="stranger")
    parts = [Part(text=str(k), data=bytes([k]), focus=shared) for k in range(3)]
    page = widgets_page([("markdown", "# Title"), *parts])
    data = page_json(page)
    assert set(data["models"]) == {shared.model_id, *(p.model_id for p in parts)}
    assert stranger.model_id not in page
    assert len(data["modules"]) == 2
    assert len(data["styles"]) == 1
    one = data["models"][parts[2].model_id]
    assert one["buffers"] == [{"path": ["data"], "data": "Ag=="}]
    assert one["state"]["focus"] == f"anywidget:{shared.model_id}"
    assert one["state"]["text"] == "2"
    assert "layout" not in one["state"]
    assert page.count("data-slt-model=") == 3
    assert "<title>Title</title>" in page


def test_no_text_breaks_out_of_the_page():
    page = widgets_page([Part(text=HOSTILE), ("markdown", f"text `{HOSTILE}`")], title=HOSTILE)
    scripts = re.findall(r"<script\b[^>]*>", page)
    assert scripts == [
        '<script type="application/json" id="slt-page-data">',
        '<script type="module">',
    ]
    assert "<img" not in page
    assert page_json(page)["models"].popitem()[1]["state"]["text"] == HOSTILE


def test_the_policy_names_the_only_script():
    page = widgets_page([("markdown", "# x")])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "connect-src" not in policy  # default-src forbids it
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


def test_half_a_surrogate_pair_does_not_stop_the_page():
    page = widgets_page([Part(text="\ud83d"), ("html", "<p>\ud83d</p>")])
    page.encode("utf-8")
    assert page_json(page)["models"].popitem()[1]["state"]["text"] == "\ud83d"


def test_a_part_of_another_kind_is_refused():
    with pytest.raises(InputError, match="int"):
        widgets_page([3])


def test_slim_keeps_what_is_shown_and_what_that_needs():
    states = {
        "a": {"state": {"focus": "anywidget:b", "x": ["IPY_MODEL_c", {"y": "IPY_MODEL_gone"}]}},
        "b": {"state": {"back": "IPY_MODEL_a"}},
        "c": {"state": {}},
        "d": {"state": {"text": "see IPY_MODEL_a"}},
    }
    view = {"output_type": "display_data", "data": {slim.VIEW_MIME: {"model_id": "a"}}}
    nb = {
        "cells": [{"outputs": [view, view]}],
        "metadata": {"widgets": {slim.STATE_MIME: {"state": states}}},
    }
    assert slim.shown_models(nb) == ["a"]
    assert slim.slim(nb) == 1
    assert set(slim.notebook_states(nb)) == {"a", "b", "c"}
    assert slim.slim({"cells": [], "metadata": {}}) == 0


def test_numbers_that_json_lacks_become_null():
    assert slim.embed_json({"a": [float("nan"), 1.5]}) == '{"a":[null,1.5]}'


def test_formulas_need_no_network():
    found = markdown.render(
        r"So $\hat\lambda = n\beta$ and" + "\n\n$$\\frac{1}{2}$$\n\n$\\undefined{$"
    )
    assert found.count("<math") >= 2
    assert 'display="block"' in found
    assert "mathjax" not in found.lower()


def test_a_formula_that_cannot_be_set_is_shown_as_source():
    assert r"\begin{nothing" in markdown.mathml(r"\begin{nothing")
    assert "<script" not in markdown.mathml(r"\text{<script>alert(1)</script>}")


def test_progress_ends_where_a_terminal_would():
    text = "  0%|   \r 50%|## \r100%|####\nnext\x1b[2K\x1b[31m!\x1b[0m"
    assert console_text(text) == "100%|####\nnext\x1b[31m!\x1b[0m"
    html = outputs_html(
        [{"output_type": "stream", "name": "stdout", "text": t} for t in ("a", "b<b>")], {}
    )
    assert html.count("<pre") == 1
    assert "ab&lt;b&gt;" in html


def test_a_widget_without_state_leaves_its_still_form():
    data = {slim.VIEW_MIME: {"model_id": "gone"}, "text/html": "<p>still</p>", "text/plain": "x"}
    html = outputs_html([{"output_type": "display_data", "data": data, "metadata": {}}], {})
    assert "<p>still</p>" in html
    assert "was not saved" in html
    assert "data-slt-model" not in html


def chart():
    import altair as alt
    import pandas as pd

    frame = pd.DataFrame({"x": [1, 2, 3], "y": [3, 1, 2], "c": ["<b>", "b", "b"]})
    encoding = {"x": "x", "y": "y", "color": "c", "tooltip": ["x", "y"]}
    return alt.Chart(frame).mark_point().encode(**encoding)


@pytest.mark.parametrize("form", ["mime", "html"])
def test_a_chart_becomes_a_picture_and_a_table(form):
    spec = chart().to_dict()
    data = {"application/vnd.vegalite.v6.4.1+json": spec}
    if form == "html":
        data = chart()._repr_mimebundle_()
        data = data[0] if isinstance(data, tuple) else data
        assert set(data) == {"text/html"}
    found = vega.find_spec(data)
    assert found["encoding"] == spec["encoding"]
    html = outputs_html([{"output_type": "display_data", "data": data, "metadata": {}}], {})
    assert "<svg" in html
    assert html.count("<title>") >= 3
    assert "<td>3</td>" in html
    assert 'download="chart.csv"' in html
    assert "<b>" not in html
    assert "cdn" not in html
    assert "<script" not in html


def test_what_is_no_chart_is_left_alone():
    assert vega.find_spec({"text/html": "<p>vegaEmbed</p> })({broken"}) is None
    assert "could not be drawn" in vega.chart_html({"mark": 3, "$schema": "v6"})


def test_sharing_does_not_import_torch():
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "import slt_notebook.share.page, slt_notebook.share.exporter\n"
        "import slt_notebook.views.charts.traces, slt_notebook.views.monitor\n"
        "import slt_notebook.views.card, slt_notebook.views.charts.altair_charts"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
