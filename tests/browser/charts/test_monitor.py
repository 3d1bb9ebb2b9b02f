"""What a monitor shows after its run has ended."""

import pytest

from slt_notebook.share.page import widgets_page
from slt_notebook.views.monitor import RunMonitor
from tests.browser.offline import opened, states
from tests.views.test_monitor import Fake

pytestmark = pytest.mark.browser


def test_the_last_picture_stays_without_buttons(browser, tmp_path):
    run = Fake(steps=3, message="<b>done</b>")
    while run.progress()["stage"] != "finished":
        pass
    path = tmp_path / "page.html"
    path.write_text(widgets_page([RunMonitor(run)]), encoding="utf-8")
    for scheme in ("light", "dark"):
        with opened(browser, path, scheme) as page:
            assert states(page) == ["live"]
            assert "Finished" in page.locator(".monitor .stage").inner_text()
            assert page.locator(".monitor button:visible").count() == 0
            bar = page.locator("[role=progressbar]")
            assert bar.get_attribute("aria-valuenow") == "100"
            assert page.locator(".monitor .message").inner_text() == "<b>done</b>"
            assert "1 min 01 s" in page.locator(".monitor dl").inner_text()
            assert page.locator(".monitor .trace").count() == 1


def test_nothing_to_stop_in_a_page_saved_midway(browser, tmp_path):
    view = RunMonitor(Fake(steps=1000))
    view._quit.set()
    path = tmp_path / "page.html"
    path.write_text(widgets_page([view]), encoding="utf-8")
    with opened(browser, path) as page:
        assert "Sampling" in page.locator(".monitor .stage").inner_text()
        assert page.locator(".monitor button:visible").count() == 0
        page.locator(".monitor summary").click()
        assert page.locator(".monitor tbody td").nth(2).inner_text() == "<b>ok</b>"
