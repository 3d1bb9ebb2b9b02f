"""What is the per-token loss of a Hugging Face causal language model?

    loss[i, k] = -log p(x_k | x_0 .. x_{k-1}),   k = 1 .. T-1, in nats

The model is called without attention mask, cache or labels: padding lies on the right, attention is
causal, so a token that counts never sees it.  (A mask would also make `vmap` fail: transformers
looks at its values.)  The softmax is float32 whatever the dtype of the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from slt_notebook.core.capabilities import Capabilities
from slt_notebook.core.types import Batch, LossFn, Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.chunked_cross_entropy import LinearCrossEntropy
from slt_notebook.models.losses import Shells, moved, require_fields, shell, trained

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

    def __init__(self, model: nn.Module, split: bool):
        super().__init__()
        self.model = model
        self.split = split  # trunk and unembedding can be called apart
        self.held: Tensor | None = None  # what a cut model goes on from, see `prefix`
        self.rest: Tensor | None = None  # what an attention of one head adds, see `one_head`

    def forward(
        self,
        input_ids: Tensor,
        form: str = "plain",
        counted: Tensor | None = None,
        prefix: Tensor | None = None,
        rest: Tensor | None = None,
    ):
        """`form`: "plain", "chunked" (no gradient wanted) or "fused" (gradient made on the way)."""
        self.held, self.rest = prefix, rest
        try:
            return self._losses(input_ids, form, counted)
        finally:
            self.held = self.rest = None

    def _losses(self, input_ids: Tensor, form: str, counted: Tensor | None) -> Tensor:
        targets = input_ids[:, 1:]
        if not self.split:
            logits = self.model(input_ids=input_ids, use_cache=False).logits[:, :-1]
            return token_cross_entropy(logits, targets)
        hidden = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        hidden = hidden[:, :-1]
        head = self.model.get_output_embeddings()
        if form == "plain" or (form == "fused" and type(head) is not nn.Linear):
            return token_cross_entropy(head(hidden), targets)
        flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
        if form == "fused":
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


@dataclass(frozen=True, eq=False)
class CausalLMLoss:
    """Per-token next-token loss of a causal LM; see `causal_lm`.

    Attributes:
        depth: layers that are not computed, because batches carry what they give: see `prefix`.
        rest: whether an attention has one head, and batches carry the others': see `one_head`.
    """

    shells: Shells
    params: Mapping[str, Tensor]
    vocabulary: int
    longest: int | None
    description: str
    depth: int = 0
    rest: bool = False
    kind: str = field(default="text", init=False)

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        ids = batch["input_ids"]
        # On a GPU smaller logits cost less in one piece than in chunks.
        large = ids.device.type == "cpu" or 4 * ids.numel() * self.vocabulary > LARGE_LOGITS
        return self._losses(
            params, batch, "fused" if large and torch.is_grad_enabled() else "plain"
        )

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self._losses(params, batch, "chunked")

    @property
    def capabilities(self) -> Capabilities:
        """What the loss can do; see `core.capabilities`."""
        return Capabilities(
            batched=partial(self._losses, eager=True),
            # Unembedding and cross-entropy are left to the compiler.
            traceable=lambda batched: self._traceable(batched, "plain"),
            traceable_evaluate=lambda: self._traceable(False, "chunked"),
            # A copy made under `vmap` would hold wrapped buffers.
            prepare_thread=partial(self.shells.prepare, eager=True),
        )

    def _traceable(self, batched: bool, form: str) -> LossFn:
        fixed = replace(self, shells=self.shells.of_all_threads(batched))
        return partial(fixed._losses, form=form)

    def _losses(self, params: Params, batch: Batch, form="plain", eager=False) -> Tensor:
        inner = {f"model.{name}": value for name, value in params.items()}
        counted = batch["attention_mask"][:, 1:] > 0
        held = batch[PREFIX] if self.depth else None
        given = (batch["input_ids"], form, counted, held, batch[REST] if self.rest else None)
        loss = functional_call(self.shells.get(eager), inner, given)
        return torch.where(counted, loss, torch.nan)

    def check(self, data) -> None:
        """That the ids of `data` are in the vocabulary and its sequences fit.

        Raises:
            InputError: with the largest id, or the longest sequence, and what the model takes.
        """
        require_fields(data, ("input_ids", "attention_mask"), "slt.text_probe or slt.token_probe")
        ids = data.fields["input_ids"]
        if int(ids.max()) >= self.vocabulary:
            raise InputError(
                say(
                    f"token id {int(ids.max())} in {data.name!r}",
                    f"ids below {self.vocabulary}, the model's vocabulary",
                    "tokenize with this model's tokenizer",
                )
            )
        if self.longest is not None and ids.shape[1] > self.longest:
            raise InputError(
                say(
                    f"sequences of {ids.shape[1]} tokens in {data.name!r}",
                    f"at most {self.longest}, the model's context",
                    f"make the probe with length={self.longest}",
                )
            )

    def to(self, device) -> "CausalLMLoss":
        return replace(self, shells=self.shells.to(device), params=moved(self.params, device))


def causal_lm(model: nn.Module, dtype: torch.dtype | None = None) -> CausalLMLoss:
    """The per-token loss of any Hugging Face causal LM, as a pure function of its parameters.

        loss[i, k] = -log p(x_k | x_<k),  [example, token] in nats, NaN at padding

    Args:
        model: anything that answers `model(input_ids=...)` with `.logits`.  It is left as it is:
            weights, mode, device, `requires_grad`.  It is evaluated with dropout off.
        dtype: of the forward pass; None keeps the model's (float32 on a CPU).  Positions are
            float32 in any case.

    Returns:
        A loss for `slt.sample`, with the fields `input_ids` and `attention_mask` (make the data
        with `slt.text_probe` or `slt.token_probe`).

    Raises:
        InputError: not a causal LM, NaN weights, parameters that were never loaded.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            say(f"a {type(model).__name__}", "a causal LM (torch.nn.Module)", "see slt.load")
        )
    if any(p.is_meta for p in model.parameters()):
        raise InputError(say("a model on the meta device", "loaded weights", "load them first"))
    params = trained(model, dtype)
    inner = shell(model)
    float_dtype = next((v.dtype for v in params.values() if v.is_floating_point()), torch.float32)
    for buffer in inner.buffers():
        if buffer.is_floating_point() and buffer.dtype != torch.float32:
            buffer.data = buffer.data.to(float_dtype)
    vocabulary = _vocabulary(model)
    module = TokenLosses(inner, split=False)
    split = TokenLosses(inner, split=True)
    device = next(iter(params.values())).device
    ids = (torch.arange(24, device=device) * 7919 % vocabulary).reshape(2, 12)
    named = {f"model.{k}": v for k, v in params.items()}
    with torch.no_grad():
        try:
            functional_call(module, named, (ids,))
        except (TypeError, AttributeError) as cause:
            raise InputError(
                say(
                    f"a {type(model).__name__} that does not answer model(input_ids=...).logits",
                    "a Hugging Face causal LM",
                    "use slt.supervised or slt.loss_fn for other models",
                )
            ) from cause
        if _splits(module, split, named, ids):
            module = split
    config = getattr(model, "config", None)
    text = getattr(config, "get_text_config", lambda: config)() if config is not None else None
    longest = getattr(text, "max_position_embeddings", None)
    return CausalLMLoss(Shells(module), params, vocabulary, longest, type(model).__name__)


def _vocabulary(model: nn.Module) -> int:
    try:
        return model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError) as cause:
        raise InputError(
            say(
                f"a {type(model).__name__} without input embeddings",
                "a Hugging Face causal LM",
                "use slt.supervised or slt.loss_fn for other models",
            )
        ) from cause


def _splits(whole: TokenLosses, split: TokenLosses, named: Params, ids: Tensor) -> bool:
    """Whether trunk and unembedding, called apart, give the losses of the whole model.

    They do not where logits are scaled or capped after the unembedding; then full logits are used.
    A cap is invisible while logits are small, so the question is asked a second time with the
    weights of the unembedding thirty times as large.
    """
    try:
        head = split.model.get_output_embeddings().weight
        names = {f"model.{k}" for k, v in split.model.named_parameters() if v is head}
        louder = {k: v * 30 if k in names else v for k, v in named.items()}
        for params in (named, louder):
            expected = functional_call(whole, params, (ids,))
            apart = functional_call(split, params, (ids,))
            if apart.shape != expected.shape:
                return False
            if not torch.allclose(apart, expected, rtol=1e-4, atol=1e-4):
                return False
    except (TypeError, AttributeError, NotImplementedError):
        return False
    return bool(names)
