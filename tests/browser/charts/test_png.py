"""Every chart is saved as a PNG of its picture, in an exported page with its policy in force."""

import io

import numpy as np
import pytest

import slt_notebook as slt
from tests import cases_bench
from tests.browser.maps.test_embedding import clusters
from tests.browser.maps.test_matrix import matrix
from tests.browser.offline import opened
from tests.cases import synthetic_tree
from tests.views.charts.test_compression import series

pytestmark = pytest.mark.browser
Image = pytest.importorskip("PIL.Image")
VIEWS = {
    "traces": lambda: slt.TraceView(synthetic_tree()),
    "compression": lambda: slt.CompressionView(series(8)),
    "samplers": lambda: slt.SamplerBenchmark(cases_bench.benchmark()),
    "kernel": matrix,
    "map": clusters,
}


@pytest.mark.parametrize("name", VIEWS)
def test_the_picture_is_saved(name, browser, tmp_path):
    path = tmp_path / "page.html"
    VIEWS[name]().save_html(path)
    with opened(browser, path) as page:
        with page.expect_download() as saved:
            page.get_by_role("button", name="PNG", exact=True).click()
        assert saved.value.suggested_filename.endswith(".png")
        picture = Image.open(io.BytesIO(saved.value.path().read_bytes())).convert("RGB")
    assert min(picture.size) >= 200
    pixels = np.asarray(picture).reshape(-1, 3)
    drawn = (pixels != pixels[0]).any(1).mean()  # the corner is background
    assert 0.005 < drawn < 0.99
