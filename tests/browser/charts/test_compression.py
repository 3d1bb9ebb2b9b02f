"""These views compute in the page what Python computes, by pointer and keyboard."""

import re

import numpy as np
import pytest

from slt_notebook.share.page import widgets_page
from slt_notebook.views.charts.compression import CompressionView
from slt_notebook.views.charts.odds import OddsView
from slt_notebook.views.charts.transience import TransienceView
from tests.browser.offline import opened, states
from tests.views.charts.test_compression import series
from tests.views.charts.test_transience import runs

pytestmark = pytest.mark.browser


def page_of(views, folder):
    path = folder / "page.html"
    path.write_text(widgets_page(views), encoding="utf-8")
    return path


def noisy():
    """A series whose points do not lie on a line."""
    one = series(8)
    shift = np.random.default_rng(1).normal(0, 2, 8)
    return one.assign(llc=one.llc + shift)


def shown(page) -> dict[str, tuple[str, str]]:
    """Predictor -> (R^2, Spearman) of the table in the page."""
    out = {}
    for row in page.locator(".compression .panel table tbody tr").all():
        cells = [c.strip() for c in row.locator("td").all_inner_texts()]
        out[row.locator("th").inner_text()] = (cells[0], cells[2])
    return out


def number(x):
    return f"{x:.3g}".replace("-", "\N{MINUS SIGN}")


def test_the_fit_in_the_page_is_pythons_and_follows_the_tolerance(browser, tmp_path):
    data = noisy()
    path = page_of([CompressionView(data, tolerance=0.1)], tmp_path)
    with opened(browser, path) as page:
        assert states(page) == ["live"]
        handle = page.locator("[role=slider]")
        for press in (None, "ArrowUp", "Shift+ArrowUp", "ArrowDown"):
            if press:
                handle.press(press)
            tolerance = float(handle.get_attribute("aria-valuenow"))
            fit = CompressionView(data, tolerance=tolerance).fit()
            found = shown(page)
            for name, row in fit.iterrows():
                assert found[name] == (number(row.r2), number(row.spearman))
        assert tolerance != 0.1
        assert page.locator(".compression .cp path.curve").count() == 8
        assert number(fit.loc["LLC"].r2) in page.locator(".compression .answer").inner_text()


def test_the_tolerance_is_dragged(browser, tmp_path):
    with opened(browser, page_of([CompressionView(noisy())], tmp_path)) as page:
        handle = page.locator("[role=slider]")
        box = handle.locator(".grip").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x, y + 30, steps=4)
        page.mouse.up()
        after = float(handle.get_attribute("aria-valuenow"))
        assert after < 0.09
        found = shown(page)["LLC"][0]
        assert found == number(CompressionView(noisy(), tolerance=after).fit().loc["LLC"].r2)


def test_another_scheme_and_a_checkpoint_in_every_panel(browser, tmp_path):
    with opened(
        browser, page_of([CompressionView({"a": noisy(), "b": series()})], tmp_path)
    ) as page:
        page.get_by_label("Compression", exact=True).select_option("1")
        assert "share" in page.locator(".compression .panels").inner_text()
        page.get_by_label("Model", exact=True).select_option("1")
        assert page.locator(".compression .cp path.curve").count() == 6
        page.get_by_label("Compression", exact=True).select_option("0")
        page.locator(".compression circle").last.click()
        assert page.locator(".compression .cp.on").count() == 3
        assert re.search(r"Step \d+:", page.locator(".compression .foot").inner_text())
        page.get_by_role("button", name="Table").click()
        assert page.locator(".compression table").count() == 2


def test_one_step_moves_a_dot_on_every_run_and_diversities_are_chosen(browser, tmp_path):
    with opened(browser, page_of([TransienceView(runs())], tmp_path)) as page:
        assert states(page) == ["live"]
        assert page.locator(".transience .now").count() == 3 + 3 + 2
        slider = page.get_by_label("Checkpoint", exact=True)
        before = page.locator(".transience .now").first.get_attribute("cx")
        slider.focus()
        slider.press("ArrowLeft")
        slider.press("ArrowLeft")
        assert page.locator(".transience output").inner_text() == "step 300"
        assert page.locator(".transience .now").first.get_attribute("cx") != before
        assert "M = 16, step 300" in page.locator(".transience .panels").inner_text()
        page.get_by_role("button", name="M = 4").click()
        assert page.locator(".transience .now").count() == 2 + 2 + 1
        page.locator(".transience g.run.k2 circle.now").first.click()
        assert "M = ∞: lowest loss" in page.locator(".transience .foot").inner_text()
        page.get_by_label("Seed").select_option("1")
        assert page.get_by_role("button", name="M = 16").is_disabled()


def test_the_rise_is_said(browser, tmp_path):
    with opened(browser, page_of([TransienceView(runs())], tmp_path)) as page:
        text = page.locator(".transience .foot").inner_text()
        assert "2 at step 100" in text and "+50 %" in text


def test_the_crossover_follows_the_sliders(browser, tmp_path):
    with opened(browser, page_of([OddsView((0.3, 0.5), (20, 2))], tmp_path)) as page:
        assert "crossover at n = 571.3" in page.locator(".odds .answer").inner_text()
        slider = page.get_by_label("loss of V (nats)")
        slider.focus()
        for _ in range(3):
            slider.press("PageDown")
        text = page.locator(".odds .answer").inner_text()
        assert "571.3" not in text
        slider.press("Home")
        assert "no crossover" in page.locator(".odds .answer").inner_text()
