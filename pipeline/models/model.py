"""The stack of layers as a Hugging Face model: a decoder or an encoder, or one of each joined by cross-attention."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import EncoderDecoderCache
from transformers.utils.generic import ModelOutput
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention import Attention, LatentAttention, LowRankAttention, Surroundings
from .block import Block
from .config import ProvetuneConfig
from .experts import Experts, Router
from .masks import Visibility, cross_visibility, slots, visibility
from .norms import RMSNorm, make_norm
from .positions import RelativeBias, Rotary, alibi, rope_frequencies, sinusoids
from .start import residual_scale, scaled, start_scale


@dataclass
class StackOutput(ModelOutput):
    """Hidden states (B, T, C) after the final norm, and what was asked for beside them."""

    last_hidden_state: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    pooler_output: Tensor | None = None
    """(B, C), BERT's pooled [CLS]."""
    router_loss: Tensor | None = None
    """Weighted balance and z-losses, summed over the layers; when training."""


class ProvetunePreTrainedModel(PreTrainedModel):
    """What all heads share: initialisation, and what the library may do with the modules."""

    config_class = ProvetuneConfig
    config: ProvetuneConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_flash_attn = False
    _supports_attention_backend = False
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding) and start_scale(module) != 1.0:
            init.normal_(module.weight, std=std * start_scale(module))
        elif isinstance(module, RMSNorm):
            init.constant_(module.weight, 0.0 if module.unit_offset else 1.0)
        elif isinstance(module, LowRankAttention):
            for positions in (module.key_positions, module.value_positions):
                init.normal_(positions, std=self.config.max_position_embeddings**-0.5)
        elif isinstance(module, Experts):
            init.normal_(module.gate_up_proj, std=std)
            init.normal_(module.down_proj, std=std * residual_scale(self.config))
        elif isinstance(module, Router):
            init.normal_(module.weight, std=std)
            for counter in (module.bias, module.load):
                if counter is not None:
                    init.zeros_(counter)
        elif isinstance(module, Rotary):
            init.copy_(module.frequencies, rope_frequencies(self.config, module.local)[0])


