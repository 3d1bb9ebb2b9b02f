"""The transformer of in-context regression: the authors' architecture, of any size.

Tokens of size D + 1, two a pair: `[0, x_k]` then `[y_k, 0 .. 0]`; the prediction of y_k is the
first coordinate of the output at the token of x_k.  Blocks are pre-LN with ReLU; queries, keys and
values have no bias.  With `width=512, dim=8, length=16` and no output projection it has 2,654,217
parameters (the paper says 2.65 M); with `width=64, dim=4, length=8` and one, the 51,717 of the
authors' earlier work.  References: Carroll et al. 2025 (arXiv:2501.17745).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slt_notebook.errors import InputError, say
from slt_notebook.toys.in_context.data import Setting


class Attention(nn.Module):
    """Multi-head attention without biases; `project` adds an output projection."""

    def __init__(self, width: int, heads: int, project: bool):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False) if project else None

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """Return the mixed values of `h [example, token, width]`; `mask` is added to the scores."""
        batch, length, width = h.shape
        q, k, v = (
            self.qkv(h)
            .view(batch, length, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads) + mask
        mixed = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(batch, length, width)
        return mixed if self.out is None else self.out(mixed)


class Block(nn.Module):
    """A pre-LN block: attention, then a ReLU MLP of the same width, each with a residual."""

    def __init__(self, width: int, heads: int, project: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, project)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """Return the residual stream `[example, token, width]` after the block."""
        h = h + self.attn(self.norm1(h), mask)
        return h + self.down(F.relu(self.up(self.norm2(h))))


class Transformer(nn.Module):
    """`(x [example, k, dim], y [example, k]) -> prediction of y [example, k]`.

    Args:
        setting: D and K.
        width: of the residual stream and of the MLPs.
        layers: how many blocks.
        heads: of the attention; they divide `width`.
        project: an output projection in the attention (the paper's model has none).
        doubled: add the residual stream once more per block, as the authors' released code does
            (only for loading their checkpoints).
    """

    mask: Tensor

    def __init__(
        self,
        setting: Setting,
        width: int = 512,
        layers: int = 2,
        heads: int = 4,
        project: bool = False,
        doubled: bool = False,
    ):
        super().__init__()
        if width % heads:
            raise InputError(
                say(f"width={width}, heads={heads}", "a width that heads divides", "pass heads=4")
            )
        self.doubled = doubled
        size, tokens = setting.dim + 1, 2 * setting.length
        self.embed = nn.Linear(size, width, bias=False)
        self.positions = nn.Parameter(torch.randn(tokens, width) / math.sqrt(width))
        self.blocks = nn.ModuleList(Block(width, heads, project) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.unembed = nn.Linear(width, size)
        mask = torch.full((tokens, tokens), -math.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the predictions of y_k `[example, k]`; each sees the pairs before it and x_k."""
        batch, length, dim = x.shape
        first = F.pad(x, (1, 0))
        second = F.pad(y[..., None], (0, dim))
        tokens = torch.stack([first, second], 2).reshape(batch, 2 * length, dim + 1)
        h = self.embed(tokens) + self.positions[: 2 * length]
        mask = self.mask[: 2 * length, : 2 * length]
        for block in self.blocks:
            h = h + block(h, mask) if self.doubled else block(h, mask)
        return F.linear(self.norm(h[:, ::2]), self.unembed.weight[:1], self.unembed.bias[:1])[
            ..., 0
        ]


@torch.no_grad()
def predictions(model: nn.Module, x: Tensor, y: Tensor, rows: int = 1024) -> Tensor:
    """Return the model's predictions `[example, k]`, in blocks of `rows` examples."""
    return torch.cat([model(x[i : i + rows], y[i : i + rows]) for i in range(0, len(x), rows)])
