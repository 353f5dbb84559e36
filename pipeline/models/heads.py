"""What predicts tokens: causal, masked and sequence-to-sequence language models, and several tokens ahead.

Masked LM arXiv:1810.04805, encoder–decoder arXiv:1706.03762, multi-token prediction arXiv:2412.19437.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput, Seq2SeqLMOutput
from transformers.utils.generic import ModelOutput, can_return_tuple

from .attention import Surroundings
from .block import Block
from .config import ProvetuneConfig
from .feed_forward import activation
from .losses import next_token_loss, token_loss
from .model import ProvetuneModel, ProvetunePreTrainedModel, StackOutput
from .norms import make_norm


@dataclass
class LMOutput(ModelOutput):
    """Logits (B, T, V), the loss in nats per token when labels were given, and what was asked for beside them."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    router_loss: Tensor | None = None
    multi_token_loss: Tensor | None = None


class LMHead(nn.Linear):
    """Hidden states (B, T, C) → logits (B, T, V), scaled before and soft-capped after."""

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__(config.hidden_size, config.vocab_size, bias=config.lm_head_bias)
        self.scale, self.softcap = config.logit_scale, config.logit_softcap

    def forward(self, input: Tensor) -> Tensor:
        """(…, C) → (…, V)."""
        logits = super().forward(input if self.scale == 1.0 else input * self.scale)
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


class NextToken(nn.Module):
    """One step further ahead: the last hidden state and the next token's embedding through one more layer."""

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__()
        self.hidden_norm, self.embed_norm = make_norm(config), make_norm(config)
        self.project = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.block = Block(config, config.num_hidden_layers - 1, causal=True)
        self.norm = make_norm(config)

    def forward(self, hidden: Tensor, embedded: Tensor, around: Surroundings) -> tuple[Tensor, Tensor | None]:
        """Hidden states and embeddings one token ahead, both (B, T, C) → (B, T, C), and a router's loss."""
        joined = torch.cat((self.hidden_norm(hidden), self.embed_norm(embedded)), -1)
        return self.block(self.project(joined), around)


class ProvetuneForCausalLM(ProvetunePreTrainedModel, GenerationMixin):
    """A decoder with a language-model head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__(config)
        if config.shape != "decoder":
            raise ValueError(f"shape={config.shape}: a causal LM is a decoder; use shape=decoder or another head")
        self.model = ProvetuneModel(config)
        self.lm_head = LMHead(config)
        self.multi_token = nn.ModuleList(NextToken(config) for _ in range(config.multi_token_layers))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        **more: Any,
    ) -> LMOutput:
        """Ids (B, T) → logits (B, T, V), or of the last `logits_to_keep`; labels (B, T) are unshifted, -100 ignored."""
        out: StackOutput = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache, **more
        )
        hidden = out.last_hidden_state
        assert hidden is not None
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        loss, further = None, None
        if labels is not None:
            loss = next_token_loss(logits, labels, num_items_in_batch)
            if out.router_loss is not None:
                loss = loss + out.router_loss
            if self.multi_token and input_ids is not None and self.training:
                further = self._further(hidden, input_ids, attention_mask, position_ids, labels, num_items_in_batch)
                loss = loss + self.config.multi_token_loss * further
        past = out.past_key_values
        return LMOutput(loss, logits, past, out.hidden_states, out.attentions, out.router_loss, further)

    def _further(
        self, hidden: Tensor, ids: Tensor, mask: Tensor | None, positions: Tensor | None, labels: Tensor, items: Any
    ) -> Tensor:
        """Mean loss of the tokens two, three … ahead."""
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
        around = self.model.surroundings(hidden, mask, positions, None)[-1]
        losses = []
        for depth, step in enumerate(self.multi_token, start=1):
            assert isinstance(step, NextToken)
            ahead = F.pad(ids[:, depth:], (0, depth))  # zeros at the end: their labels do not exist
            hidden, router_loss = step(hidden, self.model.embed(ahead), around)
            losses.append(next_token_loss(self.lm_head(step.norm(hidden)), labels, items, depth + 1))
            losses += [] if router_loss is None else [router_loss]
        return torch.stack(losses).sum() / len(self.multi_token)

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
        """Static caches ask for masks ahead: the layers make their own from the mask (B, slots) as it is."""
        return attention_mask


class ProvetuneForMaskedLM(ProvetunePreTrainedModel):
    """An encoder that fills masked tokens."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__(config)
        if config.shape != "encoder":
            raise ValueError(f"shape={config.shape}: a masked LM is an encoder; use shape=encoder or another head")
        self.model = ProvetuneModel(config)
        self.transform = nn.Linear(config.hidden_size, config.hidden_size) if config.mlm_transform else None
        self.transform_norm = make_norm(config) if config.mlm_transform else None
        self.act = activation(config)
        self.lm_head = LMHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **more: Any,
    ) -> MaskedLMOutput:
        """Ids (B, T) → logits (B, T, V); labels (B, T) at the masked tokens, -100 elsewhere."""
        out: StackOutput = self.model(input_ids, attention_mask, **more)
        hidden = out.last_hidden_state
        assert hidden is not None
        if self.transform is not None and self.transform_norm is not None:
            hidden = self.transform_norm(self.act(self.transform(hidden)))
        logits = self.lm_head(hidden)
        loss = None if labels is None else token_loss(logits, labels, num_items_in_batch)
        if loss is not None and out.router_loss is not None:
            loss = loss + out.router_loss
        return MaskedLMOutput(loss, logits, out.hidden_states, out.attentions)  # type: ignore[arg-type]


