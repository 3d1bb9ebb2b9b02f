"""The strip works for a reader who points, types, searches, copies, and reads in dark mode."""

import csv

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.views.base.linking import Focus, link
from slt_notebook.views.base.widget import STATIC
from tests.cases import synthetic_tree

pytestmark = pytest.mark.browser

WORDS = [" the", " cat", "\n", " sat", "ing", "\t", "<b>", " mat", ".", "", "é"]
HOSTILE = ["<img src=x onerror=window.hit=1>", "</span><script>window.hit=1</script>", "{{1}}"]


def strip(count=60, error=0.2, **options):
    rng = np.random.default_rng(0)
    values = xr.DataArray(rng.standard_normal((2, count)), dims=("example", "token"), name="score")
    words = [[WORDS[(i + e) % len(WORDS)] for i in range(count)] for e in range(2)]
    errors = xr.full_like(values, error) if error else None
    return slt.TokenStrip(values, words, error=errors, **options), values.values.ravel(), words


def tokens(page, nth=0):
    return page.locator(".strip").nth(nth).locator(".t:not(.f0)")


def test_every_token_has_its_text_sign_and_certainty(show):
    view, values, words = strip()
    page = show(view)
    spans = tokens(page)
    assert spans.count() == 120
    assert spans.all_text_contents() == [w for row in words for w in row]
    names = spans.evaluate_all("all => all.map(s => s.className)")
    limit = float(page.locator(".scale b").nth(1).text_content().replace("+", ""))
    for value, name in zip(values, names, strict=True):
        classes = name.split()
        step = round(min(1, abs(value) / limit) * 20)
        assert (f"v{'n' if value < 0 else 'p'}{step}" if step else "v0") in classes
        sure = abs(value) > 1.96 * 0.2
        assert ("mut" in classes) == (not sure)
        assert ("neg" in classes) == (sure and value < 0)
        assert ("pos" in classes) == (sure and value > 0)
        assert ("clip" in classes) == (abs(value) > limit)


def test_legend_says_limit_quantile_signs_and_counts(show):
    view, values, _ = strip()
    text = show(view).locator(".legend").inner_text()
    faded = int((np.abs(values) <= 1.96 * 0.2).sum())
    assert "99.5th percentile of |value|" in text and f"({faded} of 120)" in text
    assert "negative" in text and "positive" in text


def test_pointing_shows_a_tooltip_and_clicking_keeps_it(show):
    view, values, _ = strip()
    page = show(view)
    tokens(page).nth(3).hover()
    tip = page.locator(".tip")
    sign = "−" if values[3] < 0 else "+"
    assert tip.inner_text().startswith(sign + f"{abs(values[3]):.3g} ± 0.2")
    rank = int((np.abs(values) > abs(values[3])).sum()) + 1
    assert f"rank {rank} of 120" in tip.inner_text()
    page.mouse.move(5, 5)
    assert tip.is_hidden()
    tokens(page).nth(3).click()
    page.mouse.move(5, 5)
    assert tip.is_visible()
    tokens(page).nth(3).click()
    page.mouse.move(5, 5)
    assert tip.is_hidden()


def test_ctrl_click_pins_and_the_row_of_pins_leads_back(show):
    page = show(strip()[0])
    for k in (4, 7):
        tokens(page).nth(k).click(modifiers=["Control"])
    assert page.locator("[data-pin]").count() == 2
    page.locator(".pinned button").first.click()
    assert tokens(page).nth(4).get_attribute("data-at") == ""
    page.get_by_text("Unpin all").click()
    assert page.locator("[data-pin]").count() == 0


def cursor(page):
    return page.evaluate("document.querySelector('[data-cursor]').k")


