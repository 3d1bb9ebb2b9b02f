"""One table of the results; the JSON holds every number behind it."""

from collections.abc import Sequence

COLUMNS = (
    "work", "side", "call s", "CPU s", "draw s", "draw CPU", "× kit call", "× kit draw",
    "% peak", "idle %", "peak MB", "copies", "bound",
)  # fmt: skip


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant figures, without exponents; a dash for what was not measured."""
    if value is None:
        return "-"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text and abs(value) >= 1 else text


def rows(case: dict) -> list[list[str]]:
    """Lines of one case: its sides, ours first."""
    out = []
    ours = case["sides"].get("slt-notebook", {})
    for side, found in case["sides"].items():
        if "error" in found:
            out.append([case["name"], side, f"left out: {found['error']}"])
            continue
        call, draw = found["call"], found.get("draw", {})
        kit = side == "slt-notebook"
        ratio = lambda part, found=found: _ratio(found, ours, part)
        share = 100 * case["share_of_peak"] if kit and case.get("share_of_peak") else None
        peak = None if call["peak"] is None else call["peak"] / 1e6
        copies = None if peak is None else 1e6 * peak / (4 * case["parameters"])
        out.append([
            case["name"], side, number(call["wall"]), number(call["cpu"]),
            number(draw.get("wall")), number(draw.get("cpu")),
            "" if kit else number(ratio("call")), "" if kit else number(ratio("draw")),
            number(share), number(100 * found["idle"]) if kit else "-",
            number(peak), number(copies), str(case["bound"]) if kit else "",
        ])  # fmt: skip
    return out


def _ratio(found: dict, ours: dict, part: str) -> float | None:
    if part not in found or part not in ours:
        return None
    if min(found[part]["wall"], ours[part]["wall"]) <= 0:  # less than the noise of two calls
        return None
    return found[part]["wall"] / ours[part]["wall"]


def text(lines: Sequence[Sequence[str]], head: Sequence[str] = COLUMNS) -> str:
    """Columns as wide as what is in them; a line that says why something is left out runs on."""
    full = [line for line in lines if len(line) == len(head)]
    widths = [max(map(len, column)) for column in zip(head, *full, strict=True)]
    show = lambda line: "  ".join(
        part.ljust(w) if i < 2 else part.rjust(w)
        for i, (part, w) in enumerate(zip(line, widths, strict=False))
    ).rstrip()
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([show(head), rule, *map(show, lines)])


def figures(found: dict) -> list[str]:
    """A line for each figure that stands in no row."""
    out = []
    for case in found["cases"]:
        if case.get("activations") is not None and case["sides"]["slt-notebook"].get("call"):
            out.append(memory(case))
        if "over_products" in case:
            out.append(
                f"{case['name']}: {number(case['over_products'])} times its matrix products alone; "
                f"{number(100 * case['share_of_peak_in_shapes'])} % of the peak in its shapes "
                f"({number(case['products']['gflops'])} GFLOP/s)"
            )
    one = found.get("products")
    if one:
        out.append(
            f"{one['size']}, time over its matrix products alone, in turn: wall "
            f"{number(one['over_products'])}, CPU {number(one['over_products_cpu'])} "
            f"({number(one['gflops_alone'])} GFLOP/s alone)"
        )
    out += [
        f"update, {row['size']} x {row['chains']} chains, {row['metric']}: "
        f"{number(row['update_gb_s'])} GB/s, {number(100 * row['update_share'])} % of the copy "
        f"bandwidth; kernel.step alone {number(100 * row['kernel_share'])} %"
        for row in found.get("update", [])
    ]
    one = found.get("batching")
    if one:
        for p in one["points"]:
            rule = "batches" if p["rule_batches"] else "loops"
            out.append(
                f"{p['family']}, {p['work']:.2g} multiply-adds: batched / looped = "
                f"{number(p['batched_over_looped'])} (the rule {rule})"
            )
        crossed = {k: "none seen" if v is None else f"{v:.2g}" for k, v in one["crossover"].items()}
        told = ", ".join(f"{k} {v}" for k, v in crossed.items())
        out.append(f"crossover: {told}; plan.SMALL = {one['small']:.2g}")
    one = found.get("idle")
    if one:
        out.append(one.get("left_out") or f"device idle: {100 * one['idle_share']:.1f} %")
    one = found.get("precision")
    if one:
        out.append(
            one.get("left_out")
            or f"bf16 probes: rms {one['rms_nat']:.2g} nat; LLC changes by "
            f"{one['llc_change']:.2g} (MCSE {one['llc_mcse']:.2g}), influence by "
            f"{one['influence_change_over_error']:.2g} of its standard error (median)"
        )
    return out


def memory(case: dict) -> str:
    """The peak against the bound: (C (3 + states) + 2) copies and the activations of a chunk."""
    kit = case["sides"]["slt-notebook"]
    copy = 4 * case["parameters"]
    peak = None if kit["call"]["peak"] is None else kit["call"]["peak"] / 1e6
    allowed = case["bound"] * copy + case["activations"]
    return (
        f"{case['name']}: peak {number(peak)} MB above what was held; "
        f"allowed {number(allowed / 1e6)} ({case['bound']} copies of {number(copy / 1e6)} and "
        f"activations of {number(case['activations'] / 1e6)}, held by each of {kit['workers']})"
    )
