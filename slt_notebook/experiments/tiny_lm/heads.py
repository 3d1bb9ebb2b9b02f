"""Sweeps over the heads of `tiny-lm`, behind tutorials 04 and 05.

    OMP_NUM_THREADS=1 nice slt-notebook experiment tiny-lm-heads sample --folder RUNS
    slt-notebook experiment tiny-lm-heads reduce --folder RUNS --out tutorials

`sample` goes on where it was stopped (about half an hour of one core in all).  `reduce` keeps the
moments that the estimates need, a few megabytes.  One setting for everything: only values of one
setting may be compared.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

import slt_notebook as slt
from slt_notebook.estimators.components.moments import save
from slt_notebook.experiments import argument_parser

LAST = "step24000"
CHECKPOINTS = ("step148", "step633", "step1570", "step3897", "step6723", LAST)
SETTING = {
    "kernel": slt.SGLD(step_size=5e-5), "nbeta": 2000.0, "gamma": 1500.0, "batch_size": 8,
    "progress": False,
}  # fmt: skip
CODE = ("code", "pydoc", "sqldoc")
PROSE = ("novels", "scripture", "speeches")


def texts(count: int = 2):
    """The shown texts (two windows of each domain) and the other texts, which are sampled on."""
    _, tokenizer = slt.load("tiny-lm")
    found = slt.probe_texts("tiny-lm")
    shown = slt.text_probe(
        "shown", {k: v[:count] for k, v in found.items()}, tokenizer, length=128, limit=2
    )
    train = slt.text_probe("train", {k: v[count:] for k, v in found.items()}, tokenizer, length=128)
    parts = {
        name: slt.text_probe("train", {k: found[k][count:] for k in domains}, tokenizer, length=128)
        for name, domains in (("code", CODE), ("prose", PROSE))
    }
    return shown, train, parts


def loss_at(step: str):
    return slt.load("tiny-lm", revision=step)[0]


def response(folder: Path, seed: int, draws: int, full: bool = True) -> None:
    """Losses of the shown texts over draws, a run per head, at the last checkpoint."""
    shown, train, _ = texts()
    slt.sweep(
        loss_at, train, checkpoints=[LAST], components=[*(["full"] if full else []), "l*.h*"],
        probes=[shown], chains=4, draws=draws, thin=2, burnin=40, seed=seed,
        store=folder / f"response-{seed}", **SETTING,
    )  # fmt: skip
    print("response", seed, flush=True)


def control(folder: Path) -> None:
    """Sweep the same without a loss: independent draws from the exact law at nbeta = 0."""
    shown, train, _ = texts()
    slt.sweep(
        loss_at, train, checkpoints=[LAST], components=["full", "l*.h*"], probes=[shown],
        chains=4, draws=40, store=folder / "control", **{**SETTING, "nbeta": 0.0},
    )  # fmt: skip
    print("control", flush=True)


def training(folder: Path) -> None:
    """Refined LLCs over training."""
    _, train, _ = texts()
    slt.sweep(
        loss_at, train, checkpoints=CHECKPOINTS, components=["l*.h*"], chains=2, draws=30,
        burnin=40, store=folder / "training", **SETTING,
    )  # fmt: skip
    print("training", flush=True)


def datasets(folder: Path) -> None:
    """Sweep the same on code and on prose alone, at the last checkpoint."""
    _, _, parts = texts()
    slt.sweep(
        loss_at, parts, checkpoints=[LAST], components=["l*.h*"], chains=2, draws=30, burnin=40,
        store=folder / "datasets", **SETTING,
    )  # fmt: skip
    print("datasets", flush=True)


def sample(folder: Path) -> None:
    response(folder, seed=0, draws=75)
    control(folder)
    response(folder, seed=1, draws=30, full=False)
    response(folder, seed=2, draws=30, full=False)
    training(folder)
    datasets(folder)


def reduce(folder: Path, out: Path) -> None:
    """Moments and refined LLCs of the sweeps, small enough to ship."""
    out = out / "heads"
    out.mkdir(parents=True, exist_ok=True)

    def keep(name: str, data: xr.Dataset) -> None:
        shutil.rmtree(out / f"{name}.zarr", ignore_errors=True)
        save(data, out / f"{name}.zarr")
        print(name, dict(data.sizes), flush=True)

    keep("response", slt.moments(folder / "response-0"))
    keep("control", slt.moments(folder / "control"))
    keep("final", slt.refined_llc(folder / "response-0"))
    seeds = [slt.refined_llc(slt.moments(folder / f"response-{s}")) for s in (1, 2)]
    both = xr.concat([s[["llc", "llc_halves"]] for s in seeds], "seed", compat="override",
                     coords="minimal")  # fmt: skip
    keep("seeds", both.assign_coords(seed=[1, 2]).astype("f4"))
    keep("training", slt.refined_llc(folder / "training"))
    keep("datasets", slt.refined_llc(folder / "datasets"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("tiny-lm-heads", __doc__)
    parser.add_argument("verb", choices=["sample", "reduce"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("tutorials"))
    asked = parser.parse_args(arguments)
    if asked.verb == "sample":
        sample(asked.folder)
    else:
        reduce(asked.folder, asked.out)
