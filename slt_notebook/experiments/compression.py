"""Compressibility against the LLC, over checkpoints of four models (2510.12077).

    slt-notebook experiment compression characters --runs FOLDER --out FILE.nc
    slt-notebook experiment compression tiny-lm --out FILE.nc
    slt-notebook experiment compression digits --out FILE.nc
    slt-notebook experiment compression regression --runs RUN.zarr --out FILE.nc

`characters` wants the folder that `toys/characters.py` wrote, `regression` a run of
`toys/in_context/training.py`.  Of every checkpoint: loss gaps of the schemes at every level, the
LLC at one setting (nbeta 30, gamma 300, the published one for small models), the trace of the
Hessian.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from slt_notebook.core.kernels.sgld import SGLD
from slt_notebook.estimators.llc.compression import compression_series
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.experiments import argument_parser, characters
from slt_notebook.models.compression.grids import odd_grid
from slt_notebook.models.curvature import hessian_trace
from slt_notebook.models.load import load, probe_texts, revisions
from slt_notebook.models.losses.causal_lm import causal_lm
from slt_notebook.models.losses.supervised import supervised
from slt_notebook.models.probes import Probe, array_probe, text_probe, token_probe
from slt_notebook.runs.compression import critical_compression
from slt_notebook.runs.sample import sample

TOLERANCES = (0.01, 0.03, 0.1, 0.3)
NBETA, GAMMA = 30.0, 300.0
SHARES = tuple(k / 20 for k in range(20))
SCHEMES: dict[str, tuple[str, dict]] = {
    "quantize": ("quantize", {"granularity": "global"}),
    "quantize per tensor": (
        "quantize",
        {"granularity": "tensor", "ranges": (0.4, 0.7, 1.0), "levels": odd_grid(count=16)},
    ),
    "factorize": ("factorize", {}),
    "prune": ("prune", {"levels": SHARES}),
    "noise": ("noise", {"repeats": 2, "levels": tuple(np.geomspace(5e-3, 1, 12))}),
}


@dataclass(frozen=True)
class Subject:
    """Checkpoints of one model: what is evaluated, and what is sampled on."""

    name: str
    checkpoints: Callable[[], Iterator[tuple[int, Any]]]
    shown: Probe  # the examples whose loss counts
    data: Probe  # the examples that the LLC is sampled on
    step_size: float
    batch: int
    chains: int = 4
    draws: int = 100
    schemes: Mapping[str, tuple[str, dict]] = field(default_factory=lambda: SCHEMES)


def of_characters(folder: Path) -> Subject:
    found = np.load(folder / "text.npz")
    steps = [int(p.name[4:]) for p in folder.glob("step*")]

    def checkpoints():
        for step in sorted(steps):
            yield step, causal_lm(GPT2LMHeadModel.from_pretrained(folder / f"step{step}"))

    shown = token_probe("held_out", characters.windows(found["held"], 192, 1))
    data = token_probe("train", characters.windows(found["train"], 4096, 2))
    return Subject("characters", checkpoints, shown, data, 1e-3, 32, chains=3)


def of_tiny_lm(every: int = 2) -> Subject:
    _, tokenizer = load("tiny-lm")
    texts = probe_texts("tiny-lm")
    chosen = [r for r in revisions("tiny-lm") if int(r[4:]) >= 35][::-every][::-1]

    def checkpoints():
        for name in chosen:
            yield int(name[4:]), causal_lm(load("tiny-lm", revision=name)[0])

    data = text_probe("held_out", texts, tokenizer, length=128)
    picked = np.linspace(0, len(data) - 1, 36).astype(int)
    rows = [data.fields["input_ids"][i][data.fields["attention_mask"][i] > 0] for i in picked]
    shown = token_probe("held_out", [r for r in rows if len(r) > 1], tokenizer)
    few = {
        "quantize": ("quantize", {"granularity": "global", "levels": odd_grid(count=14)}),
        "factorize": ("factorize", {"levels": SHARES}),
    }
    return Subject("tiny-lm", checkpoints, shown, data, 1e-3, 8, 3, 60, few)


def digits_network(seed: int = 0) -> nn.Module:
    """8 x 8 pixels to 10 classes: two convolutions and a linear layer, 6,090 parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128, 10),
        )  # fmt: skip