class ProvetuneModel(ProvetunePreTrainedModel):
    """A decoder or an encoder, without a head; the decoder half of an encoder–decoder is given its embeddings."""

    _can_record_outputs = {
        "hidden_states": Block,
        "attentions": [
            OutputRecorder(Attention, index=1, layer_name="self_attn"),
            OutputRecorder(LatentAttention, index=1, layer_name="self_attn"),
        ],
        "cross_attentions": OutputRecorder(Attention, index=1, layer_name="cross_attn"),
    }

    def __init__(self, config: ProvetuneConfig, half: str | None = None) -> None:
        super().__init__(config)
        assert config.layer_types is not None
        if half is None and config.shape == "encoder_decoder":
            raise ValueError("shape=encoder_decoder: two stacks; use ProvetuneForConditionalGeneration")
        encoder = "encoder" in (half, config.shape)
        self.causal, width, longest = not encoder, config.hidden_size, config.max_position_embeddings
        count = config.num_encoder_layers or 0 if half == "encoder" else config.num_hidden_layers
        self.kinds = [config._layer_type(n) for n in range(count)] if half == "encoder" else config.layer_types
        self.embed_tokens = None
        if half != "decoder":  # a tied head that scales its input down wants embeddings as much larger (T5)
            self.embed_tokens = scaled(nn.Embedding(config.vocab_size, width), 1 / config.logit_scale)
        learned = config.positions == "learned"
        self.embed_positions = nn.Embedding(longest + config.position_offset, width) if learned else None
        self.embed_types = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        self.embed_norm = make_norm(config) if config.embedding_norm else None
        self.layers = nn.ModuleList(Block(config, n, self.causal, cross=half == "decoder") for n in range(count))
        self.norm = make_norm(config) if config.final_norm else None
        self.rotary, self.rotary_local = None, None
        if config.positions == "rope":
            self.rotary = Rotary(config, local=False)
            self.rotary_local = Rotary(config, local=True) if config.rope_theta_local else None
        self.relative_bias = RelativeBias(config, self.causal) if config.positions == "t5" else None
        self.pooler = nn.Linear(width, width) if config.pooler and half is None else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding; AttributeError in a decoder half, which has none."""
        if self.embed_tokens is None:
            raise AttributeError("embed_tokens: the decoder half has none; ask the encoder")
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.embed_tokens = value  # type: ignore[assignment]

    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        token_type_ids: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        **_: Any,
    ) -> StackOutput:
        """Token ids (B, T) or embeddings (B, T, C); mask (B, past + T), 0 for padding; positions (B or 1, T).

        Without a mask and a cache, positions that restart in a row keep its packed documents apart.
        """
        x = self._embeds(input_ids, inputs_embeds)
        if past_key_values is None and self._caches(use_cache):
            past_key_values = self._new_cache(encoder_hidden_states is not None)
        own = past_key_values
        if isinstance(own, EncoderDecoderCache):
            own = own.self_attention_cache
        if position_ids is None:
            past = own.get_seq_length() if own is not None else 0
            position_ids = (torch.arange(x.shape[1], device=x.device) + past)[None]
        x = self._place(x, position_ids, token_type_ids)
        around = self.surroundings(x, attention_mask, position_ids, own)
        real = attention_mask[:, -x.shape[1] :].bool() if attention_mask is not None and self.training else None
        memory_seen = cross_visibility(encoder_attention_mask) if encoder_hidden_states is not None else None
        losses = []
        for layer, block in enumerate(self.layers):
            x, loss = block(x, around[layer], past_key_values, encoder_hidden_states, memory_seen, real)
            losses += [] if loss is None else [loss]
        x = x if self.norm is None else self.norm(x)
        pooled = None if self.pooler is None else torch.tanh(self.pooler(x[:, 0]))
        router_loss = torch.stack(losses).sum() if losses else None
        return StackOutput(x, past_key_values, pooler_output=pooled, router_loss=router_loss)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids (B, T) → scaled embeddings (B, T, C)."""
        assert self.embed_tokens is not None
        embedded = self.embed_tokens(input_ids)
        return embedded if self.config.embedding_scale == 1.0 else embedded * self.config.embedding_scale

    def surroundings(
        self, x: Tensor, attention_mask: Tensor | None, position_ids: Tensor, past: Cache | None
    ) -> list[Surroundings]:
        """What each layer's attention needs for inputs like x (B, T, C); equal kinds of layers share it."""
        found: dict[str, Surroundings] = {}
        dtype = x.dtype
        for layer, kind in enumerate(self.kinds):
            if kind in found:
                continue
            at = slots(x.shape[1], past, layer, attention_mask, position_ids)
            bias = None
            if self.relative_bias is not None:
                bias = self.relative_bias(at.queries, at.keys)
            elif self.config.positions == "alibi":
                bias = alibi(at.queries, at.keys, self.config.num_attention_heads)
            rotary = self.rotary_local if kind == "sliding_attention" and self.rotary_local else self.rotary
            seen = self._seen(kind, at, None if bias is None else bias.to(dtype))
            found[kind] = Surroundings(seen, None if rotary is None else rotary(position_ids, dtype), position_ids)
        return [found[kind] for kind in self.kinds]

    def _seen(self, kind: str, at: Any, bias: Tensor | None) -> Visibility:
        return visibility(self.config, kind, self.causal, at, bias)

    def _embeds(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("input_ids and inputs_embeds: give exactly one of them")
        return self.embed(input_ids) if input_ids is not None else inputs_embeds  # type: ignore[return-value]

    def _place(self, x: Tensor, position_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        config = self.config
        if self.embed_types is not None:
            types = torch.zeros_like(position_ids) if token_type_ids is None else token_type_ids
            x = x + self.embed_types(types)
        if self.embed_positions is not None:
            x = x + self.embed_positions(position_ids + config.position_offset)
        elif config.positions == "sinusoidal":
            x = x + sinusoids(position_ids, config.hidden_size).to(x.dtype)
        x = x if self.embed_norm is None else self.embed_norm(x)
        return F.dropout(x, config.dropout, self.training) if config.dropout else x

    def _caches(self, use_cache: bool | None) -> bool:
        """Unless asked, only a decoder that does not train fills a cache."""
        wanted = self.config.use_cache and not self.training if use_cache is None else use_cache
        return bool(wanted) and self.causal and not (self.training and self.is_gradient_checkpointing)

    def _new_cache(self, crossing: bool) -> Cache:
        cache = DynamicCache(config=self.config)
        return EncoderDecoderCache(cache, DynamicCache()) if crossing else cache
