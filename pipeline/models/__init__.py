"""One transformer, written from scratch, that becomes every architecture a course on language models teaches.

Read in this order: config, positions, norms, feed_forward, masks, attend, attention, experts, block, model, heads,
classify. Importing the package registers the Auto classes; a saved model carries its code.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .classify import ProvetuneForSequenceClassification, ProvetuneForTokenClassification
from .config import ProvetuneConfig
from .heads import ProvetuneForCausalLM, ProvetuneForConditionalGeneration, ProvetuneForMaskedLM
from .model import ProvetuneModel

__all__ = [
    "ProvetuneConfig",
    "ProvetuneForCausalLM",
    "ProvetuneForConditionalGeneration",
    "ProvetuneForMaskedLM",
    "ProvetuneForSequenceClassification",
    "ProvetuneForTokenClassification",
    "ProvetuneModel",
]

AutoConfig.register(ProvetuneConfig.model_type, ProvetuneConfig)
ProvetuneConfig.register_for_auto_class()
for auto, model in (
    (AutoModel, ProvetuneModel),
    (AutoModelForCausalLM, ProvetuneForCausalLM),
    (AutoModelForMaskedLM, ProvetuneForMaskedLM),
    (AutoModelForSeq2SeqLM, ProvetuneForConditionalGeneration),
    (AutoModelForSequenceClassification, ProvetuneForSequenceClassification),
    (AutoModelForTokenClassification, ProvetuneForTokenClassification),
):
    auto.register(ProvetuneConfig, model)
    model.register_for_auto_class(auto.__name__)
