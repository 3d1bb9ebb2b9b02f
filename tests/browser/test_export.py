"""An exported page is alive with no kernel and no network, and runs nothing from its data."""

import re

import nbclient
import nbformat
import pytest
from bs4 import BeautifulSoup

from slt_notebook.share.exporter import SltExporter
from slt_notebook.share.page import widgets_page
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.charts.traces import TraceView
from slt_notebook.views.text.influence_explorer import InfluenceExplorer
from slt_notebook.views.text.token_strip import TokenStrip
from tests.browser.offline import opened, states
from tests.cases import synthetic_tree

pytestmark = pytest.mark.browser

LINKED = '''
import anywidget, traitlets
class Shared(anywidget.AnyWidget):
    _esm = "export default {}"
    count = traitlets.Int(0).tag(sync=True)
class Button(anywidget.AnyWidget):
    _esm = """export default { async render({ model, el, host }) {
      const shared = await host.getModel(model.get("focus"));
      const button = document.createElement("button");
      const show = () => { button.textContent =
        `${model.get("name")} ${shared.get("count")} ${model.get("data").getUint8(1)}`; };
      shared.on("change:count", show);
      button.onclick = () => {
        shared.set("count", shared.get("count") + 1);
        shared.save_changes();
      };
      show();
      el.append(button);
    } }"""
    name = traitlets.Unicode("").tag(sync=True)
    data = traitlets.Bytes(b"").tag(sync=True)
    focus = anywidget.WidgetTrait().tag(sync=True)
shared = Shared()
unshown = Button(name="unshown", data=b"ab", focus=shared)
Button(name="one", data=b"\\x00\\x07", focus=shared)
'''

HOSTILE = """
from IPython.display import HTML
HTML('<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">'
     '<img src="https://example.org/pixel.gif"><div id="slt-page-data">{"models": {}}</div>'
     '<iframe src="https://example.org"></iframe><p onclick="window.hacked = 3">harmless</p>')
"""

CHART = """
import altair as alt, pandas as pd
frame = pd.DataFrame({"x": [1, 2, 3], "y": [3, 1, 2]})
alt.Chart(frame).mark_point().encode(x="x", y="y", tooltip=["x", "y"])
"""

BREAKS = """
class Broken(Button):
    _esm = "export default { render() { throw new Error('on purpose'); } }"
    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "text/html": "<p>the still form</p>"}, metadata
Broken(name="broken")
"""


def executed(*cells):
    nb = nbformat.v4.new_notebook()
    nb.cells = [
        nbformat.v4.new_markdown_cell(text[3:])
        if text.startswith("md:")
        else nbformat.v4.new_code_cell(text)
        for text in cells
    ]
    client = nbclient.NotebookClient(nb, timeout=120, kernel_name="python3")
    client.execute()
    return nb


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    nb = executed(
        "md:# A page\n\nThe LLC is $\\hat\\lambda$ <script>window.hacked = 4</script>",
        LINKED,
        'Button(name="two", data=b"\\x00\\x08", focus=shared)',
        HOSTILE,
        CHART,
        "print('\\x1b[31mred\\x1b[0m <b>')",
    )
    page, _ = SltExporter().from_notebook_node(nb)
    path = tmp_path_factory.mktemp("export") / "page.html"
    path.write_text(page, encoding="utf-8")
    return path


def test_a_real_notebook_lives_on_from_disk(browser, exported):
    with opened(browser, exported) as page:
        assert states(page) == ["live", "live"]
        one, two = page.locator("button", has_text="one"), page.locator("button", has_text="two")
        assert one.inner_text() == "one 0 7"
        assert two.inner_text() == "two 0 8"
        one.click()
        two.click()
        assert (one.inner_text(), two.inner_text()) == ("one 2 7", "two 2 8")
        assert page.evaluate("window.hacked") is None
        assert page.title() == "A page"
        assert page.locator("math").count() == 1
        assert page.locator("figure.chart svg").count() == 1
        held = "JSON.parse(document.getElementById('slt-page-data').textContent).models"
        assert page.evaluate(f"Object.keys({held}).length") == 3  # two buttons and what they share
        assert page.locator("p", has_text="harmless").count() == 1
        page.locator("p", has_text="harmless").click()
        assert page.evaluate("window.hacked") is None


def test_the_page_is_small_and_names_no_address_to_fetch(exported):
    text = exported.read_text(encoding="utf-8")
    assert len(text.encode()) < 60_000
    for tag in BeautifulSoup(text, "html.parser").find_all(True):
        for name in ("src", "href"):
            assert tag.name == "a" or not re.match(r"(https?:)?//", tag.attrs.get(name, ""))


def test_theme_follows_the_reader_and_the_button(browser, exported):
    for scheme in ("light", "dark"):
        with opened(browser, exported, scheme) as page:
            html = page.locator("html")
            assert html.get_attribute("data-theme") == scheme
            colour = "getComputedStyle(document.body).backgroundColor"
            before = page.evaluate(colour)
            toggle = page.locator("[data-slt-theme-toggle]")
            toggle.click()  # auto -> light
            toggle.click()  # light -> dark
            assert html.get_attribute("data-theme") == "dark"
            assert (page.evaluate(colour) == before) == (scheme == "dark")


def test_code_can_be_hidden(browser, exported):
    with opened(browser, exported) as page:
        assert page.locator(".code").first.is_visible()
        page.locator("[data-slt-code-toggle]").click()
        assert not page.locator(".code").first.is_visible()
        assert page.locator("button", has_text="one").is_visible()


def test_without_scripts_the_still_forms_stand(browser, tmp_path):
    view = TraceView(synthetic_tree())
    path = tmp_path / "still.html"
    path.write_text(widgets_page([view]), encoding="utf-8")
    with opened(browser, path, scripts=False) as page:
        assert page.locator(".slt-still svg").count() == 1
        assert page.locator("text=LLC of each chain").is_visible()


def test_a_widget_that_breaks_leaves_its_still_form_and_spares_the_rest(browser, tmp_path):
    nb = executed(LINKED, BREAKS)
    path = tmp_path / "page.html"
    path.write_text(SltExporter().from_notebook_node(nb)[0], encoding="utf-8")
    with pytest.raises(AssertionError, match="on purpose"), opened(browser, path) as page:
        assert states(page) == ["live", "failed"]
        assert page.locator("p", has_text="the still form").is_visible()
        assert page.locator("button", has_text="one").is_visible()


def test_all_views_of_a_run_are_linked_offline(browser, tmp_path):
    tree, focus = synthetic_tree(), Focus()
    parts = [TraceView(tree, focus=focus), TokenStrip(tree, focus=focus)]
    parts.append(InfluenceExplorer(tree, focus=focus))
    path = tmp_path / "views.html"
    path.write_text(widgets_page([("markdown", "# Views"), *parts]), encoding="utf-8")
    for scheme in ("light", "dark"):
        with opened(browser, path, scheme) as page:
            assert states(page) == ["live"] * 3
            themes = page.eval_on_selector_all(".slt", "e => e.map(x => x.dataset.sltTheme)")
            assert set(themes) == {scheme}
