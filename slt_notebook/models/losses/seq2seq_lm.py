"""The per-token loss of encoder-decoder models such as T5: of target tokens, given inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from slt_notebook.core.capabilities import Capabilities
from slt_notebook.core.modes import in_plain_modes
from slt_notebook.core.types import Batch, Params
from slt_notebook.errors import InputError, SLTError, say
from slt_notebook.models.losses.protocol import require_fields
from slt_notebook.models.losses.token_losses import token_cross_entropy
from slt_notebook.models.modules.guard import WriteGuard
from slt_notebook.models.modules.intake import module_of, trainable_names
from slt_notebook.models.modules.shells import Shells, shell
from slt_notebook.models.pairs import SOURCE_IDS, SOURCE_MASK
from slt_notebook.models.probes import Probe, counted_tokens
from slt_notebook.models.weights import moved, trained

_FIELDS = ("input_ids", "attention_mask", SOURCE_IDS, SOURCE_MASK)


@dataclass(frozen=True, eq=False)
class Seq2SeqLoss:
    """Loss of each target token given the source; see `seq2seq_lm`.

    Attributes:
        shells: of the model.
        params: the trained parameters by name.
        vocabulary: number of token ids.
        start: id that the decoder begins with, or None where the model does not say.
        description: class of the model.
        trainable: names of the parameters that take gradients (all, where none does).
        kind: of its probes.
    """

    shells: Shells
    params: Mapping[str, Tensor]
    vocabulary: int
    start: int | None
    description: str
    trainable: frozenset[str]
    kind: str = field(default="text", init=False)

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """Losses `[example, token]`, differentiable; NaN at padding."""
        logits = self.shells.holding(params)(**_inputs(batch)).logits
        return _losses(logits, batch)

    def evaluate(self, params: Params, batch: Batch) -> Tensor:
        """Return the same without a gradient."""
        with torch.no_grad():
            return self._pure(params, batch)

    def _pure(self, params: Params, batch: Batch, eager: bool = False) -> Tensor:
        """Return the same in the form that can be batched and traced."""
        module = self.shells.get(eager)
        return _losses(functional_call(module, dict(params), (), _inputs(batch)).logits, batch)

    def _batched(self, params: Params, batch: Batch) -> Tensor:
        return self._pure(params, batch, eager=True)

    @property
    def capabilities(self) -> Capabilities:
        """What the loss can do; see `core.capabilities`."""
        return Capabilities(
            batched=self._batched,
            traceable=lambda batched: (
                replace(self, shells=self.shells.of_all_threads(batched))._pure
            ),
            traceable_evaluate=lambda: replace(self, shells=self.shells.of_all_threads())._pure,
            prepare_thread=lambda: self.shells.prepare(eager=True),
            release=self.shells.release,
            module=self.shells.get,
        )

    def check(self, data: Probe) -> None:
        """Check that `data` has sources and targets, in the vocabulary and from the right start.

        Raises:
            InputError: fields that are missing, unknown ids, or targets that begin otherwise than
                the decoder does.
        """
        require_fields(data, _FIELDS, "slt.pair_probe")
        largest = max(int(data.fields[name].max()) for name in ("input_ids", SOURCE_IDS))
        if largest >= self.vocabulary:
            got = f"token id {largest} in {data.name!r}"
            expected = f"ids below {self.vocabulary}, the model's vocabulary"
            raise InputError(say(got, expected, "tokenize with this model's tokenizer"))
        first = data.fields["input_ids"][:, 0]
        if self.start is not None and (first != self.start).any():
            got = f"targets of {data.name!r} that begin with token {int(first[0])}"
            do = f"make the probe with slt.pair_probe(..., start={self.start})"
            raise InputError(say(got, f"the decoder's start token, {self.start}", do))

    def to(self, device: torch.device | str) -> "Seq2SeqLoss":
        """Return the loss with its weights on `device`."""
        return replace(self, shells=self.shells.to(device), params=moved(self.params, device))


def _inputs(batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": batch[SOURCE_IDS],
        "attention_mask": batch[SOURCE_MASK],
        "decoder_input_ids": batch["input_ids"][:, :-1],
        "use_cache": False,
    }


def _losses(logits: Tensor, batch: Batch) -> Tensor:
    counted = counted_tokens(batch)
    losses = token_cross_entropy(logits, batch["input_ids"][:, 1:])
    return torch.where(counted, losses, torch.nan)


@in_plain_modes
def seq2seq_lm(model: nn.Module, dtype: torch.dtype | None = None) -> Seq2SeqLoss:
    """Return the per-token loss of an encoder-decoder model, as a pure function of its parameters.

        loss[i, k] = -log p(y_k | y_<k, x),  [example, token] in nats, NaN at padding

    with the source x read whole by the encoder, and the target y token by token by the decoder.

    Args:
        model: anything that answers `model(input_ids=, attention_mask=, decoder_input_ids=)` with
            `.logits`, such as T5.  It is left as it is, and evaluated with dropout off.
        dtype: of the forward pass; None keeps the model's (float32 on a CPU).

    Returns:
        A loss for `slt.sample`; make the data with `slt.pair_probe`.

    Raises:
        InputError: not an encoder-decoder model, a decoder that looks ahead, NaN weights.
    """
    model = module_of(model, "an encoder-decoder model (torch.nn.Module)", "see slt.causal_lm")
    params = trained(model, dtype)
    inner, kind = shell(model), type(model).__name__
    config: Any = getattr(model, "config", None)
    try:
        vocabulary = int(model.get_input_embeddings().weight.shape[0])  # pyright: ignore
    except (AttributeError, NotImplementedError, TypeError):
        vocabulary = int(getattr(config, "vocab_size", 2))
    start = getattr(config, "decoder_start_token_id", None)
    loss = Seq2SeqLoss(Shells(inner), params, vocabulary, start, kind, trainable_names(model))
    with torch.no_grad(), WriteGuard(params):
        _check_decoder(replace(loss, shells=Shells(shell(inner))), kind)
    return loss


def _check_decoder(loss: Seq2SeqLoss, kind: str) -> None:
    device = next(iter(loss.params.values())).device
    ids = (torch.arange(12, device=device) * 7919 % loss.vocabulary).reshape(2, 6)
    batch = {name: ids if name.endswith("ids") else torch.ones_like(ids) for name in _FIELDS}
    try:
        before = loss.evaluate(loss.params, batch)
    except SLTError:
        raise
    except Exception as cause:
        why = (str(cause).strip().splitlines() or [""])[0][:160]
        got = (
            f"a {kind} that does not answer model(input_ids=, attention_mask=, "
            f"decoder_input_ids=).logits ({type(cause).__name__}: {why})"
        )
        do = "use slt.causal_lm for decoders alone, slt.loss_fn for others"
        raise InputError(say(got, "an encoder-decoder model such as T5", do)) from cause
    other = ids.clone()
    other[:, 4:] = (other[:, 4:] + 1) % loss.vocabulary
    after = loss.evaluate(loss.params, {**batch, "input_ids": other})
    moved_by = float((after - before)[:, :3].abs().max())
    if moved_by > 1e-3 * float(before.abs().max()):
        got = f"a {kind}, whose losses move by {moved_by:.2g} when later target tokens are changed"
        raise InputError(say(got, "a decoder that sees the tokens before it alone", "use loss_fn"))
