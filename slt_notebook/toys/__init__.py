"""Small models whose answers are known, their data and training; public names resolve on use."""

import importlib
from typing import Any

_PUBLIC = {
    "lds": "datamodels",
    "retrain": "retraining",
    "digits_problem": "retraining",
    "Hierarchy": "hierarchy",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"slt_notebook.toys.{_PUBLIC[name]}"), name)
    raise AttributeError(f"slt_notebook.toys has no {name!r}")
