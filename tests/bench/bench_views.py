"""Time to draw and recolour the token views: `python -m tests.bench.bench_views`.

In headless Chromium, on an exported page (no kernel).  "Click to recoloured" runs from the click
on a token in sight to the first frame painted with the new colours, "jump" from the choice of a
token anywhere (as from the list of sources), to which the strip scrolls.  "First layout" runs from
the start of the widget's drawing (inflating, laying out, connecting) until the first frame that
shows it is through.  "CPU" is what the page's main thread itself spent: the waiting on a busy
machine is in the other figures only.  Of a click it includes the repainting of what is out of
sight, which comes later.
"""

import contextlib
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

import slt_notebook as slt
from slt_notebook import names
from slt_notebook.share.page import widgets_page
from slt_notebook.views.base.widget import STATIC

SEEN = """() => {
  const box = document.querySelector('.strip').getBoundingClientRect();
  const inside = r => r && r.top > box.top + 2 && r.bottom < box.bottom - 2;
  return [...document.querySelectorAll('.strip .t:not(.f0)')].flatMap((span, k) =>
    inside(span.getClientRects()[0]) ? [k] : []);
}"""

CLICK = """k => new Promise(done => {
  const spans = [...document.querySelectorAll('.strip .t:not(.f0)')];
  const before = document.querySelector('.asked').textContent;
  const at = performance.now();
  spans[k].click();
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      if (document.querySelector('.asked').textContent === before) throw new Error('no change');
      performance.measure('click', {start: at});
      done(performance.now() - at);
    };
    channel.port2.postMessage(0);
  });
})"""


def probe(examples: int, length: int, chains: int, draws: int) -> xr.Dataset:
    rng = np.random.default_rng(0)
    words = np.array([" the", " cat", " sat", "ing", "\n", " on", ".", " of", " mat", "  "], object)
    shape = (examples, length - 1)
    factors = rng.standard_normal((*shape, 4)).astype("f4")
    positions = rng.standard_normal((chains, draws, 4)).astype("f4")
    loss = np.einsum("cdk,etk->cdet", positions, factors)
    loss += rng.standard_normal(loss.shape, dtype="f4")
    return xr.Dataset(
        {
            names.LOSS: (("chain", "draw", "example", "token"), loss),
            names.INIT_LOSS: (("example", "token"), np.ones(shape, "f4")),
            names.TOKEN_TEXT: (
                ("example", "token"),
                words[rng.integers(0, len(words), shape)].astype(str),
            ),
        },
        coords={"example": [f"train/{i}" for i in range(examples)]},
    )


