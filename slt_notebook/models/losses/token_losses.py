"""The module inside a causal language model's loss: token ids to the loss of each token.

The softmax is float32 whatever the dtype of the model.  A batch may carry activations that do not
change while only some of the weights move: then the module starts from them.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slt_notebook.core.types import Batch, Params
from slt_notebook.models.losses.chunked_cross_entropy import LinearCrossEntropy
from slt_notebook.models.losses.reading import Reading, by_keyword
from slt_notebook.models.modules.shells import Shells

PREFIX = "prefix"
"""Field of a batch: hidden states before the first layer that moves, `[example, position, dim]`."""
REST = "rest"
"""Field of a batch: what heads that do not move add to the stream, `[example, position, dim]`."""

CHUNK_BYTES = 4 << 20
"""Logits held at once where no gradient is needed: about what a core's cache holds."""
LARGE_LOGITS = 256 << 20
"""Bytes of logits from which a gradient on a GPU takes them in chunks too."""
MIN_ROWS = 128
"""Tokens whose logits are made at once, at least: with fewer, reading the unembedding from memory
takes longer than the product (256 tokens, vocabulary 50257: .63 s by 20 rows, .39 s by 128)."""


class TokenLosses(nn.Module):
    """A causal LM whose output is its per-token loss `[example, token]`, padding not yet marked."""

    def __init__(self, model: nn.Module, split: bool, read: Reading = by_keyword) -> None:
        """The losses of `model`.

        Args:
            model: whose logits they are made of.
            split: whether trunk and unembedding can be called apart, as in transformers.
            read: how it is called where it is called whole.
        """
        super().__init__()
        self.model = model
        self.split = split
        self.read = read
        self.held: Tensor | None = None  # the output of layers that are not computed: `prefix`
        self.rest: Tensor | None = None  # what an attention of one head adds: `single_head`

    def forward(
        self,
        input_ids: Tensor,
        form: str = "plain",
        counted: Tensor | None = None,
        prefix: Tensor | None = None,
        rest: Tensor | None = None,
    ) -> Tensor:
        """Losses of all tokens but the first, `[example, token]`.

        Args:
            input_ids: `[example, position]`.
            form: "plain", "chunked" (no gradient wanted) or "fused" (gradient made on the way).
            counted: bool `[example, token]`; the form "fused" needs it.
            prefix: the field of a batch, where layers are not computed.
            rest: the field of a batch, where an attention has one head.
        """
        self.held, self.rest = prefix, rest
        try:
            return self._losses(input_ids, form, counted)
        finally:
            self.held = self.rest = None

    def _losses(self, input_ids: Tensor, form: str, counted: Tensor | None) -> Tensor:
        targets = input_ids[:, 1:]
        model: Any = self.model
        if not self.split:
            return token_cross_entropy(self.read(model, input_ids)[:, :-1], targets)
        hidden = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        hidden = hidden[:, :-1]
        head = model.get_output_embeddings()
        if form == "plain" or (form == "fused" and type(head) is not nn.Linear):
            return token_cross_entropy(head(hidden), targets)
        flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
        if form == "fused":
            assert counted is not None
            ahead = flat.device.type == "cpu"
            losses = LinearCrossEntropy.apply(
                flat, head.weight, head.bias, wanted, counted.reshape(-1), ahead
            )
            return losses.reshape(targets.shape)
        rows = max(MIN_ROWS, CHUNK_BYTES // (4 * head.weight.shape[0]))
        parts = [
            token_cross_entropy(head(flat[i : i + rows]), wanted[i : i + rows])
            for i in range(0, len(flat), rows)
        ]
        return torch.cat(parts).reshape(targets.shape)


def token_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """`logsumexp(logits) - logits[target]` over the last axis, in float32."""
    flat = logits.float().reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, targets.reshape(-1), reduction="none").reshape(targets.shape)


class LayeredLoss(Protocol):
    """What `components` needs of a loss: a frozen dataclass around shells of `TokenLosses`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def shells(self) -> Shells:
        """Of a `TokenLosses`."""
        ...

    @property
    def params(self) -> Mapping[str, Tensor]:
        """The trained parameters by name."""
        ...

    @property
    def depth(self) -> int:
        """Layers that are not computed, because batches carry their output."""
        ...

    @property
    def rest(self) -> bool:
        """Whether an attention has one head, and batches carry what the others add."""
        ...

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        """Losses `[example, token]` without a gradient."""
        ...
