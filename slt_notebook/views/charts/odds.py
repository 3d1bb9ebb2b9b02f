"""`OddsView`: free energies and log odds of two solutions over n."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets

from slt_notebook.errors import InputError, say
from slt_notebook.estimators.llc.model_selection import crossover, free_energy
from slt_notebook.views.base import fallback
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import View, check_trait, pack, refuse


class OddsView(View):
    """Free energies and log odds of two solutions over n, with sliders and the crossover.

        log p(U) / p(V) = n (L_V - L_U) + (lambda_V - lambda_U) log n

    Args:
        losses: (L_U, L_V), nats per observation.
        llcs: (lambda_U, lambda_V).
        names: of the two.
        n: observations at first.
        focus: a Focus to share with other views.

    Attributes:
        losses, llcs: lists of two. n: float.

    Raises:
        InputError: Values that are not two finite numbers, or an unknown keyword.
    References: Lehalleur et al. 2025 (arXiv:2502.05475).
    """

    _bundle = "odds"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    losses = traitlets.List(traitlets.Float()).tag(sync=True)
    llcs = traitlets.List(traitlets.Float()).tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    n = traitlets.Float(1000.0).tag(sync=True)

    def __init__(
        self,
        losses: Sequence[float] = (0.3, 0.5),
        llcs: Sequence[float] = (20.0, 2.0),
        *,
        names: Sequence[str] = ("U", "V"),
        n: float = 200.0,
        focus: Focus | None = None,
        **unknown: Any,
    ) -> None:
        refuse(unknown, OddsView)
        check_trait(focus, Focus, "focus", "pass slt.Focus(), or leave it out")
        pairs = {"losses": losses, "llcs": llcs}
        for name, pair in pairs.items():
            if np.shape(pair) != (2,) or not np.isfinite(np.asarray(pair, float)).all():
                raise InputError(say(f"{name}={pair}", "two finite numbers", "pass a pair"))
        if len(names) != 2 or not 10 <= n <= 1e6:
            raise InputError(say(f"names={names}, n={n}", "two names, n from 10 to 1e6", "mend"))
        payload, meta = pack({})
        super().__init__(
            payload=payload, meta=meta, losses=[float(v) for v in losses],
            llcs=[float(v) for v in llcs], names=[str(v) for v in names], n=float(n), focus=focus,
        )  # fmt: skip

    def odds(self) -> float:
        """Log odds of the first over the second at the present n, nats."""
        of = lambda k: float(free_energy(self.n, self.losses[k], self.llcs[k]))
        return of(1) - of(0)

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        u, v = self.names
        at = crossover(self.losses, self.llcs)
        where = f"crossover at n = {at:.1f}" if np.isfinite(at) else "no crossover"
        return (
            f"{u} (loss {self.losses[0]:g}, lambda {self.llcs[0]:g}) against "
            f"{v} (loss {self.losses[1]:g}, lambda {self.llcs[1]:g}): "
            f"log odds {self.odds():.4g} nats at n = {self.n:g}; {where}"
        )

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        sizes = [10.0**k for k in range(1, 7)]
        energy = lambda n, k: float(free_energy(n, self.losses[k], self.llcs[k]))
        rows = [
            (f"{n:g}", *(fallback.number(energy(n, k)) for k in (0, 1)),
             fallback.number(energy(n, 1) - energy(n, 0), signed=True))
            for n in sizes
        ]  # fmt: skip
        heads = ("n", *(f"free energy of {name}" for name in self.names), "log odds of the first")
        parts = [
            f"<p>{fallback.esc(self.describe())}</p>",
            fallback.table("Free energy, nats", heads, rows),
        ]
        return fallback.page("Free energy of two solutions", parts, 100_000)