class ProvetuneSeq2SeqModel(ProvetunePreTrainedModel):
    """Encoder and decoder over one vocabulary; the embedding lives in the encoder."""

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__(config)
        self.encoder, self.decoder = ProvetuneModel(config, "encoder"), ProvetuneModel(config, "decoder")
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding of both halves."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding of both halves."""
        self.encoder.set_input_embeddings(value)


class ProvetuneForConditionalGeneration(ProvetunePreTrainedModel, GenerationMixin):
    """An encoder–decoder with a language-model head."""

    main_input_name = "input_ids"
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__(config)
        if config.shape != "encoder_decoder":
            raise ValueError(f"shape={config.shape}: two stacks are needed; use shape=encoder_decoder or another head")
        self.model = ProvetuneSeq2SeqModel(config)
        self.lm_head = LMHead(config)
        self.post_init()

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """The encoder, which `generate` runs once."""
        return self.model.encoder

    def shift_right(self, labels: Tensor) -> Tensor:
        """Labels (B, T) → what the decoder reads: the start token, then all labels but the last."""
        config = self.config
        start = config.pad_token_id if config.decoder_start_token_id is None else config.decoder_start_token_id
        if start is None:
            raise ValueError("decoder_start_token_id=None: the decoder needs a first token; set it or pad_token_id")
        shifted = F.pad(labels[:, :-1], (1, 0), value=start)
        return shifted.masked_fill(shifted == -100, config.pad_token_id or 0)

    prepare_decoder_input_ids_from_labels = shift_right

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        decoder_position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **more: Any,
    ) -> Seq2SeqLMOutput:
        """Source ids (B, S) and target ids (B, T) → logits (B, T, V); labels (B, T) are what each place predicts."""
        if encoder_outputs is None:
            encoder_outputs = self.model.encoder(input_ids, attention_mask, inputs_embeds=inputs_embeds, **more)
        assert encoder_outputs is not None
        memory = encoder_outputs[0]
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.shift_right(labels)
        if decoder_inputs_embeds is None:
            if decoder_input_ids is None:
                raise ValueError("decoder_input_ids=None: the decoder needs ids or labels")
            decoder_inputs_embeds = self.model.encoder.embed(decoder_input_ids)
        out: StackOutput = self.model.decoder(
            None, decoder_attention_mask, decoder_position_ids, past_key_values, decoder_inputs_embeds, use_cache,
            encoder_hidden_states=memory, encoder_attention_mask=attention_mask, **more,
        )  # fmt: skip
        logits = self.lm_head(out.last_hidden_state)
        loss = None if labels is None else token_loss(logits, labels, num_items_in_batch)
        for half in (out, encoder_outputs) if loss is not None else ():
            router_loss = getattr(half, "router_loss", None)
            loss = loss if router_loss is None else loss + router_loss
        return Seq2SeqLMOutput(
            loss, logits, out.past_key_values, out.hidden_states, out.attentions, out.cross_attentions,  # type: ignore[arg-type]
            memory, getattr(encoder_outputs, "hidden_states", None), getattr(encoder_outputs, "attentions", None),
        )  # fmt: skip

    create_masks_for_generate = staticmethod(ProvetuneForCausalLM.create_masks_for_generate)
