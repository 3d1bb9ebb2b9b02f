"""TraceView computes in the page what Python computes, by pointer and by keyboard."""

import re

import numpy as np
import pytest

from slt_notebook import names
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.share.page import widgets_page
from slt_notebook.views.charts.traces import TraceView
from tests.browser.offline import opened, states
from tests.cases import synthetic_tree
from tests.views.charts.test_traces import with_divergence

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tree():
    return synthetic_tree(draws=200, burnin=60)


@pytest.fixture(scope="module")
def path(tree, tmp_path_factory):
    found = tmp_path_factory.mktemp("traces") / "page.html"
    found.write_text(widgets_page([TraceView(tree)]), encoding="utf-8")
    return found


def said(page) -> tuple[float, str]:
    text = page.locator(".traces .answer").inner_text()
    return float(re.search(r"LLC ([\d.]+)", text)[1]), text


def test_it_says_what_llc_says(browser, path, tree):
    with opened(browser, path) as page:
        assert states(page) == ["live"]
        value, text = said(page)
        found = llc(tree)
        assert value == float(f"{float(found['mean']):.3g}")
        low, high = (f"{float(b):.3g}" for b in found["interval"])
        assert f"95 % interval {low} to {high}" in text
        assert page.locator(".traces .trace").count() == 4
        assert page.locator(".traces .badges details").count() >= 8


def test_the_burnin_is_dragged_and_the_llc_follows(browser, path, tree):
    with opened(browser, path) as page:
        handle = page.locator("[role=slider]")
        box = handle.locator(".grip").bounding_box()
        plot = page.locator(".traces svg.chart").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 20, y, steps=3)
        page.mouse.move(plot["x"] + 62, y, steps=4)
        page.mouse.up()
        assert handle.get_attribute("aria-valuenow") == "0"
        value, text = said(page)
        # No burn-in: the rise from w* enters, as in Python.
        assert value == float(f"{float(llc(tree, burnin=0)['mean']):.3g}")
        assert "batch means" in text
        assert value < float(llc(tree)["mean"])


def test_the_keyboard_does_it_too(browser, path, tree):
    with opened(browser, path) as page:
        handle = page.locator("[role=slider]")
        handle.focus()
        page.keyboard.press("ArrowRight")
        assert handle.get_attribute("aria-valuenow") == "61"
        page.keyboard.press("Shift+ArrowRight")
        assert page.evaluate("document.activeElement.getAttribute('aria-valuenow')") == "71"
        page.keyboard.press("Home")
        assert handle.get_attribute("aria-valuenow") == "0"
        page.keyboard.press("End")
        assert int(handle.get_attribute("aria-valuenow")) >= 455


def test_a_chain_is_switched_off(browser, path, tree):
    with opened(browser, path) as page:
        button = page.locator(".traces .chains button").nth(2)
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        assert page.locator(".traces .trace").count() == 3
        value, text = said(page)
        used = tree[names.SAMPLING].to_dataset().isel({names.CHAIN: [0, 1, 3]})
        assert value == float(f"{float(llc(used)['mean']):.3g}")
        assert "3 of 4 chains" in text


def test_a_window_is_measured_and_cleared(browser, path, tree):
    with opened(browser, path) as page:
        plot = page.locator(".traces svg.chart").bounding_box()
        y = plot["y"] + 120
        page.mouse.move(plot["x"] + plot["width"] * 0.5, y)
        page.mouse.down()
        page.mouse.move(plot["x"] + plot["width"] * 0.8, y, steps=5)
        page.mouse.up()
        text = page.locator(".traces .foot").inner_text()
        first, last, value = re.search(r"steps (\d+) to (\d+), LLC ([\d.]+)", text).groups()
        data = tree[names.SAMPLING].to_dataset()
        rise = (data["loss"] - data["init_loss"]).values[:, int(first) : int(last) + 1]
        assert abs(float(value) - 30 * rise.mean(dtype=float)) < 0.006  # three digits shown
        page.locator("[role=slider]").focus()
        page.keyboard.press("Escape")
        assert "Window" not in page.locator(".traces .foot").inner_text()


def test_hover_and_table_and_badges(browser, path):
    with opened(browser, path) as page:
        plot = page.locator(".traces svg.chart").bounding_box()
        page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + 80)
        assert "chain 3:" in page.locator(".traces .tip").inner_text()
        page.get_by_role("button", name="Table").click()
        assert page.locator(".traces table tbody tr").count() == 4
        badge = page.locator(".traces .badges details", has_text="R-hat").first
        badge.locator("summary").click()
        assert badge.locator("p").first.is_visible()


def test_a_diverged_chain_shows_its_end(browser, tmp_path):
    tree = with_divergence(synthetic_tree())
    found = tmp_path / "page.html"
    found.write_text(widgets_page([TraceView(tree)]), encoding="utf-8")
    with opened(browser, found) as page:
        chip = page.locator(".traces .chains button").nth(1)
        assert "diverged" in chip.inner_text()
        assert "at step 60" in chip.get_attribute("title")
        assert said(page)[0] == float(f"{float(llc(tree)['mean']):.3g}")


def test_a_long_run_is_drawn_in_blocks_and_quickly(browser, tmp_path):
    tree = synthetic_tree(chains=8, draws=6000, burnin=500, thin=2, length=4)
    view = TraceView(tree)
    found = tmp_path / "page.html"
    found.write_text(widgets_page([view]), encoding="utf-8")
    assert found.stat().st_size < 400_000
    with opened(browser, found) as page:
        assert "every 13" in page.locator(".traces .foot").inner_text()
        took = page.evaluate(
            """() => {
              const slider = document.querySelector('[role=slider]');
              const plot = slider.closest('.plot');
              const times = [];
              for (let i = 0; i < 15; i++) {
                const start = performance.now();
                const key = new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true});
                document.querySelector('[role=slider]').dispatchEvent(key);
                plot.getBoundingClientRect();
                times.push(performance.now() - start);
              }
              return times.sort((a, b) => a - b)[7];
            }"""
        )
        assert took < 100, f"{took:.0f} ms for one step of the burn-in"


def test_nothing_finite_is_said_not_drawn_wrong(browser, tmp_path):
    tree = synthetic_tree(chains=2, draws=4, burnin=0, thin=1)
    data = tree[names.SAMPLING].to_dataset()
    data[names.LOSS][:] = np.nan
    data[names.STATUS][:] = names.STATUS_LOSS
    tree[names.SAMPLING] = data
    found = tmp_path / "page.html"
    found.write_text(widgets_page([TraceView(tree)]), encoding="utf-8")
    with opened(browser, found) as page:
        assert "No LLC" in page.locator(".traces .answer").inner_text()
