"""The kit works in a real JupyterLab: tiles, run viewer, live widgets, export."""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from tests.browser.lab import ROOT, running
from tests.browser.offline import opened, states

pytestmark = pytest.mark.browser
KERNEL = {"name": "python3", "display_name": "Python 3"}

MAKE_RUN = """
import sys
from tests.cases import synthetic_tree
import warnings
warnings.simplefilter("ignore")
synthetic_tree().to_zarr(sys.argv[1], consolidated=False)
"""

MONITOR = """
import threading
from slt_notebook.views.monitor import RunMonitor
class Fake:
    def __init__(self):
        self.stage, self.step, self.log = "sampling", 0, []
    def progress(self):
        self.step += self.stage == "sampling"
        step = min(self.step, 999)
        return dict(stage=self.stage, step=step, steps=1000, draw=step, draws=1000,
                    tokens_per_s=1e4, seconds_left=60.0, elapsed=1.0, message="",
                    chains=[dict(chain=0, draw=self.step, status="ok")],
                    loss=[[2.0 + k % 3 for k in range(min(self.step, 50))]])
    def pause(self): self.stage = "paused"; self.log.append("pause")
    def resume(self): self.stage = "sampling"; self.log.append("resume")
    def cancel(self): self.stage = "stopped"; self.log.append("cancel")
run = Fake()
RunMonitor(run)
"""

BLOCKING = """
import time
from IPython.display import display
busy = Fake()
display(RunMonitor(busy))
try:
    while True:
        time.sleep(0.1)
except KeyboardInterrupt:
    busy.cancel()
    print("interrupted and kept")
"""

