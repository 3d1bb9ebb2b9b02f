"""slt-notebook: singular learning theory of trained networks, inside the notebook.

    import slt_notebook as slt

Every public name is resolved on first use (PEP 562), so that this import takes milliseconds and
the result side (`slt.llc`, `slt.TokenStrip`, ...) works on a machine without torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    # what is studied
    "load": "models.load",
    "revisions": "models.load",
    "probe_texts": "models.load",
    "causal_lm": "models.causal_lm",
    "supervised": "models.losses",
    "loss_fn": "models.losses",
    "text_probe": "models.probes",
    "token_probe": "models.probes",
    "array_probe": "models.probes",
    "components": "models.components",
    # sampling
    "sample": "runs.run",
    "sweep": "runs.sweep",
    "memory_plan": "runs.forecast",
    "MemoryPlan": "runs.memory",
    "Run": "runs.handle",
    "Sweep": "runs.sweep_handle",
    "calibrate": "runs.calibrate",
    "SGLD": "core.kernels",
    "SGHMC": "core.sghmc",
    "SGNHT": "core.sgnht",
    "MALA": "core.mala",
    "Identity": "core.metrics",
    "RMSProp": "core.metrics",
    "Adam": "core.metrics",
    "Fixed": "core.metrics",
    "open_run": "estimators.tree",
    "open_sweep": "estimators.sweep",
    # estimates
    "llc": "estimators.llc",
    "refined_llc": "estimators.refined",
    "stages": "estimators.refined",
    "cluster_curves": "estimators.refined",
    "moments": "estimators.response",
    "reliability": "estimators.response",
    "susceptibility": "estimators.susceptibility",
    "dataset_susceptibility": "estimators.susceptibility",
    "center_component": "estimators.susceptibility",
    "center_token": "estimators.susceptibility",
    "zscore": "estimators.susceptibility",
    "response_pca": "estimators.response_pca",
    "clusters": "estimators.clusters",
    "conductance": "estimators.clusters",
    "same_token_shuffle": "estimators.clusters",
    "purity": "estimators.clusters",
    "token_tags": "estimators.tags",
    "by_tag": "estimators.tags",
    "patterning": "estimators.patterning",
    "influence": "estimators.influence",
    "loss_kernel": "estimators.kernel",
    "kernel_map": "estimators.kernel_map",
    "neighbours": "estimators.kernel_map",
    "loss_moments": "estimators.loss_moments",
    "embed": "estimators.embed",
    "group_influence": "estimators.groups",
    "over_checkpoints": "estimators.checkpoints",
    "screen": "estimators.screens",
    "to_scores": "estimators.scores",
    "phase_mixture": "estimators.phases",
    "separation": "estimators.alignment",
    "mantel": "estimators.alignment",
    "by_depth": "estimators.taxonomy",
    "neighbour_purity": "estimators.taxonomy",
    "activation_kernel": "models.likeness",
    "gradient_kernel": "models.likeness",
    "waic": "estimators.selection",
    "wbic": "estimators.selection",
    "free_energy": "estimators.selection",
    "crossover": "estimators.selection",
    "critical_compression": "runs.compression",
    "compression_fit": "estimators.compression",
    "compression_series": "estimators.compression",
    "redundancy": "estimators.codelength",
    "trajectory_pca": "estimators.trajectory",
    "health": "estimators.health",
    "to_arviz": "estimators.interchange",
    "import_devinterp": "estimators.interchange",
    # views
    "TokenStrip": "views.tokens",
    "InfluenceExplorer": "views.influence",
    "EmbeddingMap": "views.embedding",
    "KernelMatrix": "views.matrix",
    "InfluenceOverTraining": "views.stagewise",
    "lds_chart": "views.lds_chart",
    "depth_chart": "views.depth_chart",
    "ComponentGrid": "views.components",
    "component_strip": "views.components",
    "ClusterBrowser": "views.clusters",
    "StageCurves": "views.stages",
    "TraceView": "views.traces",
    "RunMonitor": "views.monitor",
    "CompressionView": "views.compression",
    "TransienceView": "views.transience",
    "OddsView": "views.odds",
    "CalibrationView": "views.calibration",
    "SamplerBenchmark": "views.samplers",
    "NetworkBuilder": "views.network",
    "Focus": "views.linking",
    "notes": "views.notes",
    "view": "views.dispatch",
    # errors
    "SLTError": "errors",
    "InputError": "errors",
    "StoreMismatch": "errors",
    "NotReproducible": "errors",
    "Diverged": "errors",
    "OutOfMemory": "errors",
}

_ROOMS = ("core", "models", "runs", "estimators", "views", "share", "toys", "benchmarks")

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"slt_notebook.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return importlib.import_module(f"slt_notebook.{name}")
    from slt_notebook.errors import nearest

    raise AttributeError(f"slt_notebook has no {name!r}{nearest(name, _PUBLIC)}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
