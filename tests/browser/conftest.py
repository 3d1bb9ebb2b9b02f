"""Fixtures of browser tests: pages that fail on any error of the console.

Widgets are shown as in an exported page (no kernel, no network), which is the hardest host they
have.  The Chromium is that of tests/conftest.py.
"""

import pytest


@pytest.fixture
def page(browser):
    """A page on which every console error and uncaught exception fails the test."""
    # Playwright waits for conditions with eval, which the page's policy rightly refuses;
    # test_export.py reads pages with the policy in force.
    size = {"width": 1100, "height": 900}
    context = browser.new_context(viewport=size, accept_downloads=True, bypass_csp=True)
    made = context.new_page()
    made.set_default_timeout(8000)
    problems = []
    made.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    made.on("pageerror", lambda e: problems.append(str(e)))
    yield made
    context.close()
    assert problems == []


@pytest.fixture
def show(page, tmp_path):
    """`show(widget, ...)`: the page, with these widgets drawn and ready."""
    from playwright.sync_api import expect

    from slt_notebook.share.page import widgets_page

    def draw(*widgets):
        path = tmp_path / "page.html"
        path.write_text(widgets_page(list(widgets), title="Views"), encoding="utf-8")
        page.goto(path.as_uri())
        # Not wait_for_function: the page's policy forbids the eval that it needs.
        expect(page.locator("[data-slt-ready]")).to_have_count(len(widgets), timeout=20_000)
        return page

    return draw