def of_digits(steps: int = 3000, seed: int = 0) -> Subject:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(y, dtype=torch.int64)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    x, y, train = x[order], y[order], 1347
    criterion = partial(F.cross_entropy, reduction="none")

    def checkpoints():
        net = digits_network(seed)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
        generator = torch.Generator().manual_seed(seed + 1)
        wanted = set(characters.checkpoint_steps(steps, 20, 20))
        for step in range(1, steps + 1):
            rows = torch.randint(train, (64,), generator=generator)
            optimizer.zero_grad()
            criterion(net(x[rows]), y[rows]).mean().backward()
            optimizer.step()
            if step in wanted:
                yield step, supervised(net, criterion)

    shown = array_probe("held_out", x[train:], y[train:])
    return Subject(
        "digits", checkpoints, shown, array_probe("train", x[:train], y[:train]), 5e-4, 64
    )


def of_regression(path: Path, count: int = 16) -> Subject:
    """Checkpoints of an in-context regression transformer, at its squared error."""
    from slt_notebook.toys.in_context import local

    run = xr.open_zarr(path)
    steps = run.step.values
    wanted = {int(np.abs(steps - s).argmin()) for s in np.geomspace(100, steps[-1], count)}

    def checkpoints():
        for k in sorted(wanted):
            yield int(steps[k]), local.loss(run, int(k))

    shown, data = local.probe(run, 768, 11), local.probe(run, 4096, 12)
    return Subject("regression", checkpoints, shown, data, 5e-4, 128)


def measure(subject: Subject) -> xr.Dataset:
    """Every number of a subject, as `slt.CompressionView` takes it; see the module."""
    steps, sweeps, llcs, parameters = [], [], [], 0
    controls: dict[str, list[float]] = {"hessian_trace": [], "hessian_trace_stderr": []}
    for step, loss in subject.checkpoints():
        begun = time.process_time()
        parameters = sum(v.numel() for v in loss.params.values())
        run = sample(
            loss, subject.data, kernel=SGLD(subject.step_size), nbeta=NBETA, gamma=GAMMA,
            chains=subject.chains, draws=subject.draws, burnin=30, batch_size=subject.batch,
            progress=False,
        )  # fmt: skip
        found = llc(run)
        trace = hessian_trace(loss, subject.shown, rows=64)
        per = {
            label: critical_compression(loss, subject.shown, scheme, TOLERANCES, **options)
            for label, (scheme, options) in subject.schemes.items()
        }
        steps.append(step)
        sweeps.append(per)
        llcs.append(found)
        controls["hessian_trace"].append(trace.mean)
        controls["hessian_trace_stderr"].append(trace.stderr)
        print(
            f"{subject.name} step {step}: loss {float(per['quantize'].init_loss):.4f} "
            f"llc {float(found['mean']):.2f} +- {float(found['mcse']):.2f} tr H {trace.mean:.3g} "
            f"levels {np.round(per['quantize'].critical.values, 1)} "
            f"({time.process_time() - begun:.0f} CPU-s)",
            flush=True,
        )
    return compression_series(steps, sweeps, llcs, controls).assign_attrs(
        subject=subject.name, nbeta=NBETA, gamma=GAMMA, step_size=subject.step_size,
        batch=subject.batch, chains=subject.chains, draws=subject.draws, burnin=30,
        parameters=parameters,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("compression", __doc__)
    parser.add_argument("subject", choices=["characters", "tiny-lm", "digits", "regression"])
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    given = parser.parse_args(arguments)
    if given.subject == "characters":
        subject = of_characters(given.runs)
    elif given.subject == "tiny-lm":
        subject = of_tiny_lm()
    elif given.subject == "digits":
        subject = of_digits()
    else:
        subject = of_regression(given.runs)
    measure(subject).to_netcdf(given.out, engine="scipy")
