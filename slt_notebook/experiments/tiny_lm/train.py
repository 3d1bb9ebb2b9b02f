"""Train `tiny-lm`: corpus to tokenizer to checkpoints, in one command.

    slt-notebook experiment tiny-lm --corpus ROOT --out FOLDER

`ROOT` is the folder that `corpus.py` describes.  Windows are drawn with equal weight for each of
the twelve domains.  A declared share of them (`REPEATS`) carries a span of its own text twice,
which is what brings the induction stage within the reach of a CPU: `tiny-lm` is a model *trained
to show induction*, not a small copy of a large one.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from slt_notebook.experiments import argument_parser
from slt_notebook.experiments.tiny_lm.corpus import build
from slt_notebook.models.tiny_lm import TinyLMConfig, TinyLMForCausalLM

REPEATS = 0.25
LENGTH = 128
BATCH = 16
STEPS = 24_000
HELD_OUT = 0.05
PEAK, WARMUP, DECAY_FROM = 3e-3, 200, 0.7


def train_tokenizer(texts: dict[str, str], size: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE with `<|endoftext|>` as token 0, on an equal share of every domain."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    shares = [t[i : i + 2000] for t in texts.values() for i in range(0, 1_000_000, 2000)]
    tokenizer.train_from_iterator(shares, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=LENGTH,
    )


def encode(tokenizer, documents: list[str]) -> np.ndarray:
    """All documents of a domain as one array of ids, each behind an `<|endoftext|>`."""
    pieces = [d[i : i + 100_000] for d in documents for i in range(0, len(d), 100_000)]
    ids = tokenizer._tokenizer.encode_batch(pieces)
    return np.concatenate([np.array([0, *e.ids], np.uint16) for e in ids])


def windows(streams: list[np.ndarray], rng: np.random.Generator, count: int, repeats: float):
    """`count` windows of `LENGTH` ids; a share `repeats` of them with one span written twice."""
    out = np.empty((count, LENGTH), np.int64)
    for row in out:
        stream = streams[rng.integers(len(streams))]
        start = rng.integers(len(stream) - LENGTH)
        row[:] = stream[start : start + LENGTH]
        if rng.random() < repeats:
            span = rng.integers(12, 56)
            first = rng.integers(0, LENGTH - 2 * span + 1)
            again = rng.integers(first + span, LENGTH - span + 1)
            row[again : again + span] = row[first : first + span]
    return out


def learning_rate(step: int, steps: int) -> float:
    """Warm-up, constant, then linear to a fiftieth over the last 30 %."""
    warm = min(1.0, (step + 1) / WARMUP)
    rest = (steps - step) / (steps * (1 - DECAY_FROM))
    return PEAK * warm * max(0.02, min(1.0, rest))


def checkpoint_steps(steps: int, count: int = 40) -> list[int]:
    return sorted({0, *np.geomspace(20, steps, count).round().astype(int).tolist()})


def sinusoids(length: int, size: int, scale: float) -> torch.Tensor:
    """Where the learned positions start: a shift by one is then a fixed rotation."""
    angle = torch.arange(length)[:, None] / 10_000 ** (torch.arange(size // 2) * 2 / size)
    return scale * torch.cat([angle.sin(), angle.cos()], dim=1)


def train(corpus: Path, out: Path, steps: int = STEPS, seed: int = 0, log_every: int = 200):
    """Write `<out>/step<N>/` (fp16 safetensors + config), the tokenizer and `log.jsonl`."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    documents = build(corpus)
    texts = {k: "\n\n".join(v) for k, v in documents.items()}
    tokenizer = train_tokenizer(texts)
    tokenizer.save_pretrained(out)
    encoded = {k: encode(tokenizer, v) for k, v in documents.items()}
    cut = {k: int(len(v) * (1 - HELD_OUT)) for k, v in encoded.items()}
    streams = [encoded[k][: cut[k]] for k in encoded]
    held = {k: encoded[k][cut[k] :] for k in encoded}
    arrays: dict[str, Any] = dict(zip(encoded, streams, strict=True))
    held_out: dict[str, Any] = held
    np.savez(out / "held_out.npz", **held_out)
    np.savez(out / "train.npz", **arrays)
    total = sum(map(len, streams))
    print(f"{total / 1e6:.1f} M training tokens, {len(tokenizer)} in the vocabulary", flush=True)

    model = TinyLMForCausalLM(TinyLMConfig(vocab_size=len(tokenizer)))
    with torch.no_grad():
        model.model.embed_positions.weight.copy_(sinusoids(LENGTH, 128, 0.5))
    decay = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.98))
    rng = np.random.default_rng(seed)
    held_rng = np.random.default_rng(1)
    test = torch.from_numpy(windows(list(held.values()), held_rng, 192, 0.0))
    saves, began = set(checkpoint_steps(steps)), time.process_time()
    for step in range(steps + 1):
        if step in saves:
            state = {k: v.half() for k, v in model.state_dict().items()}
            model.save_pretrained(out / f"step{step}", state_dict=state)
        if step % log_every == 0 or step == steps:
            with torch.no_grad():
                loss = float(model(test, labels=test).loss)
            line = {"step": step, "tokens": step * BATCH * LENGTH, "held_out": round(loss, 4)}
            line["cpu_s"] = round(time.process_time() - began, 1)
            with open(out / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")
            print(line, flush=True)
        if step == steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        batch = torch.from_numpy(windows(streams, rng, BATCH, REPEATS))
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("tiny-lm", __doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    train(given.corpus, given.out, given.steps, given.seed)
