"""`slt-notebook demo`: from a trained model to a page, in about a minute.

Samples four chains around the packaged `tiny-lm`, prints the local learning coefficient with its
error and the health of the run, and writes one HTML file that needs neither Python nor a network.
"""

import argparse
import time
from pathlib import Path

import slt_notebook as slt
from slt_notebook.estimators.health import health_text
from slt_notebook.models.probes import Probe

SETTING = {
    "kernel": slt.SGLD(step_size=4e-5),
    "nbeta": 400.0,
    "gamma": 3000.0,
    "chains": 4,
    "draws": 80,
    "burnin": 60,
    "thin": 3,
    "batch_size": 16,
    "seed": 0,
}
"""Chosen so that the chains equilibrate within the burn-in (virial ratio), the loss rises by a few
tenths of a nat, and the rise is neither all localization noise nor gradient noise (`rho_loc`)."""

PROSE = """
# A first look at `tiny-lm`

Four chains sampled the local posterior around the trained weights $w^*$,

$$p(w) \\propto \\exp(-n\\beta L(w) - \\tfrac{{\\gamma}}{{2}} |w - w^*|^2),$$

with $n\\beta = {nbeta:g}$, $\\gamma = {gamma:g}$ and SGLD steps of {step:g}. The **local learning
coefficient** came out as **{llc:.0f} ± {mcse:.0f}** (MCSE; 95 % interval {low:.0f} to
{high:.0f}): the loss of a batch at a draw less the loss of the same batch at $w^*$, times
$n\\beta$. It depends on the setting; compare it only with numbers of the same setting.

| check | value | verdict |
|---|---|---|
{health}
"""

INFLUENCE = """
## Which tokens does the posterior couple?

Click any token below (or move with the arrow keys and press Enter). Every other token is coloured
by its Bayesian influence on it, computed in this page from the losses at all draws. Negative is
helpful: up-weighting that token would lower the loss of the one you clicked.
"""

GAIN = """
## How much does the loss of each token rise around the minimum?

The rise of each token's loss over the draws. Tokens whose loss rises most depend on finely tuned
weights.
"""


def probes(tokenizer) -> tuple[Probe, Probe]:
    """Return (data to sample on, one window of every domain to look at), disjoint passages."""
    texts = slt.probe_texts("tiny-lm")
    data = slt.text_probe("train", {k: v[1:] for k, v in texts.items()}, tokenizer, length=128)
    shown = {k: v[0] for k, v in texts.items()}
    return data, slt.text_probe("domains", shown, tokenizer, length=96, limit=1)


def main(options: argparse.Namespace) -> int:
    """Run the demo; return the exit code."""
    from slt_notebook.share.page import widgets_page

    began = time.monotonic()
    folder = Path(options.out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    store, page = folder / "demo.zarr", folder / "demo.html"
    model, tokenizer = slt.load("tiny-lm")
    data, shown = probes(tokenizer)
    size = sum(p.numel() for p in model.parameters())
    print(f"tiny-lm: {size:,} parameters; {len(data)} windows of {data.name}, {len(shown)} shown")
    run = slt.sample(
        slt.causal_lm(model), data, probes=[shown], store=store, progress=True, **SETTING
    )
    if run.progress()["stage"] != "finished":
        return 130
    tree = run.tree
    result = slt.llc(tree)
    low, high = result["interval"].values
    print(
        f"\nlocal learning coefficient: {float(result['mean']):.1f} ± {float(result['mcse']):.1f} "
        f"(MCSE), 95 % interval {low:.1f} to {high:.1f}\n"
    )
    print(health_text(tree))
    views = make_views(tree, store)
    page.write_text(widgets_page(story(tree, result, views), title="slt-notebook demo"), "utf-8")
    print(
        f"\nwrote {page}: open it in any browser, no network or Python needed"
        f"\n      {store}: every draw; in JupyterLab (slt-notebook lab):"
        f"\n          import slt_notebook as slt"
        f"\n          slt.view(slt.open_run({str(store)!r}))"
        f"\ndone in {time.monotonic() - began:.0f} s"
    )
    return 0


def make_views(tree, store: Path) -> dict:
    """Return the views of the page, linked, with one note."""
    focus, notes = slt.Focus(), slt.notes(store)
    probe = tree["probe/domains"].to_dataset()
    example, token = _loudest(probe)
    if not notes.list():
        notes.add(
            example=example,
            tokens=token,
            text="The loss of this token rises most over the draws. Click it in the explorer: "
            "which tokens' losses move with it?",
            author="slt-notebook demo",
            tags=["demo"],
        )
        notes.save()
    return {
        "trace": slt.TraceView(tree, focus=focus),
        "influence": slt.InfluenceExplorer(probe, query=(example, token), focus=focus, notes=notes),
        "gain": slt.TokenStrip(probe, focus=focus, notes=notes, title="Loss gain"),
    }


def _loudest(probe) -> tuple[str, int]:
    """Return the token whose loss rises most, in units of its spread over chains."""
    rise = (probe.loss.mean("draw") - probe.init_loss).load()
    steady = rise.mean("chain") / (rise.std("chain") + 0.1)
    at = steady.argmax(("example", "token"))
    place = steady.isel(at)
    return str(place.example.values), int(place.token.values)


def story(tree, result, views: dict) -> list:
    """Return the parts of the page in their order."""
    rows = [
        f"| {row.check} | {row.value:.3g} | {row.verdict} |"
        for row in slt.health(tree).itertuples()
    ]
    low, high = result["interval"].values
    prose = PROSE.format(
        nbeta=SETTING["nbeta"],
        gamma=SETTING["gamma"],
        step=SETTING["kernel"].step_size,
        llc=float(result["mean"]),
        mcse=float(result["mcse"]),
        low=low,
        high=high,
        health="\n".join(rows),
    )
    return [
        ("markdown", prose),
        views["trace"],
        ("markdown", INFLUENCE),
        views["influence"],
        ("markdown", GAIN),
        views["gain"],
    ]
