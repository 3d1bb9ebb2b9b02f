"""What do tests of several rooms share?  One Chromium for all of them.

$SLT_CHROMIUM or the one on PATH; without one the tests that need it are skipped, except where
CI=true, where they fail.
"""

import os
import shutil

import pytest

ARGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


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
