"""Options and fixtures that tests of several rooms share.

`--all` adds the exhaustive tier: tests marked `exhaustive`, which repeat on more families, seeds or
tutorials what the ordinary tests show on one.  Continuous integration runs it.

The Chromium is $SLT_CHROMIUM or the one on PATH; without one the tests that need it are skipped,
except where CI=true, where they fail.
"""

import os
import shutil

import pytest

# Doctests are collected from every module; these are programs, not tests.
collect_ignore_glob = ["bench/*", "wheel_smoke.py", "**/make_*.py"]

ARGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the exhaustive tier as well")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--all"):
        return
    skip = pytest.mark.skip(reason="exhaustive: run with --all")
    for item in items:
        if "exhaustive" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def browser():
    found = os.environ.get("SLT_CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium: install it, or set SLT_CHROMIUM")
        pytest.skip("no Chromium: install it, or set SLT_CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=ARGS)
        yield running
        running.close()
