"""`SamplerBenchmark`: samplers and step sizes against known answers."""

from typing import Any

import numpy as np
import traitlets
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import View, check_trait, pack, refuse

SAMPLER, PROBLEM = "sampler", "problem"


class SamplerBenchmark(View):
    """What `slt.benchmarks.run` returned: error and order against the step, estimate against truth.

    The step size chosen on the left (drag, or arrow keys) is the one whose estimates stand on the
    right; samplers can be switched off, networks chosen by class and certificate, and a click on a
    network follows it through all samplers.

    Args:
        data: what `slt.benchmarks.run` returns, of one call or of several joined along `problem`.
        focus: a Focus to share with other views.

    Raises:
        InputError: Another Dataset.
    """

    _bundle = "samplers"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    def __init__(self, data: xr.Dataset, *, focus: Focus | None = None, **unknown: Any) -> None:
        refuse(unknown, SamplerBenchmark)
        check_trait(focus, Focus, "focus", "pass slt.Focus(), or leave it out")
        if not is_benchmark(data):
            raise InputError(
                say(f"a {type(data).__name__}", "what slt.benchmarks.run returns", "pass that")
            )
        self._data = data = data.transpose(SAMPLER, names.STEP_SIZE, PROBLEM, ...)
        sizes = (
            [str(v) for v in data["size"].values] if "size" in data else [""] * len(data[PROBLEM])
        )
        problems = [
            {
                "name": str(name), "parameters": int(data.parameters.values[k]),
                "certified": bool(data.certified.values[k]), "size": sizes[k],
                "note": str(data["why"].values[k]) if "why" in data else "",
            }
            for k, name in enumerate(data[PROBLEM].values)
        ]  # fmt: skip
        attrs = data.attrs
        burnin = attrs.get(names.A_BURNIN, "?")
        about = f"{attrs.get('steps', '?')} steps, the first {burnin} discarded as burn-in."
        payload, meta = pack(
            {
                "estimate": data.estimate.values.astype("f4"),
                "mcse": data.mcse.values.astype("f4"),
                "truth": data.truth.values.astype("f4"),
            },
            samplers=[str(v) for v in data[SAMPLER].values],
            steps=data[names.STEP_SIZE].values.tolist(),
            problems=problems,
            sizes=list(dict.fromkeys(sizes)),
            about=about if "steps" in attrs else "",
        )
        error = abs(data.estimate / data.truth - 1).fillna(np.inf).median(PROBLEM).min(SAMPLER)
        super().__init__(payload=payload, meta=meta, focus=focus, step=int(np.argmin(error.values)))

    def _rows(self) -> list[tuple[str, ...]]:
        error = abs(self._data.estimate / self._data.truth - 1).fillna(np.inf).median(PROBLEM)
        rows = []
        for name in self._data[SAMPLER].values:
            one = error.sel({SAMPLER: name})
            best = int(np.argmin(one.values))
            text = f"{float(one[best]):.1%}" if np.isfinite(one[best]) else "not finite"
            rows.append((str(name), f"{float(one[names.STEP_SIZE][best]):.2g}", text))
        return rows

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        count = self._data.sizes[PROBLEM]
        head = f"Sampler benchmark on {count} networks: median absolute relative error"
        return "\n".join([head, *(f"  {n}: {e} at its best step {s}" for n, s, e in self._rows())])

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        heads = ("sampler", "best step", "median absolute relative error there")
        table = fallback.table("Samplers against the known answer", heads, self._rows())
        return fallback.page("Sampler benchmark", [table], 150_000)


def is_benchmark(data: Any) -> bool:
    """Return whether `data` is what `slt.benchmarks.run` returns."""
    if not isinstance(data, xr.Dataset):
        return False
    dims = {SAMPLER, names.STEP_SIZE, PROBLEM}
    known = {*data.data_vars, *data.coords}
    return dims <= set(data.dims) and {"estimate", "mcse", "truth", "certified"} <= known
