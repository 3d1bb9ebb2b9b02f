"""Problems with a known answer, for tests and for users, and the benchmark of samplers on them.

slt.benchmarks.dln.learning_coefficient([10, 20, 10], 5)      # exact, needs no torch
slt.benchmarks.volumes.NODE.volume(1e-3)                      # exact, needs no torch
problem = slt.benchmarks.networks("1k", 1, certified=True)[0]
slt.benchmarks.run({"SGLD": slt.SGLD()}, [problem], [1e-7, 1e-6])
"""

import importlib
from typing import Any

_PUBLIC = {
    "Problem": "problem",
    "monomial": "closed_forms",
    "normal_crossing": "closed_forms",
    "line_and_dot": "closed_forms",
    "cubic_mean": "closed_forms",
    "linear_gaussian": "closed_forms",
    "network": "planted",
    "networks": "planted",
    "reduced_rank": "planted",
    "SIZES": "planted",
    "run": "compare",
}

__all__ = ["dln", "volumes", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in ("dln", "volumes"):
        return importlib.import_module(f"slt_notebook.benchmarks.{name}")
    if name in _PUBLIC:
        module = importlib.import_module(f"slt_notebook.benchmarks.{_PUBLIC[name]}")
        return getattr(module, name)
    raise AttributeError(f"slt.benchmarks has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
