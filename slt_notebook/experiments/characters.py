"""A character-level language model of Python source that trains in two minutes.

    slt-notebook experiment characters --out FOLDER        # about two minutes of one core

GPT-2's architecture with 2 layers, width 48, 4 heads, 32 characters of context and 64 symbols:
61,248 parameters.  The text is the standard library of the running interpreter, so that another
version of Python trains another model.
"""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import GPT2Config, GPT2LMHeadModel

from slt_notebook.experiments import argument_parser
from slt_notebook.experiments.tiny_lm import corpus

LENGTH, SYMBOLS, STEPS, BATCH, RATE = 32, 64, 8000, 32, 2e-3


def model(seed: int = 0) -> GPT2LMHeadModel:
    """Untrained, without dropout."""
    config = GPT2Config(
        vocab_size=SYMBOLS, n_positions=LENGTH, n_embd=48, n_layer=2, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config).eval()


def text(size: int = 4_000_000, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Source code as symbols `[character]`, and what each symbol is; the rest are symbol 0."""
    files = list(corpus.code(Path()))
    random.Random(seed).shuffle(files)
    joined = "\n\n".join(files)[:size]
    common = [c for c, _ in Counter(joined).most_common(SYMBOLS - 1)]
    index = {c: i + 1 for i, c in enumerate(common)}
    return np.fromiter((index.get(c, 0) for c in joined), np.uint8, len(joined)), ["?", *common]


def windows(symbols: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`[count, LENGTH]` from random places, int64."""
    starts = np.random.default_rng(seed).integers(0, len(symbols) - LENGTH, count)
    return symbols[starts[:, None] + np.arange(LENGTH)].astype(np.int64)


def checkpoint_steps(steps: int = STEPS, first: int = 60, count: int = 18) -> list[int]:
    """`count` log-spaced steps from `first` to the end."""
    return sorted({round(float(s)) for s in np.geomspace(first, steps, count)})


def train(out: Path, steps: int = STEPS, seed: int = 0) -> None:
    """Trains and saves `step<N>` folders and `text.npz`; the rate decays linearly to a tenth."""
    symbols, names = text()
    held = len(symbols) // 20
    gpt = model(seed).train()
    optimizer = torch.optim.Adam(gpt.parameters(), lr=RATE)
    decay = lambda step: 1 - 0.9 * step / steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, decay)
    wanted = set(checkpoint_steps(steps))
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "text.npz", train=symbols[:-held], held=symbols[-held:], names=names)
    for step in tqdm(range(1, steps + 1), disable=None):
        batch = torch.from_numpy(windows(symbols[:-held], BATCH, 10_000 + step))
        loss = gpt(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in wanted:
            gpt.save_pretrained(out / f"step{step}")
            tqdm.write(f"step {step}: loss {float(loss.detach()):.3f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("characters", __doc__)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args(arguments)
    train(given.out, given.steps)
