"""The choice of a stepper: one function, asked once before the sampler loop starts."""

import torch

from slt_notebook.core.kernels.metrics import Identity, RMSProp
from slt_notebook.core.kernels.sgld import SGLD
from slt_notebook.core.potential import Potential
from slt_notebook.core.steppers import blocked, in_place
from slt_notebook.core.steppers.block import kernel_update
from slt_notebook.core.steppers.protocol import Stepper
from slt_notebook.core.steppers.reference import Reference
from slt_notebook.core.types import Kernel


def is_plain_sgld(kernel: Kernel) -> bool:
    """Whether there are an update in place and a fused one: SGLD, plain or with RMSProp."""
    return type(kernel) is SGLD and type(kernel.metric) in (Identity, RMSProp)


def choose_stepper(
    kernel: Kernel, potential: Potential, seed: int, chains: tuple[int, ...], ask: bool
) -> Stepper:
    """Return the fastest stepper for a kernel on the device of its potential.

    Args:
        kernel: of the chains; its metric after the burn-in has the same forms.
        potential: what is sampled.
        seed: of the noise.
        chains: their indices.
        ask: whether the host may read values of a step.
    """
    if potential.center.dtype != torch.float32:  # the fast forms are of float32
        return Reference(potential, seed, chains, ask)
    if potential.center.is_cuda:
        # A CPU imports nothing from the files of the GPU.
        from slt_notebook.core.steppers import fused

        if is_plain_sgld(kernel) and fused.available():
            return fused.Fused(potential, seed, chains, ask)
    elif ask and blocked.supports(kernel, potential):
        update = in_place.update if is_plain_sgld(kernel) else kernel_update
        return blocked.Blocked(potential, seed, chains, update)
    return Reference(potential, seed, chains, ask)
