"""Growth of time and memory with chains, probe tokens, components, checkpoints and parameters.

Each curve changes one thing of one small run of the kit and leaves the rest.  The chart is an SVG
on a white card, readable on a light and on a dark page.
"""

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import slt_notebook as slt
from slt_notebook.models.tiny_lm import TinyLMConfig, TinyLMForCausalLM
from tests.bench.parts import rounds
from tests.bench.parts.models import build

LENGTH, BATCH, CHAINS = 128, 8, 4
CURVES = ("chains", "probe tokens", "components", "checkpoints", "parameters")


def points(curve: str, device: torch.device, quick: bool) -> Iterator[tuple[float, Callable]]:
    """Values of what grows, and the run that has this value."""
    rng = np.random.default_rng(0)
    ids = lambda rows, vocabulary=1024: rng.integers(0, vocabulary, (rows, LENGTH))
    few = 3 if quick else None

    def run(loss, probe=None, chains=CHAINS, **options):
        data = slt.token_probe("data", ids(4 * BATCH))
        probes = [] if probe is None else [slt.token_probe("probe", probe)]

        def side(draws: int, folder: Path) -> None:
            slt.sample(
                loss, data, probes=probes, kernel=slt.SGLD(1e-6), nbeta=30.0, gamma=300.0,
                chains=chains, draws=draws, batch_size=BATCH, store=folder / "run", device=device,
                progress=False, **options,
            )  # fmt: skip

        return side

    tiny = build("tiny-lm").to(device)
    loss = slt.causal_lm(tiny)
    if curve == "chains":
        for chains in (1, 2, 4, 8, 16)[:few]:
            yield chains, run(loss, ids(8), chains=chains)
    elif curve == "probe tokens":
        for rows in (8, 16, 32, 64, 128)[:few]:
            yield rows * LENGTH, run(loss, ids(rows))
    elif curve == "components":
        heads = [f"l{i}.h{j}" for i in (0, 1) for j in range(4)]
        for count in (1, 2, 4, 8)[:few]:
            yield count, run(loss, ids(8), components=heads[:count])
    elif curve == "checkpoints":
        names = slt.revisions("tiny-lm")[-4:]
        every = {name: slt.load("tiny-lm", revision=name)[0].to(device) for name in names}
        losses = {name: slt.causal_lm(model) for name, model in every.items()}
        for count in (1, 2, 4)[:few]:
            chosen = {name: losses[name] for name in names[:count]}
            yield count, run(loss, ids(8), checkpoints=chosen)
    elif curve == "parameters":
        for width, layers in ((64, 2), (128, 2), (256, 2), (256, 4), (512, 4))[:few]:
            torch.manual_seed(0)
            config = TinyLMConfig(1024, width, layers, width // 32, LENGTH)
            model = TinyLMForCausalLM(config).eval().to(device)
            yield sum(p.numel() for p in model.parameters()), run(slt.causal_lm(model), ids(8))
    else:
        raise ValueError(f"got {curve!r}; one of {CURVES}")


def measure(device: torch.device, repeats: int = 3, quick: bool = False, say=print) -> list[dict]:
    """Medians of a whole call of 5 draws, and its peak memory above what was held before."""
    out = []
    for curve in CURVES:
        jobs = list(points(curve, device, quick))
        rounds.once(jobs[0][1], 1, device)
        found = {value: [] for value, _ in jobs}
        for _ in range(1 if quick else repeats):
            for value, side in jobs:
                found[value].append(rounds.once(side, rounds.SHORTEST, device))
        for value, spent in found.items():
            peaks = [s.peak for s in spent if s.peak is not None]
            out.append({
                "curve": curve, "value": value,
                "seconds": statistics.median(s.wall for s in spent),
                "cpu": statistics.median(s.cpu for s in spent),
                "peak_mb": statistics.median(peaks) / 1e6 if peaks else None,
            })  # fmt: skip
        each = ", ".join(
            f"{r['value']:g}: {r['seconds']:.1f} s" for r in out if r["curve"] == curve
        )
        say(f"    {curve}: {each}")
    return out


def chart(found: list[dict], about: str, path: Path) -> None:
    """Two rows of panels, seconds and megabytes, a column for each thing that grows."""
    import altair as alt
    import pandas as pd

    table = pd.DataFrame(found)
    ink, grid = "#24292f", "#d8dee4"
    columns = []
    for curve in [c for c in CURVES if c in set(table.curve)]:
        part = table[table.curve == curve]
        values = sorted(part.value)
        pair = []
        for field, title, colour in (
            ("seconds", "seconds of a call of 5 draws", "#0b6bcb"),
            ("peak_mb", "peak memory, MB", "#b35900"),
        ):
            domain = table[field].dropna()
            if domain.empty:
                continue
            low, high = (
                10 ** np.floor(np.log10(domain.min())),
                10 ** np.ceil(np.log10(domain.max())),
            )
            base = alt.Chart(part).encode(
                alt.X("value:Q", title=curve,
                      scale=alt.Scale(type="log", domain=[values[0], values[-1]], nice=False),
                      axis=alt.Axis(values=values, format=".2~s", labelOverlap=True)),
                alt.Y(f"{field}:Q", title=title if curve == CURVES[0] else None,
                      scale=alt.Scale(type="log", domain=[low, high]),
                      axis=alt.Axis(format="~r", values=_decades(low, high))),
            )  # fmt: skip
            line = base.mark_line(color=colour, strokeWidth=2)
            dots = base.mark_point(color=colour, filled=True, size=36, opacity=1)
            pair.append((line + dots).properties(width=118, height=120))
        columns.append(alt.vconcat(*pair, spacing=14))
    whole = (
        alt.hconcat(*columns, spacing=14)
        .properties(
            title=alt.TitleParams(
                "What a run costs when one thing grows", subtitle=about, anchor="start",
                color=ink, subtitleColor=ink, fontSize=15, subtitleFontSize=11, offset=12,
            ),
            background="white", padding=14,
        )
        .configure_axis(
            labelColor=ink, titleColor=ink, gridColor=grid, domainColor=ink, tickColor=ink,
            labelFontSize=10, titleFontSize=11, titleFontWeight="normal",
        )
        .configure_view(stroke=None)
    )  # fmt: skip
    whole.save(str(path))


def _decades(low: float, high: float) -> list[float]:
    steps = round(np.log10(high / low))
    return [float(low * 10**i) for i in range(steps + 1)]
