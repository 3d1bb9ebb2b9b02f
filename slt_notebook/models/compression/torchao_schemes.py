"""The weight-only quantizers of torchao, as they are used in deployment.

The weights are quantized by torchao and read back, so that the ordinary loss is evaluated on what
a deployed model computes with, up to the rounding of its kernels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slt_notebook.core.types import Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.compression.protocol import Candidate

LEVELS = {"int8": 256, "int4": 16}


@dataclass(frozen=True)
class TorchAO:
    """torchao's weight-only quantizers: `int8` (symmetric, a scale a row) and `int4` (in groups).

    Levels are 256 and 16.  Only matrices can be quantized.  int4 has a scale for every `group`
    weights of a row, so that it is finer than a grid of 16 levels per row.
    """

    group: int = 32

    name: ClassVar[str] = "torchao"
    unit: ClassVar[str] = "levels of the grid (256: int8, 16: int4 in groups)"
    log: ClassVar[bool] = True
    between: ClassVar[bool] = False
    pick: ClassVar[str] = "best"

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels by default, from the least compression to the most."""
        return tuple(LEVELS.values())

    def check(self, levels: Sequence[float]) -> None:
        """Raise `InputError` for levels out of range."""
        if not set(levels) <= set(self.levels):
            raise InputError(say(f"levels {levels}", f"some of {self.levels}", "leave it out"))

    def prepare(self, params: Params) -> Any:
        """Return what all levels need of the chosen weights."""
        _torchao()
        bad = [k for k, v in params.items() if v.ndim != 2]
        if bad:
            raise InputError(say(f"parameters {bad}", "matrices", "parameters='matrices'"))
        return params

    def candidates(self, prepared: Any, level: float) -> Iterator[Candidate]:
        """Yield the changed parameters at one level."""
        kind = next(k for k, v in LEVELS.items() if v == level)
        yield Candidate(0.0, {k: rounded(v, kind, self.group) for k, v in prepared.items()})


def rounded(weight: Tensor, kind: str, group: int) -> Tensor:
    """`weight` `[out, in]` after torchao's quantizer, in float32."""
    ao = _torchao()
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device)
    linear.weight = nn.Parameter(weight.detach().clone().float(), requires_grad=False)
    if kind == "int8":
        config = ao.Int8WeightOnlyConfig()
    else:
        config = ao.IntxWeightOnlyConfig(
            weight_dtype=torch.int4,  # pyright: ignore[reportAttributeAccessIssue]  # not in torch's stubs
            granularity=_group(weight.shape[1], group),
        )
    ao.quantize_(linear, config)
    return linear.weight.dequantize().float()


def _group(width: int, group: int) -> Any:
    from torchao.quantization.granularity import (  # pyright: ignore[reportMissingImports]  # an extra
        PerAxis,
        PerGroup,
    )

    # A row that is no multiple of the group has one scale.
    return PerGroup(group) if width % group == 0 else PerAxis(0)


def _torchao() -> Any:
    try:
        import torchao.quantization as ao  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as cause:
        raise InputError(
            say("no torchao", "torchao for scheme='torchao'", "pip install 'slt-notebook[torchao]'")
        ) from cause
    return ao
