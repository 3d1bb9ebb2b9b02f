"""A click recolours the strip with the true influence, with no kernel."""

import csv

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.views.base.linking import link
from tests.cases import synthetic_tree

pytestmark = pytest.mark.browser


def numbers(page, tmp_path):
    """What the strip shows, from its CSV."""
    with page.expect_download() as caught:
        page.locator(".view", has=page.locator(".asked")).get_by_role("button", name="CSV").click()
    caught.value.save_as(tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return np.array([float(r[3]) for r in rows]), np.array([float(r[4]) for r in rows])


def covariance(tree, corpus, k):
    """-cov of every token's loss with token k's, centred per chain, naively."""
    loss = tree["probe/train"]["loss"].values.astype("f8")
    chains, draws = loss.shape[:2]
    z = loss.reshape(chains, draws, -1)[:, :, corpus.mask.ravel()]
    z = z - z.mean(1, keepdims=True)
    z = z.reshape(chains * draws, -1)
    c = -(z.T @ z)[k] / (chains * draws - chains)
    return c, z.std(0) * np.sqrt(len(z) / (len(z) - chains))


def test_a_click_recolours_with_minus_the_covariance(show, tmp_path):
    tree = synthetic_tree(draws=100)
    view = slt.InfluenceExplorer(tree, normalize=False)
    corpus = view._losses.corpus
    page = show(view)
    for k in (3, 17, 29):
        page.locator(".strip .t:not(.f0)").nth(k).click()
        assert corpus.where(k) in page.locator(".asked").inner_text()
        exact, sd = covariance(tree, corpus, k)
        value, _ = numbers(page, tmp_path)
        # 8 bits: three standard deviations of the rounding, whose peaks are at about 4 sd.
        bound = 3 * np.sqrt(2 / 12 / 400) * 4 / 127 * sd[k] * sd
        assert (np.abs(value - exact) <= bound).all()
        names = page.locator(".strip .t:not(.f0)").evaluate_all("a => a.map(s => s.className)")
        for j, name in enumerate(names):
            if j != k and abs(exact[j]) > 0.2 * np.abs(exact).max():
                assert ("vn" if exact[j] < 0 else "vp") in name
        assert "v" not in names[k].replace("nl", "").split()[-1]  # the query has no colour


def test_errors_and_lists_are_those_of_the_estimator(show, tmp_path):
    tree = synthetic_tree(draws=100)
    view = slt.InfluenceExplorer(tree, query=("train/1", 5))
    corpus = view._losses.corpus
    page = show(view)
    exact = slt.influence(tree, normalize=True).sel(example="train/1", token=5)
    value, error = numbers(page, tmp_path)
    wanted = corpus.flat(exact["influence"].values)
    assert np.abs(value - wanted).max() < 2e-3
    assert np.abs(error - corpus.flat(exact["stderr"].values)).max() < 2e-3
    k = corpus.find("train/1", 5)
    order = [j for j in np.argsort(wanted) if j != k]
    listed = page.locator(".beside table").nth(0).locator(".src small").all_text_contents()
    assert listed == [corpus.where(j) for j in order[: len(listed)]] and len(listed) == 8
    harmful = page.locator(".beside table").nth(1).locator(".src small").all_text_contents()
    assert harmful == [corpus.where(j) for j in order[::-1][: len(harmful)]]


def test_examples_are_ranked_by_the_sum_of_their_losses(show):
    tree = synthetic_tree(draws=100)
    view = slt.InfluenceExplorer(tree, query=("train/1", 5), normalize=False)
    page = show(view)
    exact = slt.influence(tree).sel(example="train/1", token=5)["influence"]
    sums = exact.sum("token_")
    order = [str(sums["example_"].values[i]) for i in np.argsort(sums.values)]
    table = page.locator(".beside table").nth(2)
    assert table.locator("button").all_text_contents() == order


def test_measure_and_scale(show):
    page = show(slt.InfluenceExplorer(synthetic_tree()))
    assert "−correlation" in page.locator(".legend").inner_text()
    page.get_by_role("button", name="covariance").click()
    text = page.locator(".legend").inner_text()
    assert "−covariance, nats²" in text and "helpful" in text and "harmful" in text
    page.get_by_role("button", name="Lock colour range").click()
    limit = page.locator(".scale b").first.text_content()
    page.locator(".strip .t:not(.f0)").nth(2).click()
    assert page.locator(".scale b").first.text_content() == limit
    assert "locked" in page.locator(".legend").inner_text()


def test_by_keyboard_alone(show):
    view = slt.InfluenceExplorer(synthetic_tree())
    corpus = view._losses.corpus
    page = show(view)
    while page.evaluate("!document.activeElement.matches('.strip')"):
        page.keyboard.press("Tab")
    page.keyboard.press("Control+Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert corpus.where(1) in page.locator(".asked").inner_text()
    page.keyboard.press("]")
    assert "−covariance" in page.locator(".legend").inner_text()
    page.keyboard.press("Escape")  # the query stays: there is always one
    assert page.locator(".strip [data-at]").count() == 1
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('.src')")
    page.keyboard.press("Enter")
    assert corpus.where(1) not in page.locator(".asked").inner_text()


def test_a_click_in_a_linked_strip_asks_here(show):
    tree = synthetic_tree()
    strip, view = slt.TokenStrip(tree), slt.InfluenceExplorer(tree)
    link(strip, view)
    page = show(strip, view)
    page.locator(".strip").nth(0).locator(".t:not(.f0)").nth(12).click()
    assert view._losses.corpus.where(12) in page.locator(".asked").inner_text()


def test_the_page_says_how_sure_it_is_and_what_is_missing(show):
    tree = synthetic_tree()
    probe = tree["probe/train"].to_dataset().copy(deep=True)
    probe["loss"][1] = np.nan
    text = show(slt.InfluenceExplorer(probe)).locator(".foot").inner_text()
    assert "8-bit precision" in text and "3 digits" in text
    assert "spread between 3 chains" in text
    assert "Excluded: chain 1" in text


def test_narrow_pages_put_the_lists_below(show):
    page = show(slt.InfluenceExplorer(synthetic_tree()))
    page.set_viewport_size({"width": 500, "height": 900})
    strip = page.locator(".strip").bounding_box()
    beside = page.locator(".beside").bounding_box()
    assert beside["y"] >= strip["y"] + strip["height"] - 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
