"""A reader lassos, colours and inspects with no kernel, with the pointer or the keyboard."""

import csv

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.views.base.linking import link
from tests.cases import synthetic_tree

pytestmark = pytest.mark.browser


def clusters():
    """Two far clusters: 40 points on the left, 20 on the right."""
    rng = np.random.default_rng(0)
    left = rng.normal([-10, 0], 1, (40, 2))
    right = rng.normal([10, 0], 1, (20, 2))
    return slt.EmbeddingMap(
        np.concatenate([left, right]),
        colors={"side": ["left"] * 40 + ["right"] * 20, "n": np.arange(60.0)},
        images=np.arange(60 * 16).reshape(60, 4, 4) / 960,
        examples=[f"e/{i}" for i in range(60)],
        title="Clusters",
    )


def drag(page, *shares):
    box = page.locator(".stage").bounding_box()
    at = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in shares]
    page.mouse.move(*at[0])
    page.mouse.down()
    for x, y in at[1:]:
        page.mouse.move(x, y, steps=5)
    page.mouse.up()


def test_a_lasso_selects_and_says_what_is_in_it(show, tmp_path):
    page = show(clusters())
    drag(page, (0.5, 0.02), (0.98, 0.02), (0.98, 0.97), (0.5, 0.97))
    side = page.locator(".picked")
    assert "20 of 60 examples selected" in side.inner_text()
    row = side.locator("tbody tr").first.inner_text().split()
    assert row == ["right", "20", "20", "3"]
    assert side.locator(".grid button").count() == 20
    with page.expect_download() as caught:
        page.get_by_role("button", name="CSV").click()
    caught.value.save_as(tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["selected"] for r in rows] == ["0"] * 40 + ["1"] * 20
    assert rows[41]["id"] == "e/41" and rows[41]["side"] == "right"
    page.get_by_role("button", name="Table").click()
    assert page.locator(".twin tbody tr").count() == 20


def test_colours_legend_and_one_category_alone(show):
    page = show(clusters())
    button = page.locator(".legend button").first
    assert "left 40" in button.inner_text()
    button.click()
    assert page.locator(".legend button").first.get_attribute("aria-pressed") == "true"
    drag(page, (0.02, 0.02), (0.98, 0.02), (0.98, 0.97), (0.02, 0.97))
    assert "40 of 60" in page.locator(".picked").inner_text()  # what is faded is not taken
    page.get_by_label("Colour by").select_option("n")
    assert "0.295" in page.locator(".legend").inner_text()


def test_by_keyboard_alone(show):
    view = clusters()
    page = show(view)
    while page.evaluate("!document.activeElement.matches('.stage')"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "side left" in page.locator(".said").text_content()
    page.keyboard.press("c")
    assert "40 of 60" in page.locator(".picked").inner_text()
    page.keyboard.press("Escape")
    assert "Nothing selected" in page.locator(".picked").inner_text()
    page.keyboard.press("]")
    assert "coloured by n" in page.locator(".stage").get_attribute("aria-label")
    page.keyboard.press("v")
    assert "60 of 60" in page.locator(".picked").inner_text()
    page.keyboard.press("+")
    page.keyboard.press("v")
    assert "60 of 60" not in page.locator(".picked").inner_text()


def test_a_click_focuses_the_token_in_a_linked_strip(show):
    tree = synthetic_tree()
    flat = slt.embed(slt.kernel_map(tree, modes=4, unit="token"))
    view, strip = slt.EmbeddingMap(flat, probe=tree), slt.TokenStrip(tree)
    link(view, strip)
    page = show(view, strip)
    page.locator(".stage").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator(".strip [data-at]").count() == 1
    where = page.locator(".mapped .said").text_content()
    assert where.split(" · ")[0].startswith("train/")


def test_hostile_text_stays_text_and_a_narrow_page_does_not_overflow(show):
    evil = "<img src=x onerror=alert(1)>"
    xy = np.random.default_rng(1).standard_normal((12, 2))
    page = show(slt.EmbeddingMap(xy, colors={evil: [evil, "b"] * 6}, text=[evil] * 12, title=evil))
    page.set_viewport_size({"width": 480, "height": 900})
    drag(page, (0.02, 0.02), (0.98, 0.02), (0.98, 0.97), (0.02, 0.97))
    assert evil in page.locator(".picked").inner_text()
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
