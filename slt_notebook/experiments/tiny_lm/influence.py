"""Influence between classes of tokens while `tiny-lm` is trained.

    slt-notebook experiment tiny-lm-influence OUT.nc [FOLDER]      a quarter of an hour, two cores

Samples around the shipped checkpoints with one setting and keeps, for every checkpoint, the mean
influence between classes of tokens (covariance and correlation, pairs within a sequence and pairs
of one token left out) and the mean loss of each class.  FOLDER keeps the runs: it can go on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.estimators.influence.groups import group_influence
from slt_notebook.experiments import argument_parser
from slt_notebook.models.load import load, probe_texts, revisions
from slt_notebook.models.losses.causal_lm import causal_lm
from slt_notebook.models.probes import Probe, text_probe, token_probe

LENGTH = 64
CHECKPOINTS = (
    "step0", "step35", "step148", "step367", "step2709", "step6723", "step9670", "step24000",
)  # fmt: skip
SETTING = {
    "nbeta": 1000.0, "gamma": 3000.0, "chains": 4, "draws": 60, "burnin": 60, "thin": 2,
    "batch_size": 8, "seed": 0,
}  # fmt: skip
LEFT, RIGHT = set("([{<"), set(")]}>")


def probes(tokenizer) -> tuple[Probe, Probe]:
    """Return `(train, shown)`: the windows to sample on, and other windows to look at.

    `shown` has three windows per domain, of other texts, and one more per domain whose second half
    repeats its first.
    """
    texts = probe_texts("tiny-lm")
    train = text_probe("train", {k: v[4:] for k, v in texts.items()}, tokenizer, length=LENGTH)
    natural = text_probe(
        "shown", {k: v[:2] for k, v in texts.items()}, tokenizer, length=LENGTH, limit=3
    )
    half = LENGTH // 2
    rows, labels = [], []
    for row, label in zip(natural.fields["input_ids"], natural.labels or (), strict=True):
        rows.append(row)
        labels.append(label)
    for domain, several in texts.items():
        ids = tokenizer(several[2], add_special_tokens=False, verbose=False)["input_ids"][:half]
        if len(ids) == half:
            rows.append(np.array([*ids, *ids]))
            labels.append(f"{domain}, repeated")
    keep = [r for r in rows if len(r)]
    return train, token_probe("shown", keep, tokenizer, labels)


def classes(probe: Probe) -> dict[str, np.ndarray]:
    """Which predicted tokens belong to which class, `[example, token]`; classes overlap.

    - induction: the token and the one before it stood together earlier in the sequence;
    - left, right delimiter: the text ends in an opening or closing bracket;
    - word start: a space and a letter; word part: letters without a space;
    - digit: a digit in it.
    """
    ids = probe.fields["input_ids"]
    strings = probe.strings or {}
    text = np.vectorize(lambda i: strings.get(int(i), ""), otypes=[object])(ids[:, 1:])
    on = probe.fields["attention_mask"][:, 1:] == 1
    found = {}
    repeat = np.zeros_like(on)
    for e, row in enumerate(ids):
        seen: set[tuple[int, int]] = set()
        for t in range(1, len(row)):
            pair = (int(row[t - 1]), int(row[t]))
            repeat[e, t - 1] = pair in seen
            seen.add(pair)
    found["induction"] = repeat
    test = lambda f: np.vectorize(lambda s: bool(s) and f(s), otypes=[bool])(text)
    found["left delimiter"] = test(lambda s: s.strip()[-1:] in LEFT)
    found["right delimiter"] = test(lambda s: s.strip()[-1:] in RIGHT)
    found["word start"] = test(lambda s: s[0] == " " and s[1:2].isalpha())
    found["word part"] = test(lambda s: s[0].isalpha())
    found["digit"] = test(lambda s: any(c.isdigit() for c in s))
    return {k: v & on for k, v in found.items()}


def measure(run, groups: dict[str, np.ndarray]) -> xr.Dataset:
    """Mean influence between classes at one checkpoint, cov and corr, and each class's loss."""
    found = {}
    for kind, normalize in (("covariance", False), ("correlation", True)):
        one = group_influence(
            run, groups, probe="shown", normalize=normalize,
            exclude=("same_example", "same_token"),
        )  # fmt: skip
        found[kind] = one["influence"]
        found[f"{kind}_stderr"] = one["stderr"]
    loss = run["probe/shown"][names.INIT_LOSS].values
    means = [np.nanmean(np.where(m, loss, np.nan)) for m in groups.values()]
    spread = [np.nanstd(np.where(m, loss, np.nan)) / np.sqrt(m.sum()) for m in groups.values()]
    size = [int(m.sum()) for m in groups.values()]
    return xr.Dataset(found).assign(
        loss=("group", means), loss_stderr=("group", spread), size=("group", size)
    )


def experiment(
    out: str, folder: str | None = None, checkpoints: Sequence[str] = CHECKPOINTS
) -> None:
    from slt_notebook.core.kernels.sgld import SGLD
    from slt_notebook.runs.sample import sample

    _, tokenizer = load("tiny-lm")
    train, shown = probes(tokenizer)
    groups = classes(shown)
    print({k: int(v.sum()) for k, v in groups.items()}, len(shown), "sequences", flush=True)
    known = revisions("tiny-lm")
    where = Path(folder) if folder else Path(tempfile.mkdtemp())
    found = []
    for label in checkpoints:
        assert label in known
        model, _ = load("tiny-lm", revision=label)
        run = sample(
            causal_lm(model), train, probes=[shown], kernel=SGLD(2e-5), progress=False,
            store=where / f"{label}.zarr", **SETTING,
        )  # fmt: skip
        one = measure(run.tree, groups)
        found.append(one)
        print(label, one.loss.values.round(2), one.covariance.values.diagonal(), flush=True)
    steps = [int(label.removeprefix("step")) for label in checkpoints]
    whole = xr.concat(found, xr.DataArray(steps, dims="step", name="step"))
    whole.attrs = {**{k: str(v) for k, v in SETTING.items()}, "step_size": 2e-5, "model": "tiny-lm"}
    whole.astype("f4").to_netcdf(out, engine="scipy")  # netCDF 3: read without further packages


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("tiny-lm-influence", __doc__)
    parser.add_argument("out", metavar="OUT.nc")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="where the runs are kept")
    given = parser.parse_args(arguments)
    experiment(given.out, given.folder)