def page_of(browser, widget, trace: bool = False):
    """The widget's page once it is ready; with `trace`, and the trace of its loading."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(widgets_page([widget]), encoding="utf-8")
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        with Trace(page) if trace else contextlib.nullcontext() as traced:
            page.goto(path.as_uri())
            page.locator("[data-slt-ready]").wait_for(state="attached", timeout=30_000)
            page.wait_for_timeout(500 * trace)
    return (page, traced) if trace else page


class Trace:
    """`with Trace(page) as trace: ...`, then `trace.cpu(start, end)` in ms (page clock)."""

    def __init__(self, page):
        self._page, self._events, self._done = page, [], []
        self._session = page.context.new_cdp_session(page)
        self._session.on("Tracing.dataCollected", lambda d: self._events.extend(d["value"]))
        self._session.on("Tracing.tracingComplete", lambda _d: self._done.append(True))

    def __enter__(self):
        kinds = "toplevel,devtools.timeline,disabled-by-default-devtools.timeline,blink.user_timing"
        self._session.send("Tracing.start", {"categories": kinds, "transferMode": "ReportEvents"})
        return self

    def __exit__(self, *_error):
        self._session.send("Tracing.end")
        while not self._done:
            self._page.wait_for_timeout(20)

    def cpu(self, name: str) -> float:
        """Main-thread time during the user-timing measure `name`."""
        marks = [e for e in self._events if e.get("name") == name]
        begin, end = min(e["ts"] for e in marks), max(e["ts"] for e in marks)
        return sum(
            e.get("tdur", 0) / 1000
            for e in self._events
            if e.get("name") == "RunTask"
            and e["tid"] == marks[0]["tid"]
            and begin - 500 <= e["ts"] <= end
        )


def click_to_recoloured(browser, tokens: int = 4000, draws: int = 400, clicks: int = 30) -> dict:
    length = 126
    view = slt.InfluenceExplorer(probe(-(-tokens // (length - 1)), length, 4, draws // 4))
    page = page_of(browser, view)
    page.wait_for_timeout(1500)  # every block is in the document by now
    count = page.locator(".strip .t:not(.f0)").count()
    rng = np.random.default_rng(1)
    seen = page.evaluate(SEEN)
    for k in rng.choice(seen, 3):
        page.evaluate(CLICK, int(k))
    with Trace(page) as trace:
        times = [page.evaluate(CLICK, int(k)) for k in rng.choice(seen, clicks)]
    jumps = [page.evaluate(CLICK, int(k)) for k in rng.integers(0, count, clicks)]
    page.close()
    return {
        "tokens": count,
        "draws": draws,
        "least_ms": min(times),
        "median_ms": statistics.median(times),
        "cpu_ms": trace.cpu("click") / clicks,
        "p90_ms": sorted(times)[int(0.9 * len(times))],
        "jump_ms": statistics.median(jumps),
        "state_MB": len(view.payload) / 1e6,
    }


def first_layout(browser, tokens: int = 20_000, runs: int = 5) -> dict:
    words = [" the", " cat", " sat", "ing", "\n", " on", ".", " of", " mat"]
    rng = np.random.default_rng(0)
    view = slt.TokenStrip(rng.standard_normal(tokens), [words[i % 9] for i in range(tokens)])
    layouts, alls, cpus = [], [], []
    for _ in range(runs):
        page = page_of(browser, view)
        start = time.perf_counter()
        while tokens <= 20_000 and page.locator(".strip .t").count() < tokens:
            page.wait_for_timeout(20)
        alls.append(time.perf_counter() - start)
        page.wait_for_function("performance.getEntriesByName('slt:first-layout').length > 0")
        layouts.append(
            page.evaluate("performance.getEntriesByName('slt:first-layout')[0].duration")
        )
        page.close()
        page, trace = page_of(browser, view, trace=True)
        cpus.append(trace.cpu("slt:first-layout"))
        page.close()
    return {
        "tokens": tokens,
        "least_ms": min(layouts),
        "median_ms": statistics.median(layouts),
        "worst_ms": max(layouts),
        "cpu_ms": statistics.median(cpus),
        "all_s": statistics.median(alls),
    }


def main() -> None:
    from playwright.sync_api import sync_playwright

    found = os.environ.get("SLT_CHROMIUM") or shutil.which("chromium")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        print(f"Chromium {browser.version}, headless")
        for tokens, draws in ((4000, 400), (20_000, 400)):
            r = click_to_recoloured(browser, tokens, draws)
            print(
                f"click to recoloured strip, {r['tokens']:>6} tokens x {r['draws']} draws: "
                f"median {r['median_ms']:.0f} ms, least {r['least_ms']:.0f}, "
                f"90 % {r['p90_ms']:.0f}, jump {r['jump_ms']:.0f}, "
                f"CPU {r['cpu_ms']:.0f} (state {r['state_MB']:.1f} MB; "
                "wanted at 4,000: median <= 50 ms)"
            )
        for tokens in (20_000, 100_000):
            r = first_layout(browser, tokens)
            print(
                f"first layout of {r['tokens']:>6} tokens: median {r['median_ms']:.0f} ms, least "
                f"{r['least_ms']:.0f}, worst {r['worst_ms']:.0f}, CPU {r['cpu_ms']:.0f} "
                "(wanted at 20,000: median <= 100 ms)"
                + (f"; all in the page after {r['all_s']:.1f} s" if tokens <= 20_000 else "")
            )
        browser.close()
    for path in sorted(STATIC.glob("*.js")):
        print(f"bundle {path.name:<14} {path.stat().st_size / 1024:5.1f} kB (wanted: <= 40 kB)")


if __name__ == "__main__":
    main()
