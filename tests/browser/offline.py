"""Read a page from disk with no network, and notice every complaint of the console."""

from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(browser, path: Path, scheme: str = "light", scripts: bool = True, width: int = 1100):
    """A Playwright page on `path`; on leaving, fails on any console error or network request."""
    context = browser.new_context(
        offline=True,
        color_scheme=scheme,
        java_script_enabled=scripts,
        viewport={"width": width, "height": 900},
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on(
        "console",
        lambda m: complaints.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else 0,
    )
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "blob:", "data:"))
            else complaints.append(f"asked the network for {request.url}")
        ),
    )
    try:
        page.goto(path.resolve().as_uri())
        if scripts:
            page.wait_for_selector("html[data-slt-page=ready]", timeout=15_000)
        yield page
        assert not complaints, "\n".join(complaints)
    finally:
        context.close()


def states(page) -> list[str]:
    """What became of each widget's place: `live` or `failed`."""
    return page.eval_on_selector_all(
        "[data-slt-model]", "places => places.map(place => place.dataset.sltState)"
    )
