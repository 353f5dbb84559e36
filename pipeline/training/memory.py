"""How much memory a training takes on one rank: weights, gradients, optimizer, activations, logits. Arithmetic only.

Sources: Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054) for states and their shards; Korthikanti et al. 2022 (arXiv
2205.05198) for activations; Dettmers et al. 2023 (QLoRA, arXiv 2305.14314) for bytes of quantised weights.
"""

from dataclasses import dataclass, fields

from pipeline.training.adapter_config import (
    FreezeAdapter,
    Ia3Adapter,
    LowRank,
    PrefixAdapter,
    PromptAdapter,
    QloraAdapter,
    VeraAdapter,
    leaves_model,
)
from pipeline.training.config import TrainConfig

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
OPTIMIZER_BYTES = {"adamw": 8, "paged_adamw": 8, "adamw_8bit": 2, "paged_adamw_8bit": 2, "adafactor": 0.01, "muon": 4}
"""Per trained parameter: two moments, in 8 bit, rows and columns of one (Adafactor), or one momentum (Muon)."""
LOGIT_COPIES = 6
"""Float32 tensors of the logits' size alive at once in the loss: logits, log-probabilities, entropy, gradients."""


@dataclass(frozen=True)
class ModelFacts:
    """The sizes that an estimate needs. What a header does not say is None, and taken as in the first Llama."""

    parameters: int
    layers: int
    hidden_size: int
    heads: int
    vocab_size: int
    key_value_heads: int | None = None
    head_size: int | None = None
    intermediate_size: int | None = None

    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """The linear layers of a Llama's block: name → inputs and outputs."""
        head = self.head_size or self.hidden_size // self.heads
        queries, keys = self.heads * head, (self.key_value_heads or self.heads) * head
        width, inner = self.hidden_size, self.intermediate_size or round(8 * self.hidden_size / 3)
        attention = {"q_proj": (width, queries), "k_proj": (width, keys), "v_proj": (width, keys)}
        feed_forward = {"gate_proj": (width, inner), "up_proj": (width, inner), "down_proj": (inner, width)}
        return {**attention, "o_proj": (queries, width), **feed_forward}


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank."""

    weights: float
    gradients: float
    optimizer: float
    activations: float = 0.0
    logits: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return sum(getattr(self, field.name) for field in fields(self))


def states(
    parameters: float,
    trainable: float,
    weight_bytes: float = 2,
    gradient_bytes: float = 2,
    optimizer_bytes: float = 8,
    launch: str = "single",
    processes: int = 1,
) -> Memory:
    """Weights, gradients and optimizer states of one rank, without activations.

    ZeRO-2 shards gradients and optimizer states, ZeRO-3 and FSDP2 the weights too; all other launches nothing.
    """
    all_sharded = launch in ("fsdp2", "deepspeed_zero3")
    some_sharded = all_sharded or launch == "deepspeed_zero2"
    return Memory(
        weights=parameters * weight_bytes / (processes if all_sharded else 1),
        gradients=trainable * gradient_bytes / (processes if some_sharded else 1),
        optimizer=trainable * optimizer_bytes / (processes if some_sharded else 1),
    )


def block_parameters(layers: int, hidden_size: int) -> int:
    """Weights of a GPT's blocks, 12·n_layer·d² (Kaplan et al. 2020, arXiv 2001.08361): embeddings not counted."""
    return 12 * layers * hidden_size**2


def quantised_bytes(adapter: QloraAdapter) -> float:
    """Per weight: 4 bit and a scale per 64 weights, float32 or again 8 bit with a scale per 256; int8: one byte."""
    if adapter.quantization == "int8":
        return 1.0
    return 0.5 + (1 / 64 + 4 / (64 * 256) if adapter.double_quantization else 4 / 64)


def trainable_parameters(recipe: TrainConfig, facts: ModelFacts) -> int:
    """What the recipe trains of a Llama; embeddings and other modules that `freeze` names are not counted."""
    adapter, layers = recipe.adapter, facts.linear_layers()
    if isinstance(adapter, LowRank):
        ranks = {name: adapter.rank_pattern.get(name, adapter.r) for name in layers}
        sizes = {name: ranks[name] * sum(layers[name]) for name in _targeted(adapter.target, layers)}
        magnitudes = sum(layers[name][1] for name in sizes) if adapter.kind == "dora" else 0  # pyright: ignore
        return facts.layers * (sum(sizes.values()) + magnitudes)
    if isinstance(adapter, VeraAdapter):
        return facts.layers * sum(adapter.r + layers[name][1] for name in _targeted(adapter.target, layers))
    if isinstance(adapter, Ia3Adapter):
        ends = {name: layers[name][0 if name == "down_proj" else 1] for name in _targeted(adapter.target, layers)}
        return facts.layers * sum(ends.values())
    if isinstance(adapter, PrefixAdapter) and adapter.projection_size is None:
        return adapter.tokens * facts.layers * 2 * layers["k_proj"][1]
    if isinstance(adapter, PrefixAdapter | PromptAdapter):
        return adapter.tokens * facts.hidden_size
    if isinstance(adapter, FreezeAdapter):
        block = sum(inputs * outputs for inputs, outputs in layers.values()) + 2 * facts.hidden_size
        return adapter.last_layers * block
    return facts.parameters


def _targeted(target: str | list[str], layers: dict[str, tuple[int, int]]) -> list[str]:
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    groups = {"attention": attention, "mlp": [name for name in layers if name not in attention]}
    if isinstance(target, str):
        return groups.get(target, list(layers))
    return [name for name in target if name in layers]


def training_memory(
    recipe: TrainConfig, facts: ModelFacts, sequences: int, tokens: float, launch: str = "single", processes: int = 1
) -> Memory:
    """A training step of a rank, on so many sequences of so many tokens at a time."""
    trained = trainable_parameters(recipe, facts)
    full = leaves_model(recipe.adapter)
    width = 4 if full else BYTES[recipe.dtype]
    per_weight: float = width
    if isinstance(recipe.adapter, QloraAdapter):
        inside = facts.layers * sum(a * b for a, b in facts.linear_layers().values()) / facts.parameters
        per_weight = inside * quantised_bytes(recipe.adapter) + (1 - inside) * width
    base = states(facts.parameters, trained, per_weight, 4, OPTIMIZER_BYTES[recipe.optimizer], launch, processes)
    adapter = 0 if full else 4 * trained  # an adapter's own weights lie beside the model's
    computed = BYTES[recipe.dtype]
    copies = facts.parameters * computed if full and computed < 4 else 0  # autocast keeps its copies for a step
    activations = activation_bytes(recipe, facts, sequences, tokens, computed)
    logits = LOGIT_COPIES * 4 * sequences * tokens * facts.vocab_size
    return Memory(base.weights + adapter + copies, base.gradients, base.optimizer, activations, logits)


def activation_bytes(recipe: TrainConfig, facts: ModelFacts, sequences: int, tokens: float, width: int) -> float:
    """Kept for the backward pass: s·b·h·L·34 bytes at 16 bit, and 5·a·s²·b more where attention is spelt out (eager).

    With activation checkpointing: the input of each block, and all of one block.
    """
    quadratic = 5 * facts.heads * tokens / facts.hidden_size if recipe.attention == "eager" else 0
    block = tokens * sequences * facts.hidden_size * (34 + quadratic) * width / 2
    if recipe.activation_checkpointing:
        return block + tokens * sequences * facts.hidden_size * width * facts.layers
    return block * facts.layers
