"""The run card: HTML in a notebook, and the same as text."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from slt_notebook import names
from slt_notebook.results.result import Result, resolve
from slt_notebook.results.store import read
from slt_notebook.views.base import fallback, static_svg
from slt_notebook.views.charts.traces import (
    badges,
    chain_rows,
    decimate,
    estimate,
    estimate_text,
    gains,
)
from slt_notebook.views.monitor import duration

_STYLE = "margin:2px 0 2px 12px"
_ENDED = ("finished", "stopped", "failed")


def run_card(
    tree: Any, path: Any = None, progress: Mapping[str, Any] | None = None, name: str | None = None
) -> str:
    """Return a run as collapsible sections, without scripts or styles of its own page.

    What was sampled, the setting, the LLC with its MCSE and interval, the checks with what to do,
    the probes, and how to open the run again.

    Args:
        tree: a run.
        path: where its store is, or None for one in memory.
        progress: `Run.progress()` of a live run.
        name: the heading; else the store's name.
    """
    facts = _facts(tree, path, progress)
    own = facts["estimate"]
    title = name or facts["name"]
    stage = f" · {fallback.esc(facts['stage'])}" if facts["stage"] else ""
    found = [
        f'<div style="font-size:13px;line-height:1.5;max-width:860px">'
        f"<p style='margin:0'><strong>{fallback.esc(title)}</strong>{stage}<br>"
        f'<span style="font-size:15px">{fallback.esc(estimate_text(own))}</span></p>',
        static_svg.chips(facts["badges"]),
        _section("LLC of each chain, and traces", _llc_part(facts), opened=True),
        _section("What was sampled", _pairs(facts["what"])),
        _section("Setting", _pairs(facts["setting"])),
        _section("Checks", _checks(facts["badges"])),
        _section(f"Probes ({len(facts['probes'])})", _probes(facts["probes"])),
        _section("Open it again", f"<pre>{fallback.esc(facts['reopen'])}</pre>"),
    ]
    return "".join(part for part in found if part) + "</div>"


def run_text(
    tree: Any, path: Any = None, progress: Mapping[str, Any] | None = None, name: str | None = None
) -> str:
    """Return the card as plain text, for terminals and for readers of the notebook's source."""
    facts = _facts(tree, path, progress)
    lines = [f"{name or facts['name']}{': ' + facts['stage'] if facts['stage'] else ''}"]
    lines.append(estimate_text(facts["estimate"]))
    for title in ("what", "setting"):
        lines += [f"  {key}: {value}" for key, value in facts[title]]
    lines += [f"  {row[0]}: LLC {row[1]} ({row[2]})" for row in facts["chains"]]
    for b in facts["badges"]:
        advice = f"; {b['do']}" if b["verdict"] != "ok" and b["do"] else ""
        lines.append(f"  {b['name']}: {b['value']}, {b['verdict']}{advice}")
    lines += [f"  probe {row[0]}: {row[1]}, {row[2]} examples" for row in facts["probes"]]
    return "\n".join([*lines, "", facts["reopen"]])


def _facts(tree: Any, path: Any, progress: Mapping[str, Any] | None) -> dict[str, Any]:
    run = resolve(tree)
    data = run.sampling
    burnin = int(data.attrs.get(names.A_BURNIN, 0))
    where = path or run.source
    found = estimate(run, burnin)
    each = found.get("each") or [None] * data.sizes[names.CHAIN]
    chains = [
        (row["label"], fallback.number(np.nan if v is None else v), row["excluded"] or "ok")
        for row, v in zip(chain_rows(run), each, strict=True)
    ]
    return {
        "name": f"Run {run.name}" if run.name else "Run",
        "stage": _stage(data, progress),
        "estimate": found,
        "badges": badges(run, burnin),
        "chains": chains,
        "picture": _picture(run, data, burnin),
        "what": _what(run, data),
        "setting": _setting(run, data),
        "probes": [_probe_row(run, probe) for probe in run.probe_names],
        "reopen": _reopen(where),
    }


def _stage(data: xr.Dataset, progress: Mapping[str, Any] | None) -> str:
    if progress is None:
        done = np.isfinite(read(data[names.LOSS])).all()
        return "" if done else "not complete"
    text = str(progress.get("stage", ""))
    if text not in _ENDED:
        text += f", draw {progress.get('draw', 0)} of {progress.get('draws', 0)}"
        text += f", {duration(progress.get('seconds_left'))} left"
    return text


def _task(run: Result) -> dict[str, Any]:
    try:
        task = json.loads(run.attrs.get(names.A_TASK, "{}"))
    except (TypeError, ValueError):
        return {}
    return task if isinstance(task, dict) else {}


