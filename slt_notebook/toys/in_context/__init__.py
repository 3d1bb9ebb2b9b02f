"""In-context linear regression: data, ideal predictors, transformer, training (2501.17745).

from slt_notebook.toys import in_context
setting = in_context.SMALL                      # D = 4, K = 8
tasks = in_context.tasks(16, setting)           # nested: the first 8 are tasks(8, setting)
"""

import importlib
from typing import Any

_PUBLIC = {
    "Setting": "data",
    "PAPER": "data",
    "SMALL": "data",
    "tasks": "data",
    "sequences": "data",
    "posterior": "predictors",
    "dmmse": "predictors",
    "ridge": "predictors",
    "Transformer": "model",
    "predictions": "model",
    "train": "training",
    "collect": "collection",
    "read": "collection",
    "checkpoint_steps": "training",
    "probe": "local",
    "loss": "local",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module = importlib.import_module(f"{__name__}.{_PUBLIC[name]}")
        return getattr(module, name)
    raise AttributeError(f"slt_notebook.toys.in_context has no {name!r}; it has {__all__}")
