"""Speed of the kit beside peers and the limits of the machine: one command, one table, one JSON.

    python -m tests.bench                         most of an hour on two cores
    python -m tests.bench --quick                 about 3
    python -m tests.bench --sizes 160m --parts sampling --rounds 1
    python -m tests.bench --device cuda --paper   everything, on a GPU, in one call

Parts: `sampling` (each size, chains, component, with and without probes, against the peers),
`products` (time over that of the matrix products alone), `heads` (susceptibilities of 16 heads,
against devinterp), `update` (bytes against the copy bandwidth), `batching` (vmap or loop), `growth`
(curves and their chart), on a GPU also `idle` (kernels against wall) and `precision` (probes in
bf16).  Times are medians over rounds in which the sides take turns; the first round is thrown away.
"""

import argparse
import json
import logging
import time
import traceback
import warnings
from pathlib import Path

import torch

from tests.bench.parts import batching, device_only, growth, machine, models, products, sides, table
from tests.bench.parts import update as updates
from tests.bench.parts.rounds import SHORTEST, alternate, lengths_of

PARTS = ("sampling", "products", "heads", "update", "batching", "growth", "idle", "precision")


def main(argv=None) -> dict:
    asked = options(argv)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    device = torch.device(asked.device)
    began = time.perf_counter()
    found = {"options": {k: str(v) for k, v in vars(asked).items()}, "cases": []}
    found["machine"] = facts = machine.facts(device)
    print(
        f"{facts.get('gpu', facts['cpu'])}, {facts['threads']} threads, torch {facts['torch']}: "
        f"{facts['matmul_gflops']:.0f} GFLOP/s in float32, copy {facts['copy_gb_s']:.1f} GB/s"
    )
    for part in asked.parts:
        print(f"{part} ({time.perf_counter() - began:.0f} s so far)", flush=True)
        try:
            RUN[part](asked, device, found)
        except KeyboardInterrupt:
            print("stopped: what follows is what was measured before")
            break
        except Exception as cause:  # one part that fails does not lose the others
            traceback.print_exc()
            found.setdefault("failed", {})[part] = f"{type(cause).__name__}: {cause}"
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1))
    found["seconds"] = time.perf_counter() - began
    show(found)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))
    return found


def sampling(asked, device, found) -> None:
    for size in asked.sizes:
        work = work_of(asked, size, device)
        for chains in asked.chains:
            for component in asked.components:
                for probes in asked.probes:
                    found["cases"].append(case(asked, work, chains, component, probes, found))


def case(
    asked, work, chains: int, component: str, probes: bool, found: dict, draws=None, peers=True
) -> dict:
    """One row of the table: all sides that can do this work."""
    name = f"{work.name} {chains}c {component} {'probe' if probes else 'no probe'}"
    print(f"  {name}", flush=True)
    component = HEAD if component == "head" else component
    todo, why = sides.available(work, chains, component, probes)
    if not peers:
        todo = {sides.OURS: todo[sides.OURS]}
    for side, cause in why.items():
        print(f"    {side} left out: {cause}")
    done = alternate(todo, draws or asked.draws, asked.rounds, work.device, say=narrate)
    seen = products.passes(work, component, probes)
    out = {
        "name": name, "size": work.name, "parameters": work.parameters, "chains": chains,
        "component": component, "probes": probes, "sides": done,
        "batch_tokens": work.size.batch * work.size.length,
        "probe_tokens": probes * len(work.probe) * work.size.length,
        "gflop_of_a_draw": chains * seen.flops / 1e9,
        # SGLD keeps no state besides positions.
        "bound": 3 * chains + 2 if component == "full" else "",
        "left_out": why,
    }  # fmt: skip
    kit = done[sides.OURS]
    if "draw" in kit:
        workers = kit["workers"]
        rate = out["gflop_of_a_draw"] / kit["draw"]["wall"]
        out["share_of_peak"] = rate / found["machine"]["matmul_gflops"]
        if component == "full":
            out["products"] = products.rate(work, seen, chains, workers)
            out["over_products"] = kit["draw"]["wall"] / out["products"]["wall"]
            out["share_of_peak_in_shapes"] = rate / out["products"]["gflops"]
    if component == "full":
        out["activations"] = products.activations(work, probes)
    return out


