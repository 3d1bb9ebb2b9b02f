"""Sampling `tiny-lm` with a probe, against devinterp 2.0.1 on the same work, in one run.

    python -m tests.bench.bench_sampling [--draws 200] [--rounds 3] [--json FILE]

Both sides: 4 chains, SGLD, batch 16 x 128 tokens, a probe of 48 sequences measured at every draw,
results in a Zarr store.  They take turns; the medians are compared.  devinterp gets one batch for
its initial loss (its default is 32 a chain), and shared batches; the kit measures the paired
baseline, the acceptance diagnostic and the nbeta = 0 control besides.  The second ratio is against
the plain forward and backward passes that the work cannot do without.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch

import slt_notebook as slt

BATCH, PROBE, CHAINS = 16, 48, 4


def prepare():
    model, tokenizer = slt.load("tiny-lm")
    texts = slt.probe_texts("tiny-lm")
    every = slt.text_probe("data", texts, tokenizer, length=128)
    whole = every.fields["attention_mask"].all(1)
    ids = every.fields["input_ids"][whole][: 96 + PROBE]
    return model, ids[PROBE:], ids[:PROBE]


def ours(model, data, probe, draws, folder):
    loss = slt.causal_lm(model)
    slt.sample(
        loss, slt.token_probe("data", data), probes=[slt.token_probe("probe", probe)],
        kernel=slt.SGLD(1e-4), nbeta=30.0, gamma=300.0, chains=CHAINS, draws=draws,
        batch_size=BATCH, store=folder / "run.zarr", progress=False,
    )  # fmt: skip


def theirs(model, data, probe, draws, folder):
    from datasets import Dataset
    from devinterp.slt.sampling import sample

    def rows(ids):
        return Dataset.from_dict({"input_ids": ids.tolist()}).with_format("torch")

    sample(
        model, rows(data), {"probe": (rows(probe), PROBE // BATCH)}, lr=1e-4, n_beta=30.0,
        localization=300.0, num_chains=CHAINS, num_draws=draws, batch_size=BATCH,
        num_init_loss_batches=1, device="cpu", output_path=str(folder / "theirs"),
    )  # fmt: skip


def floor(model, data, probe, draws, folder):
    """The forward and backward passes alone, chain after chain, nothing kept."""
    ids, seen = torch.from_numpy(data[:BATCH]), torch.from_numpy(probe)
    model.requires_grad_(True)
    for _ in range(draws * CHAINS):
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        with torch.no_grad():
            for start in range(0, PROBE, BATCH):
                part = seen[start : start + BATCH]
                model(part, labels=part)
    model.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"
    model, data, probe = prepare()
    sides = {"slt-notebook": ours, "plain forward and backward": floor}
    try:
        import devinterp

        assert devinterp
        sides["devinterp 2.0.1"] = theirs
    except ImportError:
        print("devinterp is not installed (group `bench`): its side is left out")
    times = {name: [] for name in sides}
    for number in range(args.rounds + 1):
        for name, side in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                draws = args.draws if number else 3  # the first round warms up
                began = time.perf_counter()
                side(model, data, probe, draws, Path(folder))
                if number:
                    times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        each = ", ".join(f"{v:.1f}" for v in times[name])
        print(f"{name:28s} {value:6.2f} s  ({each})")
    for name in sides:
        if name != "slt-notebook":
            print(f"{name} / slt-notebook = {medians[name] / medians['slt-notebook']:.2f}")
    if args.json:
        machine = {"cpu": platform.processor(), "cores": os.cpu_count(), "torch": torch.__version__}
        args.json.write_text(json.dumps({"machine": machine, "seconds": times}, indent=1))


if __name__ == "__main__":
    main()
