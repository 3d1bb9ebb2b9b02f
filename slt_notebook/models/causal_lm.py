"""The per-token loss of Hugging Face causal language models.

    loss[i, k] = -log p(x_k | x_0 .. x_{k-1}),   k = 1 .. T-1, in nats

The model is called without attention mask, cache or labels: padding lies on the right, attention is
causal, so a token that counts never sees it.  (A mask would also make `vmap` fail: transformers
reads its values.)  The softmax is float32 whatever the dtype of the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.capabilities import Capabilities
from slt_notebook.core.chunking import out_of_memory
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.types import Batch, LossFn, Params
from slt_notebook.errors import InputError, SLTError, say
from slt_notebook.models.components.restriction import LayerRestrictor
from slt_notebook.models.losses import require_fields
from slt_notebook.models.modules.guard import WriteGuard
from slt_notebook.models.modules.intake import module_of, trainable_names
from slt_notebook.models.probes import Probe
from slt_notebook.models.shells import Shells, shell
from slt_notebook.models.token_losses import LARGE_LOGITS, PREFIX, REST, TokenLosses
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
        counted = batch["attention_mask"][:, 1:] > 0
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
    model = module_of(model, "a causal LM (torch.nn.Module)", "see slt.load")
    params = trained(model, dtype)
    inner = shell(model)
    float_dtype = next((v.dtype for v in params.values() if v.is_floating_point()), torch.float32)
    for buffer in inner.buffers():
        if buffer.is_floating_point() and buffer.dtype != torch.float32:
            buffer.data = buffer.data.to(float_dtype)
    vocabulary = _vocabulary(model)
    whole, split = (TokenLosses(inner, split=apart) for apart in (False, True))
    longest = _longest(model)
    named = {f"model.{k}": v for k, v in params.items()}
    # On copies: a forward pass may leave something behind in its module.
    trial = shell(whole)
    with torch.no_grad(), WriteGuard(named):
        ids = _readable(trial, named, vocabulary, longest, type(model).__name__)
        _check_causal(trial, named, ids, vocabulary, type(model).__name__)
    module = split if _splits(trial, shell(split), named, ids) else whole
    return CausalLMLoss(
        Shells(module), params, vocabulary, longest, type(model).__name__, trainable_names(model)
    )


TRIED = (12, 8, 5, 4, 3, 2)
"""Lengths of sequences that a model is tried on, until it can read one."""


def _readable(
    module: nn.Module,
    named: Mapping[str, Tensor],
    vocabulary: int,
    longest: int | None,
    kind: str,
) -> Tensor:
    """Return ids `[2, position]` that the model can read.

    Raises:
        InputError: a model that reads none, or answers with something else than logits.
    """
    first: Exception | None = None
    device = next(iter(named.values())).device
    for length in [n for n in TRIED if longest is None or n <= longest] or [2]:
        ids = (torch.arange(2 * length, device=device) * 7919 % vocabulary).reshape(2, length)
        try:
            losses = functional_call(module, dict(named), (ids,))
            if losses.shape == (2, length - 1):
                return ids
            first = first or ValueError(f"losses of shape {tuple(losses.shape)}")
        except SLTError:
            raise
        except Exception as cause:  # whatever a model raises that is none of this kind
            if out_of_memory(cause):
                raise
            first = first or cause
    assert first is not None
    why = (str(first).strip().splitlines() or [""])[0][:160]
    raise InputError(
        say(
            f"a {kind} that does not answer model(input_ids=...).logits with logits "
            f"[example, position, {vocabulary}] ({type(first).__name__}: {why})",
            "a causal LM such as those of transformers",
            "use slt.supervised or slt.loss_fn for other models",
        )
    ) from first


def _check_causal(
    module: nn.Module, named: Mapping[str, Tensor], ids: Tensor, vocabulary: int, kind: str
) -> None:
    """Check by experiment that no loss depends on tokens that come after its own.

    Raises:
        InputError: a model that looks ahead: its losses are no log-probabilities of the text.
    """
    if vocabulary < 2 or ids.shape[1] < 3:
        return
    losses = functional_call(module, dict(named), (ids,))
    moved = 0.0
    for keep in {max(2, ids.shape[1] // 2), ids.shape[1] - 1, 2}:
        for shift in (1, 1 + vocabulary // 3):
            other = ids.clone()
            other[:, keep:] = (other[:, keep:] + shift) % vocabulary
            now = functional_call(module, dict(named), (other,))
            change = (now - losses)[:, : keep - 1].abs()
            moved = max(moved, float((change / losses[:, : keep - 1].abs().clamp(min=1)).max()))
    eps = max(torch.finfo(v.dtype).eps for v in named.values() if v.is_floating_point())
    if moved > 200 * eps:  # rounding differs by the values that share a product
        raise InputError(
            say(
                f"a {kind}, whose losses move by {moved:.2g} when later tokens are changed",
                "a causal LM: each position sees those before it alone",
                "masked and encoder models have no losses of next tokens; use slt.supervised or "
                "slt.loss_fn with a loss of your own",
            )
        )


def _longest(model: nn.Module) -> int | None:
    """How many positions the model can read, or None where its configuration does not say."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(text, "max_position_embeddings", None)


def _vocabulary(model: Any) -> int:
    """How many tokens the input embedding has."""
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
