"""Models of several sizes for the bench, and token sequences for them.

`tiny-lm` is the packaged model with its own texts.  `3m` is the attention-only architecture of the
papers at their size (2 layers, 8 heads, width 256, context 1024, vocabulary 5000; 3.35 M
parameters): a `TinyLMForCausalLM`, which is a transformers `PreTrainedModel` without MLPs.  The
others are GPT-NeoX with Pythia's configurations.  All but `tiny-lm` have random weights and random
tokens, which cost what trained ones cost.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

import slt_notebook as slt
from slt_notebook.models.tiny_lm import TinyLMConfig, TinyLMForCausalLM


@dataclass(frozen=True)
class Size:
    """Work of one size: sequences of `length` tokens, `batch` of them a step, `probe` a draw."""

    length: int
    batch: int
    probe: int
    step: float = 1e-6  # of the sampler: small enough that random weights stay finite


@dataclass(frozen=True, eq=False)
class Work:
    """A model with the data that all sides use.

    Attributes:
        data, probe: token ids `[sequence, token]`; the data holds four batches.
    """

    name: str
    model: nn.Module
    data: np.ndarray
    probe: np.ndarray
    size: Size
    device: torch.device

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def chosen(self, probes: bool) -> np.ndarray | None:
        return self.probe if probes else None


CPU = {
    "smoke": Size(16, 2, 4), "tiny-lm": Size(128, 16, 48, 1e-4), "3m": Size(1024, 2, 4),
    "70m": Size(128, 2, 4), "160m": Size(128, 1, 2), "410m": Size(128, 1, 2),
}  # fmt: skip
GPU = {
    "smoke": Size(16, 2, 4), "tiny-lm": Size(128, 16, 48, 1e-4), "3m": Size(1024, 16, 32),
    "70m": Size(512, 8, 16), "160m": Size(512, 8, 16), "410m": Size(512, 8, 16),
}  # fmt: skip
_NEOX = {"70m": (512, 6, 8), "160m": (768, 12, 12), "410m": (1024, 24, 16)}


def build(name: str) -> nn.Module:
    """The model of a size, in evaluation mode, float32, on the CPU."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "tiny-lm":
            return slt.load("tiny-lm")[0]
        if name == "smoke":
            config = TinyLMConfig(96, 16, 2, 2, 16)
            return TinyLMForCausalLM(config).eval()
        if name == "3m":
            return TinyLMForCausalLM(TinyLMConfig(5000, 256, 2, 8, 1024)).eval()
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

        width, layers, heads = _NEOX[name]
        config = GPTNeoXConfig(
            vocab_size=50304, hidden_size=width, num_hidden_layers=layers,
            num_attention_heads=heads, intermediate_size=4 * width, max_position_embeddings=2048,
            rotary_pct=0.25, use_parallel_residual=True, use_cache=False,
        )  # fmt: skip
        return GPTNeoXForCausalLM(config).eval()


def work(name: str, device: torch.device, **changes) -> Work:
    """Model and data of a size; `changes` replace fields of its `Size`."""
    size = (CPU if device.type == "cpu" else GPU)[name]
    size = replace(size, **{k: v for k, v in changes.items() if v is not None})
    model = build(name).to(device)
    rows = 4 * size.batch
    if name == "tiny-lm":
        ids = _texts(size.length, rows + size.probe)
    else:
        vocabulary = model.get_input_embeddings().weight.shape[0]
        shape = (rows + size.probe, size.length)
        ids = np.random.default_rng(0).integers(0, vocabulary, shape)
    return Work(name, model, ids[:rows], ids[rows:], size, device)


def _texts(length: int, rows: int) -> np.ndarray:
    _, tokenizer = slt.load("tiny-lm")
    every = slt.text_probe("data", slt.probe_texts("tiny-lm"), tokenizer, length=length)
    whole = every.fields["input_ids"][every.fields["attention_mask"].all(1)]
    return np.resize(whole, (rows, length))
