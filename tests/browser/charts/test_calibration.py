"""Calibration, sampler benchmark and network builder work in a page, by pointer and keyboard."""

import json
from itertools import pairwise

import numpy as np
import pytest

from slt_notebook.benchmarks import dln
from slt_notebook.share.page import widgets_page
from slt_notebook.views.charts.calibration import CalibrationView
from slt_notebook.views.charts.network_builder import NetworkBuilder
from slt_notebook.views.charts.sampler_benchmark import SamplerBenchmark
from tests.browser.offline import opened, states
from tests.cases_bench import benchmark, evidence

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    found = tmp_path_factory.mktemp("bench") / "page.html"
    views = [CalibrationView(evidence()), SamplerBenchmark(benchmark()), NetworkBuilder()]
    found.write_text(widgets_page(views), encoding="utf-8")
    return found


def test_a_cell_opens_its_traces(browser, path):
    with opened(browser, path) as page:
        assert states(page) == ["live"] * 3
        view = page.locator(".calibration")
        assert "<b>half</b>" in view.locator(".reason").inner_text()  # as text
        assert view.locator(".cell").count() == 12
        assert view.locator(".cell.chosen").get_attribute("aria-selected") == "true"
        view.locator(".cell").nth(2).click()  # gamma 3, the larger nbeta first, share 1
        assert "Depends on the step" in view.locator("h4").last.inner_text()
        assert view.locator("svg .trace").count() == 2
        page.keyboard.press("ArrowDown")
        focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert "unstable" in focused and "nbeta 100" in focused and "none" in focused
        page.keyboard.press("ArrowDown")  # on to the grid of the next gamma
        assert "gamma 30" in page.evaluate("document.activeElement.getAttribute('aria-label')")
        view.locator("select").select_option("rhat")
        shown = float(view.locator(".cell b").first.inner_text())
        row = evidence().sel(gamma=3.0, nbeta=1000.0, share=0.25)
        assert shown == pytest.approx(float(row.rhat), rel=5e-3)
        view.get_by_role("button", name="Table").click()
        assert view.locator("table tbody tr").count() >= 12


def test_the_step_filters_and_a_network_is_followed(browser, path):
    with opened(browser, path) as page:
        view = page.locator(".samplers")
        slider = view.locator("[role=slider]")
        assert slider.get_attribute("aria-valuetext") == "step size 1.00e-7"
        assert "SGLD: 0 %" in view.locator(".chips button").first.inner_text()
        assert view.locator("circle").count() == 10  # two samplers, five certified networks
        slider.focus()
        page.keyboard.press("End")
        assert "not finite" in view.locator(".chips button").first.inner_text()
        assert view.locator("circle").count() == 5
        assert "5 of 10 estimates are not finite" in view.locator(".said-now").inner_text()
        page.keyboard.press("Home")
        view.locator("select").select_option("all networks")
        assert view.locator("circle").count() == 20
        view.locator("circle").nth(3).click()
        assert "net <3>" in view.locator(".said-now").inner_text()
        assert view.locator("circle.pin").count() == 2
        view.locator(".chips button").nth(1).click()
        assert view.locator("circle").count() == 10
        view.get_by_role("button", name="Table").click()
        assert view.locator("tbody tr").count() == 2


def test_the_page_computes_what_python_computes(browser, path):
    """Coefficients and certificates of random architectures, through the sliders' model."""
    rng = np.random.default_rng(5)
    cases = []
    for _ in range(40):
        widths = rng.integers(1, 21, rng.integers(2, 7)).tolist()
        ranks = [
            int(rng.integers(0, min(a, b) + 1)) if rng.random() < 0.5 else min(a, b)
            for a, b in pairwise(widths)
        ]
        cases.append((widths, ranks))
    views = [NetworkBuilder(w, r) for w, r in cases]
    page_path = path.with_name("many.html")
    page_path.write_text(widgets_page(views), encoding="utf-8")
    with opened(browser, page_path) as page:
        answers = page.locator(".network .answer").all_inner_texts()
        proofs = page.locator(".network .proof").all_inner_texts()
    for (widths, ranks), answer, proof in zip(cases, answers, proofs, strict=True):
        wanted = dln.certificate(widths, ranks)
        where = json.dumps([widths, ranks])
        number = f"{wanted.learning_coefficient:.6g}"
        assert f"λ = {number}, multiplicity {wanted.multiplicity} " in answer, where
        kind = "Certified" if wanted.certified else "smooth" if wanted.smooth else "degenerate"
        assert kind in proof and f"{wanted.local:.6g}" in proof, where


def test_sliders_change_the_network(browser, path):
    with opened(browser, path) as page:
        view = page.locator(".network")
        before = view.locator(".answer").inner_text()
        view.get_by_label("hidden 1").focus()
        page.keyboard.press("ArrowRight")
        assert view.locator(".answer").inner_text() != before
        assert "[8, 6, 12, 6], [6, 6, 6]" in view.locator("code").inner_text()
        view.get_by_label("layers").focus()
        page.keyboard.press("ArrowRight")
        assert view.locator("label.row").count() == 1 + 5 + 4
        text = view.locator(".answer").inner_text()
        wanted, _ = dln.learning_coefficient([8, 6, 12, 12, 6], 6)
        assert f"λ = {wanted:g}," in text
