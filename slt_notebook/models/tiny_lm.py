"""`tiny-lm`: a two-layer attention-only causal language model, as a Hugging Face model.

The architecture is the small transformer of the developmental-interpretability papers (2410.02984,
2504.18274): no MLPs, and learned positions that are added to the *inputs of queries and keys only*
("shortformer" positions), so that values and the residual stream carry no position.  It is a
`PreTrainedModel`: `from_pretrained`, `save_pretrained`, hidden states and attentions work as they
do for any other model, and nothing else in the kit treats it specially.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput


class TinyLMConfig(PretrainedConfig):
    """Sizes of a `TinyLMForCausalLM`."""

    model_type = "slt_tiny_lm"

    def __init__(
        self,
        vocab_size: int = 1024,
        hidden_size: int = 128,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 4,
        max_position_embeddings: int = 128,
        layer_norm_eps: float = 1e-5,
        tie_word_embeddings: bool = False,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.layer_norm_eps = layer_norm_eps
        kwargs.setdefault("use_cache", False)
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)  # pyright: ignore[reportCallIssue]  # a field of transformers' dataclass

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads


class TinyAttention(nn.Module):
    """Causal self-attention; positions enter queries and keys, never values."""

    def __init__(self, config: TinyLMConfig):
        super().__init__()
        size, self.head_dim = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(size, size, bias=False)
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size, bias=False)
        self.o_proj = nn.Linear(size, size, bias=False)

    def forward(self, x, positions, mask, need_weights: bool):
        """The output `[text, position, size]`, and the weights where they are needed, or None."""
        batch, length, _ = x.shape

        def split(y):  # [batch, length, size] -> [batch, head, length, head_dim]
            return y.view(batch, length, -1, self.head_dim).transpose(1, 2)

        placed = x + positions
        q, k, v = split(self.q_proj(placed)), split(self.k_proj(placed)), split(self.v_proj(x))
        weights = None
        if need_weights or mask is not None:
            scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_dim) + mask
            weights = torch.softmax(scores.float(), dim=-1).to(v.dtype)
            out = weights @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))
        return out, weights if need_weights else None


class TinyBlock(nn.Module):
    """A layer: norm, attention, residual."""

    def __init__(self, config: TinyLMConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = TinyAttention(config)

    def forward(self, x, positions, mask, need_weights: bool):
        """The stream `[text, position, size]` after the layer; the attention weights or None."""
        out, weights = self.attn(self.norm(x), positions, mask, need_weights)
        return x + out, weights


class TinyLMPreTrainedModel(PreTrainedModel):
    """What trunk and language model share: configuration and initial weights."""

    config_class = TinyLMConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _no_split_modules = ["TinyBlock"]

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features) / 2)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.25)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class TinyLMModel(TinyLMPreTrainedModel):
    """The trunk: token ids to the last hidden state (after the final norm)."""

    def __init__(self, config: TinyLMConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(TinyBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self):
        """Return the token embedding."""
        return self.embed_tokens

    def set_input_embeddings(self, value):
        """Replace the token embedding."""
        self.embed_tokens = value

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        inputs_embeds=None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **_,
    ):
        """Return the last hidden state; see transformers' `BaseModelOutput`."""
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        length = x.shape[1]
        limit = self.config.max_position_embeddings
        if length > limit:
            raise ValueError(f"got {length} tokens; tiny-lm reads at most {limit}: cut the text")
        index = torch.arange(length, device=x.device)
        mask = None
        plain = self.config._attn_implementation == "eager"
        if attention_mask is not None or output_attentions or plain:
            hidden = torch.finfo(x.dtype).min
            mask = (index[:, None] < index[None, :]).to(x.dtype) * hidden
            if attention_mask is not None:
                padding = (attention_mask == 0).to(x.dtype) * hidden
                mask = torch.clamp(mask + padding[:, None, None, :], min=hidden)
        positions = self.embed_positions(index)
        states, attentions = [x], []
        for layer in self.layers:
            x, weights = layer(x, positions, mask, bool(output_attentions))
            states.append(x)
            attentions.append(weights)
        x = self.norm(x)
        return BaseModelOutput(
            last_hidden_state=x,
            hidden_states=(*states[:-1], x) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )


class TinyLMForCausalLM(TinyLMPreTrainedModel):
    """`TinyLMModel` with an (untied) unembedding."""

    def __init__(self, config: TinyLMConfig):
        super().__init__(config)
        self.model = TinyLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        """Return the token embedding."""
        return self.model.embed_tokens

    def get_output_embeddings(self):
        """Return the unembedding."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings):
        """Replace the unembedding."""
        self.lm_head = new_embeddings

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        """Logits `[text, position, vocabulary]`; see transformers' `CausalLMOutput`."""
        kwargs.pop("use_cache", None)
        out = self.model(input_ids, attention_mask, **kwargs)
        logits = self.lm_head(out.last_hidden_state)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(
                logits[:, :-1].float().reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1)
            )
        return CausalLMOutput(
            loss=loss,
            logits=logits,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )
