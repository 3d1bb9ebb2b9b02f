"""An installed wheel works without the checkout; run by .ci/run in an empty environment."""

from pathlib import Path

import slt_notebook as slt

assert "site-packages" in slt.__file__, slt.__file__
model, tokenizer = slt.load("tiny-lm")
data = slt.text_probe("smoke", slt.probe_texts("tiny-lm"), tokenizer, length=48, limit=2)
run = slt.sample(
    slt.causal_lm(model), data, probes=[data], kernel=slt.SGLD(2e-5), nbeta=1000.0, gamma=3000.0,
    chains=2, draws=20, batch_size=8, store="smoke.zarr",
)  # fmt: skip
print(slt.llc(run)["mean"].item(), run)
page = slt.view(run.tree).save_html("smoke.html")
assert Path(page).stat().st_size > 100_000
assert len(slt.revisions("tiny-lm")) >= 12
print("the wheel works")
