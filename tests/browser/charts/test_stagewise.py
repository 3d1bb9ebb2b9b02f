"""Tabs, items and steps work with no kernel, by pointer and by keyboard."""

import itertools

import pytest

import slt_notebook as slt
from slt_notebook.views.base.fallback import number
from tests.views.charts.test_stagewise import tables

pytestmark = pytest.mark.browser


def test_tabs_items_and_steps(show):
    given = tables()
    page = show(slt.InfluenceOverTraining(given, stages=[("one", 0, 170), ("two", 170, 400)]))
    assert page.locator(".cells button").count() == 64
    page.get_by_role("button", name="analytic").click()
    page.get_by_label("Influence of", exact=True).select_option("rose")
    assert "Influence of rose" in page.locator(".said2").inner_text()
    page.locator(".curves").focus()
    page.keyboard.press("Home")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert page.locator(".when b").inner_text() == "step 180"
    exact = given["analytic"].sel(step=180, example="dog", example_="rose")
    label = page.locator(".cells button").nth(4).get_attribute("aria-label")
    assert label == f"rose on dog: {number(float(exact), signed=True)}"
    page.get_by_label("Checkpoint").fill("2")
    assert page.locator(".when b").inner_text() == "step 40"
    paths = page.locator(".curves path.trace").count()
    page.locator(".names button").first.click()
    assert page.locator(".curves path.trace").count() == paths - 1
    page.get_by_role("button", name="BIF").click()
    assert page.locator(".curves path.band").count() == paths - 1
    page.get_by_role("button", name="Table").click()
    assert page.locator(".twin tbody tr").count() == 21
    page.set_viewport_size({"width": 480, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_numbers_fit_their_cells_and_stages_keep_apart(show):
    stages = [("everything", 0, 60), ("animal / plant", 60, 130), ("mammal / bird", 130, 170)]
    small = {name: 1.234e-5 * table for name, table in tables().items()}
    page = show(slt.InfluenceOverTraining(small, stages=[*stages, ("dog / cat", 170, 400)]))
    for width in (1100, 620, 480):
        page.set_viewport_size({"width": width, "height": 900})
        cut = "all => all.filter(c => c.scrollWidth > c.clientWidth).length"
        assert page.locator(".cells button").evaluate_all(cut) == 0
        boxes = [one.bounding_box() for one in page.locator("text.stagename").all()]
        spans = sorted((b["x"], b["x"] + b["width"]) for b in boxes if b and b["width"])
        assert len(spans) >= 2
        assert all(b[0] - a[1] > 4 for a, b in itertools.pairwise(spans))
    assert "numbers in units of 10\u207b" in page.locator(".two").inner_text()
    shown = [int(t.replace("\u2212", "-")) for t in page.locator(".cells button").all_inner_texts()]
    assert 10 <= max(map(abs, shown)) <= 99
    titles = page.locator("text.stagename title").all_text_contents()
    assert titles == ["everything", "animal / plant", "mammal / bird", "dog / cat"]