def _what(run: Result, data: xr.Dataset) -> list[tuple[str, str]]:
    versions = run.attrs.get(names.A_VERSIONS, "")
    try:
        versions = ", ".join(f"{k} {v}" for k, v in json.loads(versions).items())
    except (TypeError, ValueError, AttributeError):
        versions = str(versions)
    pairs = [
        ("component", data.attrs.get(names.A_COMPONENT)),
        ("coordinates", data.attrs.get(names.A_SPACE_DIM)),
        ("examples in the data", data.attrs.get(names.A_DATA_SIZE)),
        ("model fingerprint", run.attrs.get(names.A_MODEL)),
        ("made", run.attrs.get(names.A_CREATED)),
        ("versions", versions),
        ("note", "; ".join(map(str, run.attrs.get(names.A_NOTES, ())))),
    ]
    return [(key, str(value)) for key, value in pairs if value not in (None, "")]


def _setting(run: Result, data: xr.Dataset) -> list[tuple[str, str]]:
    task = _task(run)
    kernel = task.get("kernel")
    pairs: list[tuple[str, Any]] = []
    if isinstance(kernel, Mapping):
        metric = kernel.get("metric")
        metric = metric.get("kind") if isinstance(metric, Mapping) else metric
        pairs.append(("kernel", f"{kernel.get('kind', '')}{f' with {metric}' if metric else ''}"))
    for key, label in ((names.STEP_SIZE, "step size"), (names.NBETA, "nβ"), (names.GAMMA, "γ")):
        if key in data.coords:
            values = np.unique(read(data[key]))
            pairs.append((label, ", ".join(f"{v:.4g}" for v in values)))
    chains = data.sizes[names.CHAIN]
    draws, thin = data.attrs.get(names.A_DRAWS), data.attrs.get(names.A_THIN)
    pairs.append(("chains × draws", f"{chains} × {draws}, every {thin} steps"))
    pairs.append(("burn-in", f"{data.attrs.get(names.A_BURNIN, 0)} steps"))
    pairs += [(key.replace("_", " "), task[key]) for key in ("batch_size", "seed") if key in task]
    return [(key, str(value)) for key, value in pairs]


def _probe_row(run: Result, name: str) -> tuple[str, str, int, str]:
    probe = run.probe(name)
    kind = str(probe.attrs.get("kind", "array"))
    if names.INIT_LOSS not in probe:
        return name, kind, probe.sizes[names.EXAMPLE], "no value"
    base = np.asarray(read(probe[names.INIT_LOSS]), float)
    mean = float(np.nanmean(base)) if np.isfinite(base).any() else np.nan
    return name, kind, probe.sizes[names.EXAMPLE], fallback.number(mean)


def _picture(run: Result, data: xr.Dataset, burnin: int) -> str:
    blocks = decimate(gains(data), burnin, limit=150)
    middle = (blocks["edges"][:-1] + blocks["edges"][1:]) / 2
    labels = [row["label"] for row in chain_rows(run)]
    series = [(label, middle, blocks["mean"][k]) for k, label in enumerate(labels[:8])]
    note = " of the first 8 chains" if len(labels) > 8 else ""
    label = f"loss of each batch minus its loss at w*{note}"
    return static_svg.trace_svg(series, label=label, burnin=burnin)


def _reopen(path: Any) -> str:
    if path is None:
        return "This run is in memory only: sample with store='runs/name.zarr' to keep one."
    return f"tree = slt.open_run({str(path)!r})\nslt.view(tree)"


def _section(title: str, body: str, opened: bool = False) -> str:
    flag = " open" if opened else ""
    summary = f'<summary style="cursor:pointer">{fallback.esc(title)}</summary>'
    return f"<details{flag}>{summary}<div style='{_STYLE}'>{body}</div></details>"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left;font-weight:normal;opacity:.75">'
        f'{fallback.esc(key)}</th><td style="text-align:left">{fallback.esc(value)}</td></tr>'
        for key, value in pairs
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _llc_part(facts: Mapping[str, Any]) -> str:
    table = fallback.table("nβ times the mean rise", ("chain", "LLC", "status"), facts["chains"])
    return facts["picture"] + table


def _checks(found: list[dict]) -> str:
    if not found:
        return "<p>no checks: too few steps after the burn-in</p>"
    rows = [(b["name"], b["value"], b["verdict"], b["meaning"], b["do"]) for b in found]
    return fallback.table("Checks", ("check", "value", "verdict", "meaning", "what to do"), rows)


def _probes(rows: list[tuple]) -> str:
    head = ("probe", "kind", "examples", "mean loss at w*")
    return fallback.table("Probes", head, rows) if rows else "<p>none</p>"
