"""Check an installation: what is missing, and how to get it."""

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from slt_notebook import __version__

PACKAGES = (
    "torch", "transformers", "xarray", "zarr", "arviz-stats", "anywidget", "ipywidgets",
    "jupyterlab", "nbconvert", "altair", "vl-convert-python", "numpy", "pandas",
)  # fmt: skip
"""Needed, with `torch` and `transformers` for sampling alone."""

OPTIONAL = {
    "arviz": "to open runs in ArviZ: pip install arviz",
    "gguf": "to load GGUF models: pip install 'slt-notebook[gguf]'",
}


def examine() -> dict[str, Any]:
    """Everything that `slt-notebook doctor` reports.

    Returns:
        `slt_notebook`, `python`, `system`, `packages` {name: version or None}, `device`, `bundles`,
        `labextension`, `exporter`, `tutorials`, `problems` [{what, do, blocks}].
    """
    problems: list[dict[str, Any]] = []
    packages = {name: _version(name) for name in PACKAGES}
    for name, version in packages.items():
        if version is None:
            blocks = name not in ("torch", "transformers", "vl-convert-python")
            effect = "" if blocks else "; finished runs can be opened, " + _without(name)
            problems.append(_problem(f"{name} is missing{effect}", f"pip install {name}", blocks))
    report = {
        "slt_notebook": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": packages,
        "optional": {name: _version(name) for name in OPTIONAL},
        "device": _device(packages["torch"], problems),
        "bundles": _bundles(problems),
        "labextension": _labextension(problems),
        "exporter": _exporter(problems),
        "tutorials": _tutorials(problems),
    }
    return {**report, "problems": problems}


def text(report: dict[str, Any]) -> str:
    """Return the report for a terminal."""
    bundles = report["bundles"]
    sizes = ", ".join(f"{name} {size / 1024:.1f} kB" for name, size in bundles["sizes"].items())
    packages = [f"{name} {version or 'MISSING'}" for name, version in report["packages"].items()]
    lines = [
        f"slt-notebook {report['slt_notebook']}, Python {report['python']}, {report['system']}",
        f"device        {report['device']}",
        f"widgets       {bundles['state']}{': ' + sizes if sizes else ''}",
        f"JupyterLab    extension {report['labextension']}",
        f"export        {report['exporter']}",
        f"tutorials     {report['tutorials']}",
        f"packages      {', '.join(packages)}",
    ]
    absent = [name for name, version in report["optional"].items() if version is None]
    lines += [f"optional      {name} is not installed; {OPTIONAL[name]}" for name in absent]
    for problem in report["problems"]:
        mark = "MISSING" if problem["blocks"] else "note"
        lines += [f"{mark}: {problem['what']}", f"    what to do: {problem['do']}"]
    if not report["problems"]:
        lines.append("everything is in place")
    return "\n".join(lines)


def _problem(what: str, do: str, blocks: bool = True) -> dict[str, Any]:
    return {"what": what, "do": do, "blocks": blocks}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _without(name: str) -> str:
    return {
        "torch": "but nothing can be sampled",
        "transformers": "but no language model can be loaded",
        "vl-convert-python": "but exported pages show no Altair charts",
    }[name]


def _device(version: str | None, problems: list) -> str:
    if version is None:
        return "unknown (no torch)"
    try:
        import torch
    except Exception as error:  # a broken installation raises whatever it likes
        problems.append(
            _problem(
                f"torch {version} does not import: {error}", "pip install --force-reinstall torch"
            )
        )
        return "unknown (torch does not import)"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"cuda: {', '.join(names)}"
    if torch.backends.mps.is_available():
        return "mps"
    return f"cpu, {torch.get_num_threads()} threads"


def _bundles(problems: list) -> dict[str, Any]:
    from slt_notebook.share.bundles import BUILD_COMMAND, status

    found = status()
    if found.state == "missing":
        problems.append(_problem("the widgets are not built", BUILD_COMMAND))
    elif found.state == "stale":
        problems.append(
            _problem("the widgets are older than their sources", BUILD_COMMAND, blocks=False)
        )
    return {"state": found.state, "sizes": found.widgets}


def _labextension(problems: list) -> str:
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return "unknown (no jupyter_core)"
    from slt_notebook.share.bundles import LABEXTENSION

    places = [Path(p) / "slt-notebook" / "package.json" for p in jupyter_path("labextensions")]
    where = next((place for place in places if place.is_file()), None)
    if where is None:
        how = "pip install -e ." if _checkout() else "pip install --force-reinstall slt-notebook"
        problems.append(
            _problem(
                "JupyterLab does not find the extension (tiles, run viewer)", how, blocks=False
            )
        )
        return "not installed"
    own = LABEXTENSION / "package.json"
    if _checkout() and own.is_file() and _load(own) != _load(where):
        problems.append(
            _problem(
                "JupyterLab has an older copy of the extension", "pip install -e .", blocks=False
            )
        )
        return "stale"
    return f"installed, version {_read(where).get('version', 'unknown')}"


def _checkout() -> bool:
    from slt_notebook.share.bundles import SOURCES

    return (SOURCES / "build.mjs").is_file()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _load(path: Path) -> Any:
    return _read(path).get("jupyterlab", {}).get("_build", {}).get("load")


def _exporter(problems: list) -> str:
    entries = metadata.entry_points(group="nbconvert.exporters")
    if any(entry.name == "slt" for entry in entries):
        return "registered with nbconvert as 'slt'"
    how = "pip install -e ." if _checkout() else "pip install --force-reinstall slt-notebook"
    problems.append(_problem("nbconvert does not know the exporter 'slt'", how, blocks=False))
    return "not registered; `slt-notebook export` works all the same"


def _tutorials(problems: list) -> str:
    from slt_notebook.share import tutorials

    found = tutorials.titles()
    if not found:
        problems.append(
            _problem("no tutorials", "pip install --force-reinstall slt-notebook", blocks=False)
        )
    return f"{len(found)} found"


def main(as_json: bool) -> int:
    """Print the report; 1 when something that is needed is missing."""
    report = examine()
    print(json.dumps(report, indent=2) if as_json else text(report), file=sys.stdout)
    return 1 if any(problem["blocks"] for problem in report["problems"]) else 0