def test_everything_goes_by_keyboard(show):
    view, values, _ = strip()
    page = show(view)
    while page.evaluate("!document.activeElement.matches('.strip')"):
        page.keyboard.press("Tab")
    press = page.keyboard.press
    assert cursor(page) == 0
    press("ArrowRight")
    press("ArrowRight")
    assert cursor(page) == 2
    press("ArrowLeft")
    assert cursor(page) == 1
    assert "token 1 ‘␣cat’, score" in page.locator(".said").text_content()
    active = page.locator(".strip").get_attribute("aria-activedescendant")
    assert page.evaluate("id => document.getElementById(id).k", active) == 1
    press("End")
    assert cursor(page) == 59
    press("Home")
    press("ArrowDown")
    below = cursor(page)
    boxes = [tokens(page).nth(k).bounding_box() for k in (0, below)]
    assert boxes[1]["y"] > boxes[0]["y"]
    press("ArrowUp")
    assert cursor(page) == 0
    press("Control+End")
    assert cursor(page) == 119
    press("PageUp")
    assert cursor(page) == 0
    press("n")
    assert (np.abs(values) > abs(values[cursor(page)])).sum() < 6
    press("Home")
    press("Space")
    assert tokens(page).nth(0).get_attribute("data-pin") == ""
    press("Enter")
    assert tokens(page).nth(0).get_attribute("data-at") == ""
    press("Shift+ArrowRight")
    press("Shift+ArrowRight")
    assert page.locator("[data-range]").count() == 3
    press("Escape")
    assert page.locator("[data-range], [data-at]").count() == 0
    press("Escape")
    assert page.locator("[data-pin]").count() == 0
    press("?")
    assert page.locator(".help").is_visible()
    press("/")
    assert page.evaluate("document.activeElement.matches('.find')")
    page.keyboard.type("sating")
    press("Enter")
    assert "found" in page.locator(".count").text_content()
    assert page.locator("[data-hit]").count() >= 2
    press("Escape")
    assert page.locator("[data-hit]").count() == 0


def test_the_table_says_what_the_strip_says(show):
    view, values, _ = strip()
    page = show(view)
    page.get_by_role("button", name="Table of all tokens").click()
    rows = page.locator(".twin tbody tr")
    assert rows.count() == 120
    order = np.argsort(-np.abs(values), kind="stable")
    for i in (0, 1, 50):
        text = rows.nth(i).inner_text()
        assert f"{abs(values[order[i]]):.3g}" in text
        assert ("▼" in text) == (values[order[i]] < 0)


def test_copied_text_is_the_true_text_with_and_without_glyphs(show):
    view, _, words = strip(count=20)
    page = show(view)
    read = """() => { const r = document.createRange();
        r.selectNodeContents(document.querySelector('.bk'));
        const s = getSelection(); s.removeAllRanges(); s.addRange(r); const t = s.toString();
        s.removeAllRanges(); return t; }"""
    wanted = "".join(words[0])
    assert page.evaluate(read).rstrip("\n") == wanted.rstrip("\n")
    page.get_by_role("button", name="Show whitespace").click()
    assert page.evaluate(read).rstrip("\n") == wanted.rstrip("\n")


def test_hostile_text_is_inert(show):
    notes = slt.notes()
    notes.add(text=HOSTILE[0], component=HOSTILE[1], author=HOSTILE[0], tags=HOSTILE)
    view = slt.TokenStrip(
        [1.0, -1.0, 0.5], HOSTILE, examples=[HOSTILE[0]], title=HOSTILE[1], notes=notes
    )
    page = show(view)
    tokens(page).first.hover()
    tokens(page).first.click(modifiers=["Control"])
    page.get_by_role("button", name="Table of all tokens").click()
    assert page.evaluate("window.hit") is None
    assert page.locator(".slt img, .slt script").count() == 0
    assert HOSTILE[0] in page.locator(".twin").inner_text()
    assert HOSTILE[0] in page.locator(".notes").inner_text()


def test_hover_and_focus_are_shared_by_ids_between_views(show):
    tree = synthetic_tree()
    a = slt.TokenStrip(tree)
    b = slt.TokenStrip(tree["probe/train"].to_dataset().isel(example=[2, 1]))
    apart = slt.TokenStrip(tree)
    link(a, b)
    page = show(a, b, apart)
    place = "s => { const b = s.closest('.ex'); return b.getAttribute('aria-label') + s.title; }"
    span = page.locator(".strip").nth(0).locator(".ex").nth(1).locator(".t:not(.f0)").nth(4)
    span.hover()
    there = page.locator(".strip").nth(1).locator("[data-hover]")
    assert there.count() == 1
    assert there.evaluate(place) == "train/1" and there.text_content() == span.text_content()
    assert page.locator(".strip").nth(2).locator("[data-hover]").count() == 0
    span.click()
    assert page.locator(".strip").nth(1).locator("[data-at]").evaluate(place) == "train/1"
    # A token that the other view does not show leaves it without a mark.
    page.locator(".strip").nth(0).locator(".ex").nth(0).locator(".t:not(.f0)").nth(1).hover()
    assert page.locator(".strip").nth(1).locator("[data-hover]").count() == 0


