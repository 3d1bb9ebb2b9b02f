"""The update of a step in one pass over memory, for a GPU (Triton): see `fused`.

Imported only where it is used: Triton is not on every machine.
"""

# Triton's language has no types: what a name holds depends on the trace.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportMissingTypeStubs=false

import triton
import triton.language as tl

BLOCK = 1024
VIRIAL, SQUARE, BAD_GRADIENT, BAD_POSITION, BAD_MOMENT, SUMS = range(6)
"""What is summed of each block."""


@triton.jit
def sgld(
    position, slope, center, square, new_position, new_square, sums,
    step_size, nbeta, gamma, key, correction, dim, blocks, decay, eps,
    ADAPTS: tl.constexpr, LATE: tl.constexpr, SCALES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """`core.kernels.SGLD.step` with the metric's update, and what is known of the gradient.

    Drift and noise are added to each other first and to the position once.
    """
    block, chain = tl.program_id(0), tl.program_id(1)
    i = block * WIDTH + tl.arange(0, WIDTH)
    inside = i < dim
    at = chain.to(tl.int64) * dim + i
    w = tl.load(position + at, mask=inside, other=0.0)
    g = tl.load(slope + at, mask=inside, other=0.0)
    away = w - tl.load(center + i, mask=inside, other=0.0)
    grad = tl.load(nbeta + chain) * g + away * tl.load(gamma + chain)
    step = tl.load(step_size + chain)
    bad_moments = 0.0
    if SCALES:
        v = tl.load(square + at, mask=inside, other=1.0)
        if ADAPTS:  # as torch.lerp rounds
            v = v - (v - g * g) * (1 - decay) if LATE else g * g + decay * (v - g * g)
        tl.store(new_square + at, v, mask=inside)
        bad_moments = tl.sum(tl.where(inside & (v - v != 0), 1.0, 0.0), 0)
        step = step / (tl.sqrt(v / tl.load(correction + chain)) + eps)
    noise = tl.randn(tl.load(key + chain), i)
    moved = w + (noise * tl.sqrt(step) - grad * (step / 2))
    tl.store(new_position + at, moved, mask=inside)
    out = sums + (chain * blocks + block) * 5
    tl.store(out, tl.sum(tl.where(inside, away * grad, 0.0), 0))
    tl.store(out + 1, tl.sum(tl.where(inside, grad * grad, 0.0), 0))
    # What is not finite gives NaN when it is taken from itself.
    tl.store(out + 2, tl.sum(tl.where(inside & (grad - grad != 0), 1.0, 0.0), 0))
    tl.store(out + 3, tl.sum(tl.where(inside & (moved - moved != 0), 1.0, 0.0), 0))
    tl.store(out + 4, bad_moments)


@triton.jit
def restore(new, old, stopped, dim, WIDTH: tl.constexpr):
    """Rows of `old` in place of those of `new` where a chain has stopped."""
    block, chain = tl.program_id(0), tl.program_id(1)
    if tl.load(stopped + chain) != 0:
        i = block * WIDTH + tl.arange(0, WIDTH)
        at = chain.to(tl.int64) * dim + i
        tl.store(new + at, tl.load(old + at, mask=i < dim, other=0.0), mask=i < dim)


@triton.jit
def normals(out, key, dim, WIDTH: tl.constexpr):
    """Write out the noise of `sgld`."""
    block, chain = tl.program_id(0), tl.program_id(1)
    i = block * WIDTH + tl.arange(0, WIDTH)
    noise = tl.randn(tl.load(key + chain), i)
    tl.store(out + chain.to(tl.int64) * dim + i, noise, mask=i < dim)
