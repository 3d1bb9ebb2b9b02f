"""Evaluations in half precision: a loss whose matrix products are taken in 16 bits.

Matrix products are rounded to 11 bits of mantissa ("float16") or to 8 ("bfloat16", which has the
range of float32); softmax, norms and sums stay in float32 (torch's autocast).  On `tiny-lm` losses
move by .0019 or .015 nat rms.  Gradients, and so the chains, stay as they are.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from slt_notebook.core.capabilities import Capabilities, capabilities
from slt_notebook.core.types import Batch, LossFn, Params
from slt_notebook.errors import InputError, say

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class HalfLoss:
    """Evaluate `loss` with products in `dtype`; see `probe_loss`."""

    loss: Any
    dtype: torch.dtype

    @property
    def params(self) -> Params:
        """The trained parameters by name."""
        return self.loss.params

    @property
    def kind(self) -> str:
        """`"text"` or `"array"`."""
        return self.loss.kind

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        """Losses `[example, *token]` without a gradient."""
        device = next(iter(batch.values())).device.type
        with torch.no_grad(), torch.autocast(device, self.dtype, cache_enabled=False):
            return self.loss.evaluate(params, batch)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the loss; evaluations are compiled with products in `dtype`."""
        return replace(capabilities(self.loss), traceable_evaluate=self._traceable_evaluate)

    def _traceable_evaluate(self) -> LossFn:
        inner = capabilities(self.loss).traceable_evaluate()

        def evaluate(params: Params, batch: Batch) -> Tensor:
            device = next(iter(batch.values())).device.type
            with torch.autocast(device, self.dtype, cache_enabled=False):
                return inner(params, batch)

        return evaluate


def probe_loss(loss: Any, dtype: str) -> Any:
    """Return the loss that probes are measured with.

    Args:
        loss: whose evaluations they are.
        dtype: "float32", or "float16" or "bfloat16" for products in half precision.

    Raises:
        InputError: another dtype.
    """
    if dtype not in DTYPES:
        raise InputError(
            say(f"probe_dtype={dtype!r}", f"one of {tuple(DTYPES)}", "pass probe_dtype='float32'")
        )
    return loss if dtype == "float32" else HalfLoss(loss, DTYPES[dtype])
