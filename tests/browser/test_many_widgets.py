"""Five hundred views in one notebook of a real JupyterLab: the kernel's memory, a page in time.

pytest -m slow tests/browser/test_many_widgets.py -s
"""

import os
import subprocess
import sys

import nbformat
import pytest

from tests.browser.lab import ROOT, running
from tests.browser.test_lab import KERNEL, MAKE_RUN, open_file, ours
from tests.runs.problems import until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CELLS, EACH = 50, 10

FIRST = """
import gc, os
import slt_notebook as slt
from IPython.display import display
run = slt.open_run("demo.zarr")
kept = []

def rss():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def show(count):
    makers = (lambda: slt.TraceView(run), lambda: slt.TokenStrip(run),
              lambda: slt.InfluenceExplorer(run), lambda: slt.KernelMatrix(run))
    for k in range(count):
        kept.append(makers[k % len(makers)]())
        display(kept[-1])

show(4)
before = rss()
"""
LAST = """
grown = rss() - before
with open("grown.txt", "w") as file:
    print(f"{grown:.1f}", file=file)
"""

ANSWER = """() => new Promise(done => {
  const at = performance.now();
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now() - at);
    channel.port2.postMessage(0);
  });
})"""


def test_five_hundred_views_in_one_notebook(browser, tmp_path):
    root, home = tmp_path / "root", tmp_path / "home"
    root.mkdir()
    home.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MAKE_RUN, str(root / "demo.zarr")]
    subprocess.run(command, check=True, env=environment)
    sources = [FIRST.strip(), *[f"show({EACH})"] * CELLS, LAST.strip()]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nb.metadata["kernelspec"] = KERNEL
    nbformat.write(nb, root / "many.ipynb")
    with running(root, home) as address:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        page = context.new_page()
        page.set_default_timeout(120_000)
        complaints = []
        page.on("pageerror", lambda e: complaints.append(e.stack) if ours(e) else None)
        page.goto(f"{address}/lab?reset")
        page.wait_for_selector(".jp-Launcher")
        open_file(page, "many.ipynb")
        page.locator(".jp-Notebook:visible .jp-CodeCell").first.wait_for()
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        done = root / "grown.txt"  # cells out of sight have no place on the page
        until(lambda: done.exists() and done.read_text().strip(), 900)
        grown = float(done.read_text())
        page.keyboard.press("Escape")
        page.keyboard.press("Control+End")
        memory = context.new_cdp_session(page).send("Runtime.getHeapUsage")
        heap = memory["usedSize"] / 1e6
        waits = sorted(page.evaluate(ANSWER) for _ in range(21))
        drawn = page.locator(".slt").count()
        # The last views are drawn and answer the keyboard.
        strip = page.locator(".jp-Notebook:visible .slt.traces").last
        strip.scroll_into_view_if_needed()
        handle = strip.locator("[role=slider]").first
        handle.focus()
        was = handle.get_attribute("aria-valuenow")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(500)
        now = handle.get_attribute("aria-valuenow")
        if os.environ.get("SLT_SHOTS"):
            page.screenshot(path=os.path.join(os.environ["SLT_SHOTS"], "many.png"))
        context.close()
    frame = f"frame {waits[10]:.0f} ms (worst {waits[-1]:.0f})"
    print(f"\nkernel {grown:.1f} MB; page heap {heap:.0f} MB, {drawn} drawn, {frame}")
    assert complaints == []
    assert now != was
    assert grown / (CELLS * EACH) < 0.2
    assert waits[10] < 200, waits