def over_products(asked, device, found) -> None:
    """The kit and its matrix products alone, in turn: tiny-lm on a CPU, 160m on a GPU."""
    name = asked.sizes[0] if "smoke" in asked.sizes else NAMED[device.type]
    work = work_of(asked, name, device)
    seen = products.passes(work)
    chains = 4
    workers = min(chains, torch.get_num_threads()) if device.type == "cpu" else 1
    draw = products.alone(work, seen, chains, workers)

    def alone(draws: int, folder: Path) -> None:
        for _ in range(draws):
            draw()

    todo = {sides.OURS: sides.ours(work, chains, "full", True), "products alone": alone}
    draws = max(2 * SHORTEST, asked.draws)
    done = alternate(todo, draws, asked.rounds, device, say=narrate)
    # The kit's call holds more than draws, so the difference of two lengths; the other's does not.
    kit = done[sides.OURS]["draw"]
    bare = {key: done["products alone"]["call"][key] / draws for key in ("wall", "cpu")}
    found["products"] = {
        "size": name, "chains": chains, "workers": workers, "sides": done,
        "gflop_of_a_draw": chains * seen.flops / 1e9,
        "gflops_alone": chains * seen.flops / 1e9 / bare["wall"],
        "over_products": kit["wall"] / bare["wall"], "over_products_cpu": kit["cpu"] / bare["cpu"],
    }  # fmt: skip


def heads(asked, device, found) -> None:
    name = "smoke" if "smoke" in asked.sizes else "3m"
    # One sequence a step and one a draw keep two lengths of 17 runs within minutes on two cores.
    small = {"batch": 1, "probe": 1} if device.type == "cpu" else {}
    work = work_of(asked, name, device, **small)
    count = 2 if name == "smoke" else 8
    names = [f"l{i}.h{j}" for i in (0, 1) for j in range(count)]
    draws = asked.head_draws
    print(f"  {name}: {len(names)} heads and full, lengths {lengths_of(draws)}", flush=True)
    try:
        todo = sides.heads(work, asked.head_chains, names)
    except ImportError as cause:
        found["heads"] = {"left_out": str(cause)}
        return
    done = alternate(todo, draws, asked.head_rounds or asked.rounds, device, say=narrate)
    found["heads"] = {
        "name": f"chi of {len(names)} heads, {name}, {asked.head_chains}c", "size": name,
        "heads": len(names), "chains": asked.head_chains, "sides": done,
        "parameters": work.parameters, "bound": "",
    }  # fmt: skip


def update(asked, device, found) -> None:
    import slt_notebook as slt

    sizes = {"smoke": 10_000} if "smoke" in asked.sizes else UPDATES[device.type]
    found["update"] = []
    for name, dim in sizes.items():
        for metric in (None, slt.RMSProp()):
            row = updates.update(dim, 4, device, found["machine"]["copy_gb_s"], metric)
            found["update"].append({"size": name, **row})


def batch(asked, device, found) -> None:
    found["batching"] = batching.measure(device, quick=asked.quick)


def grow(asked, device, found) -> None:
    found["growth"] = growth.measure(device, asked.rounds, asked.quick, say=narrate)
    facts = found["machine"]
    about = (
        f"{facts.get('gpu') or facts['cpu']}, {facts['threads']} threads, torch {facts['torch']}, "
        f"{facts['date'][:10]}; tiny-lm, 4 chains, batch 8 × 128, probe 8 × 128 tokens, "
        "unless it is what grows"
    )
    if asked.svg:
        growth.chart(found["growth"], about, asked.svg)


def idle(asked, device, found) -> None:
    if device.type != "cuda":
        print("  needs a GPU")
        return
    work = work_of(asked, "160m", device)
    found["idle"] = device_only.idle(sides.ours(work, 4, "full", True), asked.draws)


def precision(asked, device, found) -> None:
    name = "smoke" if "smoke" in asked.sizes else "tiny-lm"
    found["precision"] = device_only.precision(work_of(asked, name, device), max(20, asked.draws))