TRACES = """
import slt_notebook as slt
view = slt.TraceView(slt.open_run("demo.zarr"))
view
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    if shutil.which("jupyter") is None:
        pytest.importorskip("jupyterlab")
    root, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("home")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MAKE_RUN, str(root / "demo.zarr")]
    subprocess.run(command, check=True, env=environment)
    (root / "plain").mkdir()
    (root / "slt-tutorials").mkdir()
    for name in ("00_tour", "01_first_llc"):
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A tutorial")])
        nb.metadata["kernelspec"] = KERNEL
        nbformat.write(nb, root / "slt-tutorials" / f"{name}.ipynb")
    nb = nbformat.v4.new_notebook()
    sources = (MONITOR, "run.log", TRACES, "view.burnin", BLOCKING)
    nb.cells = [nbformat.v4.new_code_cell(text.strip()) for text in sources]
    nb.metadata["kernelspec"] = KERNEL
    nbformat.write(nb, root / "live.ipynb")
    with running(root, home) as address:
        yield address, root


@pytest.fixture(scope="module")
def page(lab, browser):
    """One Lab for all tests of this file, which run in order; no error of ours in its console."""
    address, _ = lab
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    made = context.new_page()
    made.set_default_timeout(60_000)
    complaints = []
    made.on("console", lambda m: complaints.append(m.text) if "slt" in m.text.lower() else None)
    made.on("pageerror", lambda error: complaints.append(error.stack) if ours(error) else None)
    made.goto(f"{address}/lab?reset")
    made.wait_for_selector(".jp-Launcher", timeout=90_000)
    yield made
    context.close()
    assert complaints == []


def ours(error):
    """Whether an uncaught error comes from our code, or from nobody knows where.

    Widget modules are blob: addresses and the extension's name is in its path.  JupyterLab's own
    bundles throw now and then while it takes cells down (React's "removeChild"); a stack that lies
    wholly within them is not ours.
    """
    stack = error.stack or ""
    frames = [line for line in stack.splitlines() if line.strip().startswith("at ")]
    lab = [line for line in frames if "/static/lab/" in line]
    return not frames or len(lab) < len(frames) or "slt" in stack


def open_file(page, path):
    page.evaluate("path => window.jupyterapp.commands.execute('docmanager:open', { path })", path)


def run_cell(page, index):
    """Run one cell of the notebook shown; returns its output area."""
    cell = page.locator(".jp-Notebook:visible .jp-CodeCell").nth(index)
    cell.locator(".jp-InputArea-editor").click()
    page.keyboard.press("Control+Enter")
    return cell.locator(".jp-OutputArea")


def test_the_extension_is_listed(tmp_path):
    from slt_notebook.share.bundles import LABEXTENSION

    manifest = json.loads((LABEXTENSION / "package.json").read_text())
    assert manifest["name"] == "slt-notebook"
    (tmp_path / "labextensions").mkdir()
    (tmp_path / "labextensions" / "slt-notebook").symlink_to(LABEXTENSION)
    found = subprocess.run(
        [sys.executable, "-m", "jupyter", "labextension", "list"],
        env={**os.environ, "JUPYTER_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    line = next(x for x in (found.stdout + found.stderr).splitlines() if "slt-notebook" in x)
    assert "enabled" in line
    assert "OK" in line


def test_tutorials_are_tiles_that_open(page):
    section = page.locator(".jp-Launcher-section", has_text="Singular learning theory")
    section.wait_for()
    assert section.locator(".jp-LauncherCard").all_inner_texts() == ["00 Tour", "01 First LLC"]
    section.locator(".jp-LauncherCard").first.click()
    page.locator(".jp-Notebook:visible h1", has_text="A tutorial").wait_for()


def test_a_run_folder_has_a_viewer_and_a_plain_one_has_not(page, lab):
    item = page.locator(".jp-DirListing-item", has_text="plain")
    item.click(button="right")
    page.locator(".lm-Menu-item", has_text="Rename").first.wait_for()
    assert page.locator(".lm-Menu-item:visible", has_text="Open run viewer").count() == 0
    page.keyboard.press("Escape")
    page.locator(".jp-DirListing-item", has_text="demo.zarr").click(button="right")
    page.locator(".lm-Menu-item", has_text="Open run viewer").click()
    page.locator(
        ".jp-Notebook:visible .jp-CodeCell", has_text='slt.open_run("demo.zarr")'
    ).wait_for()
    page.locator(".jp-Notebook:visible .jp-OutputArea .slt").first.wait_for(timeout=90_000)
    assert (lab[1] / "demo.view.ipynb").is_file()


def test_the_monitor_pauses_and_stops_a_live_run(page):
    open_file(page, "live.ipynb")
    page.locator(".jp-Notebook:visible .jp-CodeCell", has_text="class Fake").wait_for()
    out = run_cell(page, 0)
    stage = out.locator(".monitor .stage")
    stage.wait_for(timeout=90_000)
    assert "Sampling" in stage.inner_text()
    out.get_by_role("button", name="Pause").click()
    stage.filter(has_text="Paused").wait_for()
    step = out.locator(".monitor dd").first.inner_text()
    page.wait_for_timeout(1200)
    assert out.locator(".monitor dd").first.inner_text() == step
    out.get_by_role("button", name="Resume").click()
    stage.filter(has_text="Sampling").wait_for()
    out.get_by_role("button", name="Stop").click()
    stage.filter(has_text="Stopped").wait_for()
    assert out.get_by_role("button", name="Stop").count() == 0
    log = run_cell(page, 1)
    log.get_by_text("['pause', 'resume', 'cancel']").wait_for()


def test_a_busy_kernel_is_explained(page):
    out = run_cell(page, 4)
    stage = out.locator(".monitor .stage")
    stage.wait_for()
    step = out.locator(".monitor dd").first
    before = step.inner_text()
    out.get_by_role("button", name="Pause").click()
    out.locator(".monitor .message", has_text="interrupt it").wait_for()
    assert step.inner_text() != before, "the picture follows a blocking cell, too"
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    out.get_by_text("interrupted and kept").wait_for()


def test_what_is_dragged_in_the_browser_is_known_in_python(page):
    out = run_cell(page, 2)
    handle = out.locator("[role=slider]")
    handle.wait_for()
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    # Python answers with the checks at this burn-in.
    out.locator(".traces .answer", has_text="burn-in 23").wait_for()
    out.locator(".traces .answer", has_text="95 % interval").wait_for()
    assert page.locator(".jp-Notebook:visible .jp-CodeCell").count() == 5, "keys stay in the view"
    run_cell(page, 3).get_by_text("23", exact=True).wait_for()


def test_dark_theme_reaches_the_views(page):
    set_theme = "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })"
    page.evaluate(set_theme, "JupyterLab Dark")
    page.locator(".jp-Notebook:visible .slt.traces[data-slt-theme=dark]").wait_for()
    if os.environ.get("SLT_SHOTS"):
        page.screenshot(path=os.path.join(os.environ["SLT_SHOTS"], "lab-dark.png"))
    page.evaluate(set_theme, "JupyterLab Light")
    page.locator(".jp-Notebook:visible .slt.traces[data-slt-theme=light]").wait_for()
    if os.environ.get("SLT_SHOTS"):
        page.screenshot(path=os.path.join(os.environ["SLT_SHOTS"], "lab-light.png"))


def test_the_export_command_keeps_the_widgets(page, lab, browser, tmp_path):
    _, root = lab
    page.evaluate("() => { window.open = address => { window.asked = address; } }")
    page.evaluate("() => window.jupyterapp.commands.execute('slt:export-html')")
    page.wait_for_function("() => window.asked")
    assert re.search(r"/nbconvert/slt/live\.ipynb\?download=true$", page.evaluate("window.asked"))
    nb = nbformat.read(root / "live.ipynb", as_version=4)
    from slt_notebook.share.exporter import SltExporter

    path = tmp_path / "live.html"
    path.write_text(SltExporter().from_notebook_node(nb)[0], encoding="utf-8")
    with opened(browser, path) as offline:
        assert states(offline) == ["live"] * 3
        assert "burn-in 23" in offline.locator(".traces .answer").inner_text()
        assert "Stopped" in offline.locator(".monitor .stage").first.inner_text()