def test_what_was_focused_and_pinned_before_is_shown(show):
    focus = Focus().on("0", 5)
    focus.pins = [{"example": "1", "token": 2}, {"example": "gone", "token": 1}]
    focus.range = {"example": "0", "tokens": [7, 9]}
    page = show(strip(focus=focus)[0])
    assert tokens(page).nth(5).get_attribute("data-at") == ""
    assert page.locator("[data-pin]").count() == 1
    assert page.locator("[data-range]").count() == 2


def test_metrics_are_picked_by_mouse_and_key(show):
    page = show(slt.TokenStrip(synthetic_tree()))
    select = page.get_by_role("combobox", name="Metric")
    assert select.input_value() == "loss gain"
    assert "8" not in select.input_value()
    page.locator(".strip").focus()
    page.keyboard.press("]")
    assert select.input_value() == "loss at w*"
    assert page.locator(".vs20").count() > 0
    page.keyboard.press("[")
    assert page.locator(".strip .vs20").count() == 0


def test_csv_holds_the_numbers(show, tmp_path):
    view, values, words = strip()
    page = show(view)
    with page.expect_download() as caught:
        page.get_by_role("button", name="CSV").click()
    caught.value.save_as(tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(r["score"]) for r in rows], values, rtol=1e-6)
    assert [r["text"] for r in rows] == [w for row in words for w in row]


def test_the_dark_theme_follows_the_page(show):
    page = show(strip()[0])
    colour = "getComputedStyle(document.querySelector('.view')).backgroundColor"
    for theme, low in (("dark", True), ("light", False)):
        page.evaluate("t => document.documentElement.dataset.theme = t", theme)
        page.wait_for_selector(f".view[data-slt-theme={theme}]")
        parts = [float(x) for x in page.evaluate(colour).strip("rgb()").split(",")]
        assert (max(parts) < 60) == low


def test_text_has_contrast_on_every_cell_in_both_themes(show):
    page = show(strip(error=None)[0])
    worst = """() => { const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => {
        x /= 255; return x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; });
        return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
      const base = getComputedStyle(document.querySelector('.view')).backgroundColor;
      return Math.min(...[...document.querySelectorAll('.strip .t')].map(s => {
        const c = getComputedStyle(s); const clear = c.backgroundColor === 'rgba(0, 0, 0, 0)';
        const a = lum(c.color), b = lum(clear ? base : c.backgroundColor);
        return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); })); }"""
    for theme in ("light", "dark"):
        page.evaluate("t => document.documentElement.dataset.theme = t", theme)
        page.wait_for_selector(f".view[data-slt-theme={theme}]")
        assert page.evaluate(worst) >= 4.5


def test_many_tokens_come_and_go(show):
    """20,000 tokens are all in the document in the end; of 50,000 only what is in sight."""
    from playwright.sync_api import expect

    words = [f" w{i}" for i in range(20_000)]
    page = show(slt.TokenStrip(np.linspace(-1, 1, 20_000), words))
    expect(page.locator(".strip .t")).to_have_count(20_000, timeout=20_000)
    page = show(slt.TokenStrip(np.linspace(-1, 1, 50_000), [f" w{i}" for i in range(50_000)]))
    page.wait_for_timeout(300)
    assert page.locator(".strip .t").count() < 10_000
    page.locator(".strip").focus()
    page.keyboard.press("Control+End")
    assert cursor(page) == 49_999
    assert page.locator("[data-cursor]").text_content() == " w49999"
    page.wait_for_timeout(300)
    assert page.locator(".strip .t").count() < 10_000


@pytest.mark.parametrize("name", ["tokens", "influence", "notes", "focus"])
def test_bundles_stay_small(name):
    assert (STATIC / f"{name}.js").stat().st_size <= 40 * 1024
