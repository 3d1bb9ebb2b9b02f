"""Influence between classes of tokens while a model learns pairs, brackets and repeats.

    slt-notebook experiment mini-lm OUT.nc [FOLDER]      # a quarter of an hour of one core

Trains a GPT-2 of 2 layers from scratch on `mini_language` (its three abilities arise one after the
other), samples around its checkpoints with one setting, and keeps for each the loss of every class
of tokens and the mean influence between classes: covariance and correlation, pairs of different
sequences, with and without pairs of one token.  FOLDER keeps the runs: it can go on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from slt_notebook import names
from slt_notebook.estimators.influence.groups import group_influence
from slt_notebook.estimators.llc.llc import llc
from slt_notebook.experiments import argument_parser
from slt_notebook.models.losses.causal_lm import causal_lm
from slt_notebook.models.probes import Probe, token_probe
from slt_notebook.toys.mini_language import ABILITIES, ROLES, Language, Sample

STEPS, BATCH, RATE, WARMUP = 4000, 32, 2e-3, 50
CHECKPOINTS = (
    0, 20, 45, 70, 100, 150, 220, 320, 450, 650, 900, 1200, 1600, 2000, 2500, 3200, 4000,
)  # fmt: skip
SETTING = {
    "nbeta": 1000.0, "gamma": 3000.0, "chains": 4, "draws": 80, "burnin": 100, "thin": 3,
    "batch_size": 16, "seed": 0,
}  # fmt: skip
STEP_SIZE = 2e-5
FILTERS = {"any token": ("same_example",), "other tokens": ("same_example", "same_token")}
GROUPS = {**ABILITIES, "new words": "fresh"}
"""Classes of tokens; new words are a control that nothing can be learned about."""


def model(language: Language, seed: int = 0, width: int = 48) -> GPT2LMHeadModel:
    """Untrained, without dropout; 63,024 parameters with `Language()`."""
    config = GPT2Config(
        vocab_size=language.vocabulary, n_positions=language.length, n_embd=width, n_layer=2,
        n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config).eval()


def train(
    language: Language, steps: int = STEPS, seed: int = 0, batch: int = BATCH, rate: float = RATE
) -> Iterator[tuple[int, GPT2LMHeadModel]]:
    """`(step, model)` after every step, from 0; one model, changed in place.

    AdamW, warm-up of 50 steps, then a constant rate, so that stages are not those of a schedule;
    fresh sequences every step.
    """
    gpt = model(language, seed)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=rate, weight_decay=0.01)
    warm = lambda step: min(1.0, (step + 1) / WARMUP)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm)
    yield 0, gpt
    for step in range(1, steps + 1):
        ids = torch.from_numpy(language.sample(batch, 1_000_003 * (seed + 1) + step).ids)
        logits = gpt(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = F.cross_entropy(logits.reshape(-1, language.vocabulary), ids[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        yield step, gpt


def groups(sample: Sample) -> dict[str, np.ndarray]:
    """Which predicted tokens belong to which class, `[example, token]`."""
    role = sample.role[:, 1:]
    return {name: role == ROLES.index(which) for name, which in GROUPS.items()}


def class_losses(per_token: np.ndarray, masks: dict[str, np.ndarray]) -> tuple[list, list]:
    """Mean loss of every class, and its standard error over sequences (a ratio of sums)."""
    means, errors = [], []
    for mask in masks.values():
        total, count = np.where(mask, per_token, 0).sum(1), mask.sum(1)
        mean = total.sum() / count.sum()
        left = total - mean * count
        means.append(float(mean))
        errors.append(float(np.sqrt(len(left) / (len(left) - 1) * (left**2).sum()) / count.sum()))
    return means, errors


def curve_steps(steps: int = STEPS, count: int = 60) -> list[int]:
    """Where losses are measured: 0 and log-spaced steps."""
    return sorted({0, *(round(float(s)) for s in np.geomspace(5, steps, count))})


def bands(step: np.ndarray, loss: np.ndarray, blind: float, floor: float) -> tuple[float, float]:
    """Return the steps between which an ability is learned: from 10 to 90 % of the way down.

    The way leads from `blind`, the best loss without the ability, to `floor`, the best loss with
    it, both in nats.  First crossings, linear between the measured steps; NaN where not reached.
    """
    share = (blind - np.asarray(loss)) / (blind - floor)
    ends = []
    for level in (0.1, 0.9):
        above = np.flatnonzero(share >= level)
        if not len(above) or above[0] == 0:
            ends.append(np.nan if not len(above) else float(step[0]))
            continue
        k = above[0]
        part = (level - share[k - 1]) / (share[k] - share[k - 1])
        ends.append(float(step[k - 1] + part * (step[k] - step[k - 1])))
    return ends[0], ends[1]


def measure(run, masks: dict[str, np.ndarray]) -> xr.Dataset:
    """Mean influence between classes at one checkpoint, and whether the run can be trusted."""
    found = {}
    for kind, normalize in (("covariance", False), ("correlation", True)):
        each = [
            group_influence(run, masks, probe="shown", normalize=normalize, exclude=leave)
            for leave in FILTERS.values()
        ]
        over = xr.DataArray(list(FILTERS), dims="pairs_of", name="pairs_of")
        for key, name in (("influence", kind), ("stderr", f"{kind}_stderr")):
            found[name] = xr.concat([one[key] for one in each], over)
    loss = run[names.PROBE]["shown"][names.LOSS]
    ok = llc(run)
    spread = loss.std((names.CHAIN, names.DRAW)).values
    scalars = (("llc", "mean"), ("llc_mcse", "mcse"), ("rhat", "rhat"))
    return xr.Dataset(found).assign(
        {
            "spread": ("group", [float(np.sqrt((spread[m] ** 2).mean())) for m in masks.values()]),
            **{k: float(ok[v]) for k, v in scalars},
        }
    )


def data(language: Language) -> tuple[Probe, Probe, Sample]:
    """`(train, shown, the sample behind shown)`."""
    text = language.strings()

    class Strings:  # what `token_probe` asks of a tokenizer
        all_special_ids: tuple = ()
        backend_tokenizer = None

        def convert_ids_to_tokens(self, i):
            return text[i]

    shown = language.sample(48, 7)
    return (
        token_probe("train", language.sample(4096, 5).ids),
        token_probe("shown", shown.ids, Strings()),
        shown,
    )


def trained(language: Language, checkpoints: Sequence[int], seed: int, folder: Path):
    """`(weights {step: state}, steps, losses, errors [step, group])`, kept in `folder`."""
    about = f"{language!r} {tuple(checkpoints)} {seed} {(BATCH, RATE, WARMUP)}"
    cache = folder / f"training{seed}.pt"
    if cache.exists():
        found = torch.load(cache, weights_only=False)
        if found["about"] == about:
            return found["kept"], found["steps"], found["losses"], found["errors"]
    held = language.sample(256, 6)
    masks, batch = groups(held), token_probe("held", held.ids).tensors("cpu")
    at, curve, kept = curve_steps(max(checkpoints)), [], {}
    for step, gpt in train(language, max(checkpoints), seed):
        if step in checkpoints:
            kept[step] = {k: v.clone() for k, v in gpt.state_dict().items()}
        if step in at:
            loss = causal_lm(gpt)
            curve.append(class_losses(loss.evaluate(loss.params, batch).numpy(), masks))
            print(step, np.round(curve[-1][0], 3), flush=True)
    found = {
        "about": about, "kept": kept, "steps": np.array(at),
        "losses": np.array([c[0] for c in curve]), "errors": np.array([c[1] for c in curve]),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(found, cache)
    return kept, found["steps"], found["losses"], found["errors"]


def experiment(
    out: str,
    folder: str | None = None,
    checkpoints: Sequence[int] = CHECKPOINTS,
    seed: int = 0,
    language: Language | None = None,
    setting: Mapping[str, Any] = SETTING,
) -> None:
    from slt_notebook.core.kernels.sgld import SGLD
    from slt_notebook.runs.sample import sample

    torch.set_num_threads(1)
    language = language or Language()
    where = Path(folder) if folder else Path(tempfile.mkdtemp())
    kept, steps, losses, errors = trained(language, checkpoints, seed, where)
    blind, floor = language.blind(), language.floor()
    names_of = list(GROUPS)
    found = []
    train_probe, shown, inside = data(language)
    masks = groups(inside)
    gpt = model(language, seed)
    for step in checkpoints:
        gpt.load_state_dict(kept[step])
        run = sample(
            causal_lm(gpt), train_probe, probes=[shown], kernel=SGLD(STEP_SIZE), progress=False,
            store=where / f"seed{seed}_step{step}.zarr", **setting,
        )  # fmt: skip
        found.append(measure(run.tree, masks))
        one = found[-1]
        diagonal = one.covariance.sel(pairs_of="other tokens").values.diagonal()
        print(step, f"llc {float(one.llc):.1f} rhat {float(one.rhat):.3f}", diagonal, flush=True)
    whole = xr.concat(found, xr.DataArray(list(checkpoints), dims="step", name="step"))
    whole = whole.assign(
        loss=(("curve", "group"), losses),
        loss_stderr=(("curve", "group"), errors),
        size=("group", [int(m.sum()) for m in masks.values()]),
        band=(
            ("ability", "bound"),
            [bands(steps, losses[:, names_of.index(a)], blind[a], floor[a]) for a in ABILITIES],
        ),
        blind=("ability", [blind[a] for a in ABILITIES]),
        floor=("ability", [floor[a] for a in ABILITIES]),
    ).assign_coords(curve=steps, ability=list(ABILITIES))
    whole.attrs = {
        **{k: str(v) for k, v in setting.items()}, "step_size": STEP_SIZE, "training_seed": seed,
        "parameters": gpt.num_parameters(), "language": repr(language),
        names.A_SIGN: "negative = helpful",
    }  # fmt: skip
    whole.map(lambda v: v.astype("f4") if v.dtype == "f8" else v, keep_attrs=True).to_netcdf(
        out,
        engine="scipy",  # netCDF 3: read without further packages
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("mini-lm", __doc__)
    parser.add_argument("out", metavar="OUT.nc")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="where the runs are kept")
    given = parser.parse_args(arguments)
    experiment(given.out, given.folder)
