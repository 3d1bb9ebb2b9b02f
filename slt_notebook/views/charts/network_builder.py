"""`NetworkBuilder`: the exact learning coefficient of a deep linear network."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import traitlets

from slt_notebook.benchmarks import dln
from slt_notebook.errors import InputError, say
from slt_notebook.views.base import fallback
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import View, check_trait, refuse

MOST_LAYERS, MOST_WIDTH = 7, 60


class NetworkBuilder(View):
    """Sliders for widths and ranks, and the exact learning coefficient that follows.

    The page computes Aoyagi's formula, its multiplicity, the set of layers that it is about, and
    the certificate of `slt.benchmarks.dln.certificate`: whether a network planted with these ranks
    attains it.  `view.widths` and `view.ranks` follow the sliders.

    Args:
        widths: `H_0, ..., H_L`; 2 to 8 numbers of 1 to 60.
        ranks: of the weight matrices; full by default.
        focus: a Focus to share with other views.

    Raises:
        InputError: Impossible widths or ranks.
    """

    _bundle = "network"
    # The page draws again on `payload`; there is none here.
    payload = traitlets.Bytes(b"").tag(sync=True)
    widths = traitlets.List(traitlets.Int()).tag(sync=True)
    ranks = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self,
        widths: Sequence[int] = (8, 5, 12, 6),
        ranks: Sequence[int] | None = None,
        *,
        focus: Focus | None = None,
        **unknown: Any,
    ) -> None:
        refuse(unknown, NetworkBuilder)
        check_trait(focus, Focus, "focus", "pass slt.Focus(), or leave it out")
        full = [min(a, b) for a, b in pairwise(widths)]
        ranks = full if ranks is None else list(ranks)
        dln.certificate(list(widths), ranks)  # refuses what is impossible
        if len(ranks) > MOST_LAYERS or max(widths) > MOST_WIDTH:
            raise InputError(
                say(
                    f"widths={list(widths)}",
                    f"at most {MOST_LAYERS} layers of at most {MOST_WIDTH}",
                    "use slt.benchmarks.dln.certificate for larger networks",
                )
            )
        super().__init__(
            widths=[int(w) for w in widths], ranks=[int(r) for r in ranks], focus=focus
        )

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        proof = dln.certificate(self.widths, self.ranks)
        return (
            f"Deep linear network {'-'.join(map(str, self.widths))}, ranks {self.ranks}: "
            f"lambda {proof.learning_coefficient:g}, multiplicity {proof.multiplicity}; at this "
            f"point {'' if proof.smooth else 'at least '}{proof.local:g}"
            f"{', certified' if proof.certified else ', not certified'}"
        )

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        return f"<p>{fallback.esc(self.describe())}</p>"
