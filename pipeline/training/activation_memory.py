"""What a training step keeps between its forward and its backward pass, in bytes: activations, and around the logits.

Counted tensor by tensor in transformers' Llama, as autograd saves them (the accounting of Korthikanti et al. 2022,
arXiv 2205.05198, for another block); a test holds it against what the allocator gave out.
"""

from dataclasses import dataclass

from pipeline.training.adapter_config import Adapter, FreezeAdapter, QloraAdapter, leaves_model
from pipeline.training.config import TrainConfig
from pipeline.training.model_sizes import BYTES, ModelFacts, targeted

TILE_TOKENS, TILE_WORDS = 4096, 32768
"""TRL's fused output layer makes the logits of so many tokens and words at a time (trl.kernels.chunked_logprob)."""
TILE_BYTES = 29
"""Per logit of a tile, beside the tile itself, where no GPU kernel does it in place: seven float32 and a bool."""
WHOLE_COPIES = {"whole": 3.0, "odds": 3.5, "margin": 3.0}
"""Float32 tensors of the size of all logits alive at once in the backward pass of a loss that makes them all: their
log-probabilities, the gradients of these, and of the logits; ORPO has those of the chosen half twice."""

READ_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("down_proj",))
"""Linear layers that read one tensor; what o_proj reads, the attention keeps anyway."""

ROWWISE = ("o_proj", "down_proj")
"""Linear layers whose inputs tensor parallelism divides."""


@dataclass(frozen=True)
class Batch:
    """What a rank computes at a time."""

    sequences: int
    tokens: float
    """Of a sequence, padding counted."""
    masked: bool = True
    """Whether attention gets a mask, because of padding or of documents that share a row."""
    accumulated: bool = False
    """Whether a step takes several of them."""
    on_gpu: bool = False
    """Whether TRL's GPU kernels make the loss."""
    tensor: int = 1
    """Ranks that divide heads and widths among them; all of them keep what is between the blocks' layers."""

    @property
    def all_tokens(self) -> float:
        """Of all sequences."""
        return self.sequences * self.tokens


def adapter_bytes(adapter: Adapter) -> int:
    """Per weight of an adapter: PEFT makes float32, TRL bfloat16 beside quantised weights."""
    return 2 if isinstance(adapter, QloraAdapter) else 4


def activation_bytes(recipe: TrainConfig, facts: ModelFacts, batch: Batch) -> float:
    """Kept for the backward pass by all blocks; with activation checkpointing, their inputs and all of one block."""
    block = batch.all_tokens * _block_bytes(recipe, facts, batch)
    if recipe.activation_checkpointing:
        stream = 4 if leaves_model(recipe.adapter) else BYTES[recipe.dtype]
        return block + batch.all_tokens * facts.hidden_size * stream * facts.layers
    if isinstance(recipe.adapter, FreezeAdapter):
        return block * min(recipe.adapter.last_layers or facts.layers, facts.layers)
    return block * facts.layers


def _block_bytes(recipe: TrainConfig, facts: ModelFacts, batch: Batch) -> float:
    """Per token of one block: norms, what linear layers read, attention, feed-forward, ranks."""
    width, inner = facts.hidden_size, facts.linear_layers()["up_proj"][1]
    computed, full = BYTES[recipe.dtype], leaves_model(recipe.adapter)
    norms = 2 * 4 * width * (2 if full else 1)  # always in float32; trained norms keep what they scale, too
    ranks = 0 if full else 7 * getattr(recipe.adapter, "r", 0) * adapter_bytes(recipe.adapter)
    activated = 3 * inner * computed / batch.tensor  # of the gate, before and after its activation, and beside it
    read = _read_by_linear(recipe, facts, batch.tensor)
    return norms + read + _attention_bytes(recipe, facts, batch) + activated + ranks


def _read_by_linear(recipe: TrainConfig, facts: ModelFacts, tensor: int) -> float:
    """Inputs of linear layers with trained weights: one tensor for those that read the same, unless each casts it.

    o_proj and down_proj read what `tensor` ranks have divided.
    """
    layers, computed, full = facts.linear_layers(), BYTES[recipe.dtype], leaves_model(recipe.adapter)
    width = {name: inputs / (tensor if name in ROWWISE else 1) for name, (inputs, _) in layers.items()}
    trained = computed if full else adapter_bytes(recipe.adapter)
    names = list(layers) if full else targeted(getattr(recipe.adapter, "target", []), layers)
    if trained != computed:
        return trained * sum(width[name] for name in names)
    found = [[name for name in group if name in names] for group in READ_TOGETHER]
    casts = full and computed < 4  # autocast, from a float32 stream
    return computed * sum(width[group[0]] * (len(group) if casts else 1) for group in found if group)


def _attention_bytes(recipe: TrainConfig, facts: ModelFacts, batch: Batch) -> float:
    """Queries, keys, values and the output; the scores too where they are spelt out (eager)."""
    layers, computed = facts.linear_layers(), BYTES[recipe.dtype]
    queries, keys = (layers[name][1] / batch.tensor for name in ("q_proj", "k_proj"))
    if recipe.attention == "eager":
        scores = facts.heads * batch.tokens * (4 if computed == 4 else 4 + computed)  # softmax in float32
        return 4 * queries * computed + scores / batch.tensor
    if batch.masked:  # keys and values are repeated for each head, and each block keeps the mask in its number format
        return (4 * queries + batch.tokens) * computed
    return 2 * (queries + keys) * computed


def logit_bytes(recipe: TrainConfig, facts: ModelFacts, batch: Batch) -> float:
    """At the beginning of the backward pass: all logits with their gradients, or those of a tile."""
    if recipe.logits != "tiles":
        return WHOLE_COPIES[recipe.logits] * 4 * batch.all_tokens * facts.vocab_size
    head = facts.vocab_size * facts.hidden_size
    tokens = min(batch.sequences * (batch.tokens - 1), TILE_TOKENS)
    tile = tokens * TILE_WORDS * BYTES[recipe.dtype]
    folded = 0 if batch.on_gpu else TILE_BYTES * tokens * min(facts.vocab_size, TILE_WORDS)
    full = leaves_model(recipe.adapter)
    of_weights = 4 * head if recipe.adapter.kind == "none" else 0
    width = 4 if full else BYTES[recipe.dtype]
    gathered = head * width if batch.tensor > 1 else 0  # TRL makes the divided output layer whole
    return tile + folded + of_weights + gathered + 4 * batch.all_tokens * facts.hidden_size
