"""Stages of the training of `tiny-lm`, measured on natural text.

    slt-notebook experiment tiny-lm-stages --run FOLDER --out PACKAGED

`FOLDER` is what `tiny_lm.py` wrote; `PACKAGED` receives the chosen checkpoints, the tokenizer, the
probe texts and the model card with the table that this module measures.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from slt_notebook.experiments import argument_parser
from slt_notebook.experiments.tiny_lm import train as tiny_lm
from slt_notebook.experiments.tiny_lm.corpus import LICENCES
from slt_notebook.models.tiny_lm import TinyLMForCausalLM


def ngram_losses(train: np.ndarray, held: np.ndarray, size: int) -> dict[str, float]:
    """Cross-entropy of unigram, bigram and trigram on `held`, nats a token.

    Counts with add-one unigrams; the higher orders interpolate with weight `n / (n + 4)`, n the
    count of the context (Witten and Bell's idea with a fixed constant).
    """
    unigram = np.bincount(train, minlength=size) + 1.0
    unigram /= unigram.sum()
    pairs = np.bincount(train[:-1].astype(np.int64) * size + train[1:], minlength=size * size)
    pairs = pairs.reshape(size, size)
    context = pairs.sum(1, keepdims=True)
    bigram = (pairs + 4 * unigram) / (context + 4)
    triple = train[:-2].astype(np.int64) * size**2 + train[1:-1].astype(np.int64) * size + train[2:]
    keys, counts = np.unique(triple, return_counts=True)
    two = train[:-2].astype(np.int64) * size + train[1:-1]
    pair_keys, pair_counts = np.unique(two, return_counts=True)

    def look(table, values, wanted):
        place = np.clip(np.searchsorted(table, wanted), 0, len(table) - 1)
        return np.where(table[place] == wanted, values[place], 0)

    a, b, c = (held[i : len(held) - 2 + i].astype(np.int64) for i in range(3))
    n_context = look(pair_keys, pair_counts, a * size + b)
    n_triple = look(keys, counts, a * size**2 + b * size + c)
    trigram = (n_triple + 4 * bigram[b, c]) / (n_context + 4)
    return {
        "unigram": float(-np.log(unigram[held]).mean()),
        "bigram": float(-np.log(bigram[held[:-1], held[1:]]).mean()),
        "trigram": float(-np.log(trigram).mean()),
    }


@torch.no_grad()
def measure(model, windows: torch.Tensor, seed: int = 0) -> dict[str, float | list]:
    """Loss and attention scores of a model on `windows` `[example, position]` of natural text.

    previous-token score: mean attention from a position to the one before, per head.
    induction score: mean attention from a position to the token *after* the last earlier
    occurrence of its own token, over the positions that have one (at least two back), per head.
    copying: on 32 random tokens written twice, the loss of the first copy less the second.
    """
    out = model(windows, output_attentions=True)
    logp = out.logits[:, :-1].log_softmax(-1)
    loss = -logp.gather(-1, windows[:, 1:, None])[..., 0]
    queries, keys, rows = [], [], []
    for row, ids in enumerate(windows.tolist()):
        last = {}
        for t, token in enumerate(ids):
            if token in last and last[token] < t - 1:
                rows.append(row)
                queries.append(t)
                keys.append(last[token] + 1)
            last[token] = t
    previous, induction = [], []
    for weights in out.attentions:  # [example, head, query, key]
        index = torch.arange(1, windows.shape[1])
        previous.append(weights[:, :, index, index - 1].mean((0, 2)).tolist())
        induction.append(weights[rows, :, queries, keys].mean(0).tolist())
    generator = torch.Generator().manual_seed(seed)
    once = torch.randint(1, model.config.vocab_size, (64, 32), generator=generator)
    twice = torch.cat([once, once], 1)
    logits = model(twice).logits[:, :-1].log_softmax(-1)
    copies = -logits.gather(-1, twice[:, 1:, None])[..., 0]
    return {
        "loss": float(loss.mean()),
        "loss_se": float(loss.mean(1).std() / len(loss) ** 0.5),
        "previous_token": previous,
        "induction": induction,
        "copying": float(copies[:, :31].mean() - copies[:, 32:].mean()),
    }


def choose(steps: list[int], early: int = 11, dense_from: int = 3000) -> list[int]:
    """Which of the saved steps to ship: log-spaced, and all of the later ones.

    The previous-token and induction heads form after `dense_from`; before it, `early` steps and
    the initialization are enough.
    """
    before = [s for s in steps if 0 < s < dense_from]
    targets = np.geomspace(before[0], before[-1], early)
    picked = (min(before, key=lambda s: abs(np.log(s / t))) for t in targets)
    return sorted({0, *picked, *(s for s in steps if s >= dense_from)})


def package(run: Path, out: Path, windows_per_domain: int = 24) -> None:
    """Write the packaged model with its card; see the module's docstring."""
    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run)
    held, train = np.load(run / "held_out.npz"), np.load(run / "train.npz")
    size, length = len(tokenizer), tiny_lm.LENGTH
    rng = np.random.default_rng(2)
    domains = list(held.keys())
    windows = {}
    for name in domains:
        starts = rng.choice(len(held[name]) // length - 1, windows_per_domain, replace=False)
        windows[name] = torch.tensor(
            np.stack([held[name][s * length : (s + 1) * length] for s in starts]).astype(np.int64)
        )
    everything = torch.cat(list(windows.values()))
    share = min(len(train[name]) for name in domains)
    equal_train = np.concatenate([train[name][:share] for name in domains])
    baselines = ngram_losses(equal_train, everything.numpy().reshape(-1), size)
    steps = sorted(int(p.name[4:]) for p in run.glob("step*"))
    out.mkdir(parents=True, exist_ok=True)
    table = []
    for step in choose(steps):
        model = TinyLMForCausalLM.from_pretrained(run / f"step{step}", dtype=torch.float32).eval()
        row = {"step": step, "tokens": step * tiny_lm.BATCH * length, **measure(model, everything)}
        row["domains"] = {}
        for name in domains:
            with torch.no_grad():
                row["domains"][name] = float(model(windows[name], labels=windows[name]).loss)
        table.append(row)
        shutil.copytree(run / f"step{step}", out / f"step{step}", dirs_exist_ok=True)
        (out / f"step{step}" / "generation_config.json").unlink(missing_ok=True)
        print(step, round(row["loss"], 3), row["induction"][-1], flush=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (run / name).exists():
            shutil.copy(run / name, out / name)
    texts = {name: _probe_texts(tokenizer, held[name], name) for name in domains}
    (out / "probe_texts.json").write_text(json.dumps(texts, ensure_ascii=False, indent=0))
    metrics = {"baselines": baselines, "checkpoints": table}
    (out / "stages.json").write_text(json.dumps(metrics, indent=1))
    (out / "README.md").write_text(card(metrics, sum(len(train[n]) for n in domains)))


def _probe_texts(tokenizer, ids: np.ndarray, domain: str, count: int = 12) -> list[str]:
    """Short held-out passages, each of about 200 tokens, away from those the table is made of."""
    rng = np.random.default_rng(len(domain))
    starts = rng.choice(len(ids) // 220 - 1, count, replace=False) * 220
    out = []
    for start in starts:
        piece = ids[start : start + 200]
        text = tokenizer.decode(piece[piece != 0].tolist())
        out.append(text.strip("\ufffd"))
    return out


def card(metrics: dict, train_tokens: int) -> str:
    """Return the model card, from the measured table."""
    base, rows = metrics["baselines"], metrics["checkpoints"]
    best = lambda layers: max(max(layer) for layer in layers)
    lines = [
        "# tiny-lm",
        "",
        "A two-layer attention-only causal LM (width 128, 4 heads a layer, context 128,",
        "byte-level BPE of 1024 tokens, 0.41 M parameters; positions are added to the inputs of",
        "queries and keys only). It is **trained to show induction**; it is not a small copy of a",
        "large model, and a loss of it is comparable with nothing else: the vocabulary is tiny.",
        "",
        f"- Trained on {rows[-1]['tokens'] / 1e6:.1f} M tokens: windows of 128, 16 a step, equal",
        f"  weight for {len(LICENCES)} domains ({train_tokens / 1e6:.1f} M distinct tokens). AdamW",
        "  3e-3 (warm-up 200 steps, constant, linear decay over the last 30 %), weight decay 0.05,",
        "  seed 0, one run. The learned positions start as sinusoids.",
        f"- **{tiny_lm.REPEATS:.0%} of the training windows hold a span of 12 to 55 tokens of their",
        "  own text a second time.** All numbers below are measured on held-out text as it is, without",
        "  inserted repeats (`copying` alone is on random tokens written twice).",
        "- Made by `slt-notebook experiment tiny-lm` and `slt-notebook experiment tiny-lm-stages`.",
        "- Weights: MIT, as the kit. Fp16 safetensors; load them in float32.",
        "",
        "## Stages",
        "",
        f"Held-out loss of n-gram models fitted on the same mix: unigram {base['unigram']:.2f}, bigram",
        f"{base['bigram']:.2f}, trigram {base['trigram']:.2f} nats a token.",
        "",
        "| step | M tokens | loss (s.e.) | best previous-token head | best induction head | copying |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['step']} | {r['tokens'] / 1e6:.2f} | {r['loss']:.3f} ({r['loss_se']:.3f}) "
        f"| {best(r['previous_token']):.2f} | {best(r['induction']):.2f} | {r['copying']:.2f} |"
        for r in rows
    ]
    for name in ("unigram", "bigram", "trigram"):
        passed = [r["step"] for r in rows if r["loss"] < base[name]]
        where = f"step {passed[0]}" if passed else "never"
        lines.append(f"\nFirst shipped checkpoint below the {name} model: {where}.")
    last = rows[-1]
    lines += [
        "",
        "Scores of the last checkpoint by head (layer: heads):",
        "",
        *(f"- previous-token, layer {i}: " + ", ".join(f"{v:.2f}" for v in layer)
          for i, layer in enumerate(last["previous_token"])),
        *(f"- induction, layer {i}: " + ", ".join(f"{v:.2f}" for v in layer)
          for i, layer in enumerate(last["induction"])),
        "",
        "`stages.json` has the same for every checkpoint, and the loss by domain.",
        "",
        "## Data",
        "",
        *(f"- `{name}`: {licence}" for name, licence in LICENCES.items()),
        "",
        "`probe_texts.json` holds 12 short held-out passages of each.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("tiny-lm-stages", __doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    package(given.run, given.out)
