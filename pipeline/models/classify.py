"""What judges text: one label or a reward per sequence, one label per token.

GPT-1's composite loss L_task + λ·L_LM: Radford et al. 2018; reward models arXiv:2203.02155.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache
from transformers.modeling_outputs import SequenceClassifierOutputWithPast, TokenClassifierOutput
from transformers.utils.generic import can_return_tuple

from .config import ProvetuneConfig
from .losses import IGNORED, next_token_loss, task_loss, token_loss
from .model import ProvetuneModel, ProvetunePreTrainedModel, StackOutput


class ProvetuneForSequenceClassification(ProvetunePreTrainedModel):
    """Scores of a whole sequence: from [CLS] of an encoder, from the last token of a decoder.

    With one label and no class it is a reward model: `logits` (B, 1) is the reward.
    """

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__(config)
        if config.lm_loss_weight and config.shape != "decoder":
            raise ValueError(f"lm_loss_weight={config.lm_loss_weight}: only a decoder has a next token; set it to 0")
        self.num_labels = config.num_labels or 2
        self.model = ProvetuneModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=config.shape == "encoder")
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
        **more: Any,
    ) -> SequenceClassifierOutputWithPast:
        """Ids (B, T) → logits (B, L); labels (B,) classes or values, or (B, L) for several at once."""
        out: StackOutput = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache, **more
        )
        hidden = out.last_hidden_state
        assert hidden is not None
        real = self._real(input_ids, attention_mask, hidden)  # (B, T)
        if self.config.shape == "encoder":
            summary = hidden[:, 0] if out.pooler_output is None else out.pooler_output
        else:
            last = (real * torch.arange(real.shape[1], device=real.device)).argmax(-1)
            summary = hidden[torch.arange(len(last), device=last.device), last]
        logits = self.score(F.dropout(summary, self.config.dropout, self.training))
        loss = None
        if labels is not None:
            loss = task_loss(logits, labels, self.config.problem_type)
            if self.config.lm_loss_weight and input_ids is not None:
                loss = loss + self.config.lm_loss_weight * self._lm_loss(hidden, input_ids, real)
            loss = loss if out.router_loss is None else loss + out.router_loss
        return SequenceClassifierOutputWithPast(loss, logits, out.past_key_values, out.hidden_states, out.attentions)  # type: ignore[arg-type]

    def _real(self, ids: Tensor | None, attention_mask: Tensor | None, hidden: Tensor) -> Tensor:
        """True where a token is no padding, (B, T)."""
        if attention_mask is not None:
            return attention_mask[:, -hidden.shape[1] :].bool()
        if ids is not None and self.config.pad_token_id is not None:
            return ids != self.config.pad_token_id
        return torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)

    def _lm_loss(self, hidden: Tensor, ids: Tensor, real: Tensor) -> Tensor:
        """The language model's own loss on the same text, with the embedding as its head."""
        weight = self.model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        logits = F.linear(hidden, weight)
        return next_token_loss(logits, ids.masked_fill(~real, IGNORED))


class ProvetuneForTokenClassification(ProvetunePreTrainedModel):
    """Labels for every token."""

    def __init__(self, config: ProvetuneConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels or 2
        self.model = ProvetuneModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **more: Any,
    ) -> TokenClassifierOutput:
        """Ids (B, T) → logits (B, T, L); labels (B, T), -100 ignored."""
        out: StackOutput = self.model(input_ids, attention_mask, **more)
        assert out.last_hidden_state is not None
        logits = self.score(F.dropout(out.last_hidden_state, self.config.dropout, self.training))
        loss = None if labels is None else token_loss(logits, labels)
        return TokenClassifierOutput(loss, logits, out.hidden_states, out.attentions)  # type: ignore[arg-type]