def paper(asked, device, found) -> None:
    """410 M, 4 chains x 200 draws, 32,000 probe tokens: time and memory of the kit alone."""
    length = 512 if device.type == "cuda" else 128
    probe = -(-32_000 // length)
    work = models.work("410m", device, length=length, probe=probe)
    one = argparse.Namespace(**{**vars(asked), "rounds": 1})
    print(f"  410m: 4 chains x 200 draws, probe of {probe} x {length} tokens", flush=True)
    found["cases"].append(case(one, work, 4, "full", True, found, draws=200, peers=False))


def work_of(asked, size: str, device, **small) -> models.Work:
    given = {"batch": asked.batch, "length": asked.length, "probe": asked.probe_rows}
    return models.work(size, device, **{**small, **{k: v for k, v in given.items() if v}})


def show(found: dict) -> None:
    """The one table, and a line for each figure that has no row in it."""
    cases = [*found["cases"], *([found["heads"]] if "sides" in found.get("heads", {}) else [])]
    print()
    print(table.text([line for one in cases for line in table.rows(one)]))
    print(
        "call: a whole call of all draws; draw: a further draw of all chains; × kit: that side's "
        "time over the kit's;\n% peak: of the measured matrix-product peak; idle: the workers' "
        "time outside losses and gradients; copies:\npeak memory above what was held before, in "
        "float32 copies of the weights, activations included (in the JSON); bound without them."
    )
    for line in table.figures(found):
        print(line)
    for part, cause in found.get("failed", {}).items():
        print(f"{part} FAILED: {cause}")
    print(f"{found['seconds']:.0f} s in all")


def narrate(line: str) -> None:
    print(line, flush=True)


def options(argv):
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    some = lambda kind: lambda text: [kind(x) for x in text.split(",")]
    yes = {"yes": True, "no": False}
    add = parser.add_argument
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--sizes", type=some(str), help="of " + ",".join(models.CPU))
    add("--chains", type=some(int), help="such as 1,4,16")
    add("--components", type=some(str), default=["full"], help="full,head")
    add("--probes", type=some(yes.__getitem__), help="yes,no")
    add("--parts", type=some(str), help="of " + ",".join(PARTS))
    add("--draws", type=int, help="of the longer call; from 10 on a further draw can be told")
    add("--rounds", type=int)
    add("--batch", type=int, help="sequences a step, in place of the size's own")
    add("--length", type=int, help="tokens a sequence")
    add("--probe-rows", type=int, help="sequences of the probe")
    add("--head-chains", type=int, default=2)
    add("--head-draws", type=int, default=10)
    add("--head-rounds", type=int)
    add("--quick", action="store_true")
    add("--paper", action="store_true", help="also 410m, 4 chains x 200 draws, 32,000 probe tokens")
    add("--json", type=Path)
    add("--svg", type=Path, help="where the chart of the growth curves goes")
    asked = parser.parse_args(argv)
    gpu = asked.device == "cuda"
    asked.sizes = asked.sizes or (SIZES_GPU if gpu else ["tiny-lm"] if asked.quick else SIZES_CPU)
    asked.chains = asked.chains or ([1, 4, 16] if gpu else [4])
    asked.probes = asked.probes or ([True] if asked.quick else [True, False])
    asked.draws = asked.draws or (40 if gpu else 10)
    asked.rounds = asked.rounds or (1 if asked.quick else 3)
    if asked.parts is None:
        asked.parts = QUICK if asked.quick else list(PARTS) if gpu else DEFAULT
    if gpu:
        asked.head_chains, asked.head_draws = 4, max(asked.head_draws, 20)
    for given, known, what in ((asked.sizes, models.CPU, "sizes"), (asked.parts, RUN, "parts")):
        wrong = [x for x in given if x not in known]
        if wrong:
            parser.error(f"--{what}: got {','.join(wrong)}; known are {','.join(known)}")
    if asked.paper:
        asked.parts = [*asked.parts, "paper"]
    if gpu and not torch.cuda.is_available():
        parser.error("--device cuda: there is no CUDA device here; leave it out")
    return asked


HEAD = "l0.h1"
SIZES_CPU, SIZES_GPU = ["tiny-lm", "3m"], ["tiny-lm", "3m", "70m", "160m"]
NAMED = {"cpu": "tiny-lm", "cuda": "160m"}
UPDATES = {"cpu": {"3m": 3_354_112, "70m": 70_426_624}, "cuda": {"160m": 162_322_944}}
QUICK, DEFAULT = ["sampling", "update"], ["sampling", "products", "heads", "update", "batching"]
RUN = {
    "sampling": sampling, "products": over_products, "heads": heads, "update": update,
    "batching": batch, "growth": grow, "idle": idle, "precision": precision, "paper": paper,
}  # fmt: skip

if __name__ == "__main__":
    main()
