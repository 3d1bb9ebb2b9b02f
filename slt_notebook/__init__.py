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
    "causal_lm": "models.losses.causal_lm",
    "supervised": "models.losses.supervised",
    "classifier": "models.losses.supervised",
    "regressor": "models.losses.supervised",
    "token_classifier": "models.losses.supervised",
    "seq2seq_lm": "models.losses.seq2seq_lm",
    "loss_fn": "models.losses.function",
    "text_probe": "models.probes",
    "token_probe": "models.probes",
    "array_probe": "models.probes",
    "pair_probe": "models.pairs",
    "components": "models.components.catalog",
    # sampling
    "sample": "runs.sample",
    "sweep": "runs.sweep",
    "memory_plan": "runs.memory_plan",
    "MemoryPlan": "runs.plan.memory",
    "Run": "runs.handle",
    "Sweep": "runs.sweep_handle",
    "calibrate": "runs.calibration.calibrate",
    "SGLD": "core.kernels.sgld",
    "SGHMC": "core.kernels.sghmc",
    "SGNHT": "core.kernels.sgnht",
    "MALA": "core.kernels.mala",
    "Identity": "core.kernels.metrics",
    "RMSProp": "core.kernels.metrics",
    "Adam": "core.kernels.metrics",
    "Fixed": "core.kernels.metrics",
    "open_run": "results.store",
    "open_sweep": "results.sweep",
    "check": "results.integrity.check",
    # estimates
    "llc": "estimators.llc.llc",
    "refined_llc": "estimators.components.refined_llc",
    "stages": "estimators.components.refined_llc",
    "cluster_curves": "estimators.components.refined_llc",
    "moments": "estimators.components.moments",
    "reliability": "estimators.components.moments",
    "susceptibility": "estimators.components.susceptibility",
    "dataset_susceptibility": "estimators.components.susceptibility",
    "center_component": "estimators.components.susceptibility",
    "center_token": "estimators.components.susceptibility",
    "zscore": "estimators.components.susceptibility",
    "response_pca": "estimators.components.response_pca",
    "clusters": "estimators.components.clusters",
    "conductance": "estimators.components.clusters",
    "same_token_shuffle": "estimators.components.clusters",
    "purity": "estimators.components.clusters",
    "token_tags": "estimators.components.tags",
    "by_tag": "estimators.components.tags",
    "patterning": "estimators.components.patterning",
    "influence": "estimators.influence.influence",
    "loss_kernel": "estimators.kernel.loss_kernel",
    "kernel_map": "estimators.kernel.kernel_map",
    "neighbours": "estimators.kernel.kernel_map",
    "loss_moments": "estimators.kernel.loss_moments",
    "embed": "estimators.kernel.embed",
    "group_influence": "estimators.influence.groups",
    "over_checkpoints": "estimators.training.checkpoints",
    "screen": "estimators.influence.screens",
    "to_scores": "estimators.influence.scores",
    "phase_mixture": "estimators.influence.phases",
    "separation": "estimators.kernel.alignment",
    "mantel": "estimators.kernel.alignment",
    "by_depth": "estimators.kernel.taxonomy",
    "neighbour_purity": "estimators.kernel.taxonomy",
    "activation_kernel": "models.similarity",
    "gradient_kernel": "models.similarity",
    "waic": "estimators.llc.model_selection",
    "wbic": "estimators.llc.model_selection",
    "free_energy": "estimators.llc.model_selection",
    "crossover": "estimators.llc.model_selection",
    "critical_compression": "runs.compression",
    "compression_fit": "estimators.llc.compression",
    "compression_series": "estimators.llc.compression",
    "redundancy": "estimators.llc.codelength",
    "trajectory_pca": "estimators.training.trajectory",
    "health": "estimators.health",
    "to_arviz": "results.arviz_export",
    "import_devinterp": "results.devinterp_import",
    # views
    "TokenStrip": "views.text.token_strip",
    "InfluenceExplorer": "views.text.influence_explorer",
    "EmbeddingMap": "views.maps.embedding",
    "KernelMatrix": "views.maps.kernel_matrix",
    "InfluenceOverTraining": "views.charts.influence_over_training",
    "lds_chart": "views.charts.lds_chart",
    "depth_chart": "views.charts.depth_chart",
    "ComponentGrid": "views.maps.component_grid",
    "component_strip": "views.maps.component_grid",
    "ClusterBrowser": "views.text.cluster_browser",
    "StageCurves": "views.charts.stage_curves",
    "TraceView": "views.charts.traces",
    "RunMonitor": "views.monitor",
    "CompressionView": "views.charts.compression",
    "TransienceView": "views.charts.transience",
    "OddsView": "views.charts.odds",
    "CalibrationView": "views.charts.calibration",
    "SamplerBenchmark": "views.charts.sampler_benchmark",
    "NetworkBuilder": "views.charts.network_builder",
    "Focus": "views.base.linking",
    "notes": "views.notes.notes",
    "view": "views.dispatch",
    # errors
    "SLTError": "errors",
    "InputError": "errors",
    "StoreError": "errors",
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
