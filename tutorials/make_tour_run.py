"""Makes `tour.zarr`, the finished run that tutorial 00 opens.

    python tutorials/make_tour_run.py [tour.zarr]

Four chains around tiny-lm, 200 draws each: about five minutes on two cores.  The kernel state is
taken out at the end (it is most of the bytes), so the shipped run can be read but not continued.
"""

import shutil
import sys
from pathlib import Path

import slt_notebook as slt

STORE = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "tour.zarr")

model, tokenizer = slt.load("tiny-lm")
texts = slt.probe_texts("tiny-lm")
data = slt.text_probe("train", {k: v[2:] for k, v in texts.items()}, tokenizer, length=128)
shown = slt.text_probe(
    "domains",
    {
        **{k: v[0] for k, v in texts.items()},
        "repeated": "The quick brown fox jumps over the lazy dog. " * 6,
        "lists": "def f(x):\n    return [1, 2, 3]\n\ndef g(x):\n    return [1, 2, 3]\n",
    },
    tokenizer,
    length=96,
    limit=1,
)
run = slt.sample(
    slt.causal_lm(model),
    data,
    probes=[shown],
    kernel=slt.SGLD(step_size=2e-5),
    nbeta=1000.0,
    gamma=3000.0,
    chains=4,
    draws=200,
    burnin=200,
    thin=8,
    batch_size=16,
    seed=0,
    store=STORE,
)
print(slt.health(run.tree).to_string())
shutil.rmtree(STORE / "checkpoint")
