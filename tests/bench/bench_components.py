"""What sweeps over components cost.  Each part prints its figure; none runs in the test suite.

python -m tests.bench.bench_components derive      components of SmolLM2-135M's architecture
python -m tests.bench.bench_components prefix      restricted sampling with and without a prefix
python -m tests.bench.bench_components devinterp   susceptibilities of 8 heads, both sides
python -m tests.bench.bench_components sweep       all heads + full of tiny-lm (54 TFLOP)
python -m tests.bench.bench_components group       small runs in lockstep, and one after the other
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import slt_notebook as slt
from slt_notebook.models.components import restriction
from slt_notebook.models.components.catalog import parts
from slt_notebook.runs.execute import shared
from slt_notebook.runs.plan.settings import Settings, Speed
from slt_notebook.runs.prepare import prepare as prepare_run
from tests.bench.bench_sampling import prepare

PREFIX_OF = "l9+l10+l11"


def peak() -> float:
    """Largest resident memory of this process so far, GB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def derive() -> None:
    """Random weights in the architecture of SmolLM2-135M: 30 layers, 9 heads, 3 key-value heads."""
    config = LlamaConfig(
        hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        intermediate_size=1536, vocab_size=49152, tie_word_embeddings=True,
        max_position_embeddings=8192,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    began = time.perf_counter()
    table = slt.components(model)
    took = time.perf_counter() - began
    kinds = table.kind.value_counts()
    print(f"{len(table)} components ({kinds['head']} heads, {kinds['keys and values']} groups)")
    print(f"derived and verified in {took:.1f} s; {peak():.2f} GB, the model included")


def prefix(rounds: int) -> None:
    """The last quarter of a 12-layer GPT-2-size model, a probe measured at every draw.

    The gradient of a batch of 2 x 64 tokens and the measurement of a probe of 1,024, on one thread,
    in CPU seconds.  Multiply-adds of a token, in millions, forward: a layer 7.1, the
    unembedding 38.6.  Without a prefix a step costs 85 + 39 forward and 39 + 42 backward (to the
    last hidden state, and through three layers), with one 21 + 39 + 39 + 42; a token of a probe
    costs 124 or 60.  So no more than 1.45 can be had of a step and 2.07 of a probe: what cannot be
    kept is the unembedding.
    """
    model = GPT2LMHeadModel(GPT2Config()).eval()
    loss = slt.causal_lm(model)
    rng = np.random.default_rng(0)
    data = slt.token_probe("data", rng.integers(0, 50257, (4, 64)))
    probe = slt.token_probe("probe", rng.integers(0, 50257, (8, 128)))
    limit = restriction.PREFIX_BYTES
    jobs = {}
    known = parts(loss, heads=False)
    for name, size in (("kept", limit), ("not kept", 0)):
        restriction.PREFIX_BYTES = size
        one = shared.Shared(loss, data, [probe], torch.device("cpu"))
        one.know(known)
        jobs[name] = prepare_run(
            one,
            PREFIX_OF,
            None,
            Settings(kernel=slt.SGLD(1e-7), nbeta=10.0, chains=1, batch_size=2),
            Speed(),
        )._job
        print(f"{name}: {jobs[name].loss.depth} layers", flush=True)
    restriction.PREFIX_BYTES = limit
    spent = {(name, what): [] for name in jobs for what in ("gradient", "probe")}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            at = job.potential.center[None].clone()
            batch = {key: value[:2] for key, value in job.data.items()}
            began = time.thread_time()
            job.potential.evaluate(at, [batch])
            middle = time.thread_time()
            job.evaluator.measure("probe", at, torch.tensor([True]), True)
            if number:
                spent[name, "gradient"].append(middle - began)
                spent[name, "probe"].append(time.thread_time() - middle)
    found = {key: statistics.median(values) for key, values in spent.items()}
    for (name, what), value in found.items():
        each = ", ".join(f"{v:.2f}" for v in spent[name, what])
        print(f"{name}, {what}: {value:.2f} s of CPU ({each})")
    for what in ("gradient", "probe"):
        print(f"{what}: not kept / kept = {found['not kept', what] / found['kept', what]:.2f}")
    both = {name: found[name, "gradient"] + found[name, "probe"] for name in jobs}
    print(f"a draw: not kept / kept = {both['not kept'] / both['kept']:.2f}")


def devinterp(draws: int, rounds: int, count: int) -> None:
    """Heads and the full run of tiny-lm, 48 sequences at every draw, chi computed.

    Two lengths are timed.  A whole call holds what a run does a fixed number of times, however long
    it is: a Metropolis test and controls without a loss, which devinterp has not.  Their
    difference is what a further draw costs, and so a run of hundreds.
    """
    from datasets import Dataset
    from devinterp.slt.susceptibilities import susceptibilities

    model, data, probe = prepare()
    heads = [f"l{i}.h{j}" for j in range(4) for i in (0, 1)][:count]

    def ours(folder: Path, draws: int) -> None:
        found = slt.sample(
            slt.causal_lm(model), slt.token_probe("data", data), components=["full", *heads],
            probes=[slt.token_probe("probe", probe)], kernel=slt.SGLD(1e-4), nbeta=30.0,
            gamma=300.0, chains=4, draws=draws, batch_size=16, store=folder / "sweep",
            progress=False,
        )  # fmt: skip
        slt.susceptibility(found, estimator="two-chain")

    def masks(name: str):
        """The same heads: devinterp does not know the architecture, so by hand."""
        table = slt.models.components.parts(model)
        out = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
        for piece in table[name].pieces:
            out[piece.name][piece.slices] = 1
        return {n: m for n, m in out.items() if m.any()}

    def theirs(folder: Path, draws: int) -> None:
        rows = lambda ids: Dataset.from_dict({"input_ids": ids.tolist()}).with_format("torch")
        susceptibilities(
            model, rows(data), {"probe": (rows(probe), len(probe) // 16)},
            {"full": None, **{h: masks(h) for h in heads}}, sampling_task="probe", lr=1e-4,
            n_beta=30.0, localization=300.0, num_chains=4, num_draws=draws, batch_size=16,
            num_init_loss_batches=1, include_sampling_task=True, device="cpu",
            output_path=str(folder / "theirs"),
        )  # fmt: skip

    spent = {}
    for number in range(rounds):
        for count in (draws // 2, draws):
            for name, side in (("slt-notebook", ours), ("devinterp 2.0.1", theirs)):
                with tempfile.TemporaryDirectory() as folder:
                    began, used = time.perf_counter(), time.process_time()
                    side(Path(folder), count)
                    took = time.perf_counter() - began, time.process_time() - used
                spent[name, count, number] = took
                about = f"{count} draws in {took[0]:.1f} s, {took[1]:.1f} s of CPU"
                print(f"{name}: {about}", flush=True)
    _compare(spent, "devinterp 2.0.1", "slt-notebook", rounds, draws, draws // 2)


def sweep(draws: int) -> None:
    """All heads and full, one checkpoint, 4 chains, batch 16 x 128, a probe of 3,000 tokens.

    With fewer draws than 200 the figure is extrapolated from two lengths, which leaves out what a
    sweep does once; wall time, and the CPU seconds that two undisturbed cores would need.
    """
    model, data, probe = prepare()
    loss = slt.causal_lm(model)
    spent = []
    for count in (draws,) if draws >= 200 else (max(1, draws // 3), draws):
        began, used = time.perf_counter(), time.process_time()
        slt.sample(
            loss, slt.token_probe("data", data), components=["full", "l*.h*"],
            probes=[slt.token_probe("probe", probe[:24])], kernel=slt.SGLD(5e-5), nbeta=2000.0,
            gamma=1500.0, chains=4, draws=count, batch_size=16, progress=False,
        )  # fmt: skip
        spent.append((count, time.perf_counter() - began, time.process_time() - used))
        print(f"{count} draws: {spent[-1][1]:.1f} s, {spent[-1][2]:.1f} s of CPU", flush=True)
    if len(spent) == 2:
        (a, *less), (b, *more) = spent
        wall, cpu = ((m - s) / (b - a) * 200 / 60 for s, m in zip(less, more, strict=True))
        print(f"200 draws: {wall:.1f} min here, {cpu / 2:.1f} min of two cores", flush=True)


def group(draws: int, rounds: int) -> None:
    """Small components in lockstep against one after the other: what a further draw of all costs.

    Heads of a two-layer transformer of width 32 (batch 8 x 16, a probe of 16 x 16) and layers of a
    deep linear network (6 of 16 x 16, batch 32, a probe of 256).  `chain_chunk` keeps runs apart.
    """
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    lm = slt.causal_lm(GPT2LMHeadModel(config).eval())
    text = slt.token_probe("train", rng.integers(0, 97, (64, 16)))
    linear = [torch.nn.Linear(16, 16, bias=False) for _ in range(6)]
    square = lambda output, target: (output - target).square().sum(1)
    deep = slt.supervised(torch.nn.Sequential(*linear), square)
    table = slt.array_probe("train", *rng.standard_normal((2, 256, 16)).astype("f4"))
    heads = [f"l{i}.h{j}" for i in (0, 1) for j in range(4)]
    for name, loss, data, probe, parts_, size, length in (
        ("8 heads", lm, text, text.take(16), heads, 8, draws),
        ("6 layers", deep, table, table, [f"param:{n}" for n in deep.params], 32, 10 * draws),
    ):
        spent = {}
        for number in range(rounds):
            for count in (length // 4, length):
                for side, chunk in (("apart", 4), ("lockstep", None)):
                    began, used = time.perf_counter(), time.process_time()
                    slt.sample(
                        loss, data, components=parts_, probes=[probe], kernel=slt.SGLD(1e-4),
                        nbeta=30.0, gamma=50.0, chains=4, draws=count, batch_size=size,
                        chain_chunk=chunk, progress=False,
                    )  # fmt: skip
                    took = time.perf_counter() - began, time.process_time() - used
                    spent[side, count, number] = took
        print(f"{name}, 4 chains x {length} draws:")
        _compare(spent, "apart", "lockstep", rounds, length, length // 4)


def _compare(spent: dict, slow: str, fast: str, rounds: int, draws: int, fewer: int) -> None:
    """Ratios of whole calls, and of a further draw: what a run of hundreds comes to."""
    for unit, what in (("wall", 0), ("CPU", 1)):
        for label, less in (("a whole call", None), ("a further draw", fewer)):
            one, other = (
                statistics.median(
                    spent[name, draws, r][what] - (spent[name, less, r][what] if less else 0)
                    for r in range(rounds)
                )
                for name in (slow, fast)
            )
            print(f"{label}, {unit}: {slow} / {fast} = {one / other:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["derive", "prefix", "devinterp", "sweep", "group"])
    parser.add_argument("--draws", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--heads", type=int, default=8, help="of devinterp's part")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"
    if asked.part == "derive":
        derive()
    elif asked.part == "prefix":
        prefix(asked.rounds)
    elif asked.part == "devinterp":
        devinterp(asked.draws or 20, asked.rounds, asked.heads)
    elif asked.part == "group":
        group(asked.draws or 60, asked.rounds)
    else:
        sweep(asked.draws or 200)


if __name__ == "__main__":
    main()
