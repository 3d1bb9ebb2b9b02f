"""A reader opens and closes branches, enters blocks and sees a pair, with no kernel."""

import csv

import numpy as np
import pytest

import slt_notebook as slt
from tests.estimators.kernel.test_kernel_map import probe

pytestmark = pytest.mark.browser


def matrix(**options):
    group = [("left", "right")[i % 2] for i in range(40)]
    low = [f"{g} {i % 4 // 2}" for i, g in enumerate(group)]
    return slt.KernelMatrix(probe(examples=40), groups=[group, low], title="Kernel", **options)


def click(page, row, column):
    box = page.locator(".heat").bounding_box()
    page.mouse.click(box["x"] + box["width"] * column, box["y"] + box["height"] * row)


def test_a_pair_shows_its_draws_with_the_numbers_of_the_estimator(show):
    view = matrix()
    page = show(view)
    click(page, 0.5 / 40, 7.5 / 40)
    text = page.locator(".pair").inner_text()
    exact = slt.loss_kernel(probe(examples=40)).sel(example=view._ids[0], example_=view._ids[7])
    shown = text.split("correlation ")[1].split("\n")[0].replace("−", "-").replace("+", "")
    value, error = (float(x) for x in shown.split(" ± "))
    assert value == pytest.approx(float(exact), abs=0.01)
    assert error == pytest.approx(float(exact.coords["stderr"]), abs=0.02)
    assert view._names[0] in text and view._names[7] in text
    assert page.locator(".pair canvas").count() == 1


def test_closed_branches_are_means_over_their_pairs(show, tmp_path):
    view = matrix()
    page = show(view)
    page.get_by_role("button", name="level 1").click()
    assert "4 rows" not in page.locator(".legend").first.inner_text()
    with page.expect_download() as caught:
        page.get_by_role("button", name="CSV").click()
    caught.value.save_as(tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="") as file:
        rows = {(r["row"], r["column"]): r for r in csv.DictReader(file)}
    r = slt.loss_kernel(probe(examples=40), stderr=False).values
    left = np.arange(0, 40, 2)
    wanted = r[np.ix_(left, left)][~np.eye(20, dtype=bool)].mean()
    one = rows["left", "left"]
    assert float(one["correlation"]) == pytest.approx(wanted, abs=5e-3)
    assert int(one["pairs"]) == 20 * 19 and len(rows) == 3


def test_into_a_block_and_out_by_keyboard_alone(show):
    page = show(matrix())
    page.get_by_role("button", name="level 2").click()
    while page.evaluate("!document.activeElement.matches('.heat')"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert "(10) and" in page.locator(".said").first.text_content()
    page.keyboard.press("Enter")
    assert "10 by 10 examples in 10 by 10 cells" in page.locator(".heat").get_attribute(
        "aria-label"
    )
    page.keyboard.press("m")
    assert "covariance, nats²" in page.locator(".legend").first.inner_text()
    page.keyboard.press("Escape")
    assert "40 by 40 examples" in page.locator(".heat").get_attribute("aria-label")


def test_the_table_says_the_same_and_branches_are_buttons(show):
    page = show(matrix())
    branch = page.get_by_role("button", name="▾ right", exact=True)
    branch.click()
    assert page.locator(".tree button[aria-expanded=false]").count() == 1
    page.get_by_role("button", name="Table").click()
    assert page.locator(".twin tbody tr").count() == 20 * 19 // 2 + 20 + 1
    page.set_viewport_size({"width": 500, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
