"""The per-token loss of causal language models: of transformers, and any other.

    loss[i, k] = -log p(x_k | x_0 .. x_{k-1}),   k = 1 .. T-1, in nats

The model is called without attention mask, cache or labels: padding lies on the right, attention is
causal, so a token that counts never sees it.  (A mask would also make `vmap` fail: transformers
reads its values.)  The softmax is float32 whatever the dtype of the model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.capabilities import Capabilities
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.types import Batch, LossFn, Params
from slt_notebook.errors import InputError, say
from slt_notebook.models.components.restriction import LayerRestrictor
from slt_notebook.models.losses.protocol import require_fields
from slt_notebook.models.losses.reading import by_keyword, check_causal, find_reading
from slt_notebook.models.losses.token_losses import LARGE_LOGITS, PREFIX, REST, TokenLosses
from slt_notebook.models.modules.guard import WriteGuard
from slt_notebook.models.modules.intake import module_of, trainable_names
from slt_notebook.models.modules.shells import Shells, shell
from slt_notebook.models.probes import Probe, counted_tokens
from slt_notebook.models.weights import moved, trained


@dataclass(frozen=True, eq=False)
class CausalLMLoss:
    """Per-token next-token loss of a causal LM; see `causal_lm`.

    Attributes:
        shells: of a `TokenLosses`.
        params: the trained parameters by name.
        vocabulary: number of token ids.
        longest: positions that the model can read, or None where it does not say.
        description: class of the model.
        trainable: names of the parameters that take gradients (all, where none does).
        depth: layers that are not computed, because batches carry their output: see
            `components.prefix`.
        rest: whether an attention has one head, and batches carry what the others add: see
            `components.single_head`.
        kind: of its probes.
    """

    shells: Shells
    params: Mapping[str, Tensor]
    vocabulary: int
    longest: int | None
    description: str
    trainable: frozenset[str] = frozenset()
    depth: int = 0
    rest: bool = False
    kind: str = field(default="text", init=False)

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """Losses `[example, token]`, differentiable; NaN at padding."""
        ids = batch["input_ids"]
        # On a GPU smaller logits cost less in one piece than in chunks.
        large = ids.device.type == "cpu" or 4 * ids.numel() * self.vocabulary > LARGE_LOGITS
        form = "fused" if large and torch.is_grad_enabled() else "plain"
        return self._losses(params, batch, form, hold=True)

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        """Return the same without a gradient."""
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
            release=self.shells.release,
            module=lambda: self.shells.get().get_submodule("model"),
            restrict=partial(LayerRestrictor, self),
        )

    def _traceable(self, batched: bool, form: str) -> LossFn:
        fixed = replace(self, shells=self.shells.of_all_threads(batched))
        return partial(fixed._losses, form=form)

    def _losses(
        self,
        params: Params,
        batch: Batch,
        form: str = "plain",
        eager: bool = False,
        hold: bool = False,
    ) -> Tensor:
        inner = {f"model.{name}": value for name, value in params.items()}
        counted = counted_tokens(batch)
        held = batch[PREFIX] if self.depth else None
        given = (batch["input_ids"], form, counted, held, batch[REST] if self.rest else None)
        if hold:
            loss = self.shells.holding(inner)(*given)
        else:
            loss = functional_call(self.shells.get(eager), inner, given)
        return torch.where(counted, loss, torch.nan)

    def check(self, data: Probe) -> None:
        """Check that the ids of `data` are in the vocabulary and its sequences fit.

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

    def to(self, device: torch.device | str) -> "CausalLMLoss":
        """Return the loss with its weights on `device`."""
        return replace(self, shells=self.shells.to(device), params=moved(self.params, device))


@in_plain_modes
def causal_lm(
    model: Any,
    dtype: torch.dtype | None = None,
    *,
    forward: Callable[[Any, Tensor], Any] | None = None,
) -> CausalLMLoss:
    """The per-token loss of any causal language model, as a pure function of its parameters.

        loss[i, k] = -log p(x_k | x_<k),  [example, token] in nats, NaN at padding

    How the model is called is found by calling it: `model(input_ids=ids).logits` as in
    transformers, or `model(ids)`, or `model(ids, targets)` as in nanoGPT; it may return logits, an
    object with `.logits`, a dict, or a tuple that holds them.  Whether it is causal is found out
    too: no loss may change with tokens that come after its own.

    Args:
        model: a model of transformers, or any module from token ids to logits, maybe within
            wrappers (`torch.compile`, `DataParallel`, nnsight).  It is left as it is: weights,
            mode, device, `requires_grad`.  It is evaluated with dropout off.
        dtype: of the forward pass; None keeps the model's (float32 on a CPU).  Positions are
            float32, or float64 where weights are.
        forward: `(model, ids [example, position]) -> logits [example, position, vocabulary]`, for
            models that are called in another way.

    Returns:
        A loss for `slt.sample`, with the fields `input_ids` and `attention_mask` (make the data
        with `slt.text_probe` or `slt.token_probe`).

    Raises:
        InputError: not a causal LM, NaN weights, parameters that were never loaded.
    """
    model = module_of(model, "a causal LM (torch.nn.Module)", "see slt.load")
    params = trained(model, dtype)
    inner = shell(model)
    float_dtype = next((v.dtype for v in params.values() if v.is_floating_point()), torch.float32)
    for buffer in inner.buffers():
        if buffer.is_floating_point() and buffer.dtype != torch.float32:
            buffer.data = buffer.data.to(float_dtype)
    longest = _longest(model)
    named = {f"model.{k}": v for k, v in params.items()}
    kind = type(model).__name__
    # On copies: a forward pass may leave something behind in its module.
    with torch.no_grad(), WriteGuard(params):
        known = _vocabulary(model)
        read, ids, vocabulary = find_reading(shell(inner), params, known, longest, kind, forward)
        whole = TokenLosses(inner, split=False, read=read)
        trial = shell(whole)
        check_causal(trial, named, ids, vocabulary, kind)
    module = whole
    if read is by_keyword:
        split = TokenLosses(inner, split=True)
        if _splits(trial, shell(split), named, ids):
            module = split
    return CausalLMLoss(Shells(module), params, vocabulary, longest, kind, trainable_names(model))


_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "block_size", "max_seq_len")


def _longest(model: nn.Module) -> int | None:
    """How many positions the model can read, or None where its configuration does not say."""
    for name in ("config", "cfg"):
        config: Any = getattr(model, name, None)
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        for key in _LENGTHS:
            found = text.get(key) if isinstance(text, dict) else getattr(text, key, None)
            if isinstance(found, int) and found > 0:
                return found
    return None


def _vocabulary(model: Any) -> int | None:
    """How many tokens the input embedding has, or None where the model does not say."""
    try:
        return model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError):
        return None


def _splits(whole: nn.Module, split: nn.Module, named: dict[str, Tensor], ids: Tensor) -> bool:
    """Whether trunk and unembedding, called apart, give the losses of the whole model.

    They do not where logits are scaled or capped after the unembedding; then full logits are used.
    A cap is invisible while logits are small, so they are compared a second time with the weights
    of the unembedding thirty times as large.
    """
    try:
        model: Any = split.get_submodule("model")
        head = model.get_output_embeddings().weight
        names = {f"model.{k}" for k, v in model.named_parameters() if v is head}
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
