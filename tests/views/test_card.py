"""The card says what is in the run, also when the run is hostile, unfinished or broken."""

import json

import numpy as np

from slt_notebook import names
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.views.card import run_card, run_text
from tests.cases import synthetic_tree
from tests.views.charts.test_traces import with_divergence


def test_both_forms_say_the_same():
    tree = synthetic_tree()
    html, text = run_card(tree, "runs/a.zarr"), run_text(tree, "runs/a.zarr")
    mean = f"LLC {float(llc(tree)['mean']):.3g}"
    for part in (mean, "95 % interval", "77", "0123456789abcdef", "0.001", "4 × 50", "20 steps"):
        assert part in html
        assert part in text
    assert "slt.open_run(&#x27;runs/a.zarr&#x27;)" in html
    assert "slt.open_run('runs/a.zarr')" in text
    assert "train" in html
    assert "R-hat" in html
    assert html.count("<details") == 6
    assert "<script" not in html
    assert len(html) < 40_000


def test_hostile_names_are_text():
    tree = synthetic_tree(probe="<img src=x onerror=alert(1)>")
    tree.attrs[names.A_MODEL] = "<script>alert(1)</script>"
    html = run_card(tree, "<b>.zarr", {"stage": "<i>sampling", "message": ""}, name="<u>")
    for bad in ("<img", "<script", "<b>.zarr", "<i>", "<u>"):
        assert bad not in html


def test_unfinished_diverged_and_in_memory():
    tree = with_divergence(synthetic_tree())
    assert "not complete" in run_text(tree)
    assert "in memory only" in run_text(tree)
    assert "diverged: the loss of its batch was not finite at step 60" in run_card(tree)
    live = {"stage": "sampling", "draw": 3, "draws": 50, "seconds_left": 75}
    assert "sampling, draw 3 of 50, 1 min 15 s left" in run_text(tree, progress=live)


def test_a_run_with_nothing_left_still_has_a_card():
    tree = synthetic_tree(chains=1, draws=2, burnin=0, thin=1)
    data = tree[names.SAMPLING].to_dataset()
    data[names.LOSS][:] = np.nan
    data[names.STATUS][:] = names.STATUS_POSITION
    tree[names.SAMPLING] = data
    tree.attrs[names.A_TASK] = json.dumps(["no", "task"])
    tree.attrs[names.A_VERSIONS] = "{broken"
    html = run_card(tree)
    assert "no LLC" in html
    assert "nothing finite to draw" in html
