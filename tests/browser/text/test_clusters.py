"""A reader moves through clusters and drags stage lines, with no kernel, by pointer and keys."""

import csv

import pytest

import slt_notebook as slt
from tests.views.text.test_clusters import browser, curve

pytestmark = pytest.mark.browser


def test_a_cluster_opens_and_a_token_is_shown_elsewhere(show, tmp_path):
    view, chi, clusters, _ = browser()
    strip = slt.component_strip(chi.assign(stderr=chi["chi"] * 0 + 0.5), focus=view.focus)
    page = show(view, strip)
    size = int(clusters["size"][1])
    page.get_by_role("button", name=f"cluster 1: {size} tokens").click()
    side = page.get_by_role("region", name="Tokens of the cluster")
    assert f"Cluster 1: {size} tokens" in side.inner_text()
    token = side.locator(".lines button").nth(2)
    token.click()
    assert page.locator(".strip [data-at]").count() == 1
    assert side.locator(".lines button").nth(2).get_attribute("aria-current") == "true"
    side.get_by_role("button", name="Pin them all").click()
    with page.expect_download() as caught:
        page.locator(".clusters").get_by_role("button", name="CSV").click()
    caught.value.save_as(tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["cluster"] == "1" for row in rows) == size


def test_clusters_by_keyboard_and_sorted(show):
    view, _, clusters, _ = browser()
    page = show(view)
    while page.evaluate("!document.activeElement.matches('.open')"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    pressed = page.locator(".open[aria-pressed='true']")
    assert pressed.locator("b").inner_text() == "1"
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.keyboard.press("Home")
    assert pressed.locator("b").inner_text() == "0"
    page.locator(".list").get_by_role("button", name="entropy", exact=True).click()
    first = page.locator(".open b").first.inner_text()
    assert int(first) == int(clusters["entropy"].values.argmax())
    assert page.locator("th[aria-sort='descending']").count() == 1


def line(page, k=0):
    return page.locator(f".handle[data-line='{k}']")


def test_a_stage_line_is_dragged_and_the_table_follows(show):
    view = slt.StageCurves(curve(), stages=[100.0])
    grid = slt.ComponentGrid(curve()["llc"].isel(checkpoint=-1, drop=True), focus=view.focus)
    page = show(view, grid)
    assert line(page).get_attribute("aria-valuetext") == "step 100"
    cell = page.locator(".readout tbody tr").first.locator("td").first
    assert cell.inner_text() == "+2 ± 0.1"
    grip = line(page).locator(".grip").bounding_box()
    middle = (grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 150, middle[1], steps=4)
    page.mouse.up()
    moved = int(line(page).get_attribute("aria-valuenow"))
    assert 3 < moved < 60
    assert f"1 to {moved}" in page.locator(".readout").inner_text()
    assert "+2 ±" not in cell.inner_text()
    page.locator(".names").get_by_role("button", name="l1.h0").click()
    chosen = page.locator(".cells").get_by_role("button", name="l1.h0")
    assert chosen.get_attribute("aria-pressed") == "true"
    assert "slope of l1.h0" in page.locator(".plot").inner_html()


def test_stage_lines_by_keyboard(show):
    view = slt.StageCurves(curve(), stages=[100.0])
    page = show(view)
    line(page).focus()
    page.keyboard.press("ArrowRight")
    assert line(page).get_attribute("aria-valuenow") == "107"
    assert page.evaluate("document.activeElement.getAttribute('data-line')") == "0"
    page.get_by_role("button", name="Add a line").click()
    assert page.locator(".handle").count() == 2 and page.locator(".readout tbody tr").count() == 3
    line(page, 0).focus()
    page.keyboard.press("Delete")
    assert page.locator(".handle").count() == 1
    page.get_by_role("button", name="Reset").click()
    assert line(page).get_attribute("aria-valuetext") == "step 100"
