"""How much memory a training takes on one rank: weights, gradients, optimizer, activations, logits. Arithmetic only.

Sources: Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054) for states and their shards; Dettmers et al. 2023 (QLoRA,
arXiv 2305.14314) for bytes of quantised weights; `pipeline.training.activation_memory` for the rest.
"""

from dataclasses import dataclass

from pipeline.training.activation_memory import Batch, activation_bytes, adapter_bytes, logit_bytes
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
from pipeline.training.model_sizes import BYTES, ModelFacts, targeted

OPTIMIZER_BYTES = {"adamw": 8, "paged_adamw": 8, "adamw_8bit": 2, "paged_adamw_8bit": 2, "adafactor": 0.01, "muon": 4}
"""Per trained parameter: two moments, in 8 bit, rows and columns of one (Adafactor), or one momentum (Muon)."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank."""

    weights: float
    gradients: float
    optimizer: float
    activations: float = 0.0
    logits: float = 0.0
    accumulated: bool = False
    """Whether gradients of earlier batches of a step lie beside the activations of the next."""

    @property
    def total(self) -> float:
        """The most at one time: a backward pass frees activations as it makes gradients."""
        forward = self.activations + self.logits
        moving = self.gradients + forward if self.accumulated else max(self.gradients, forward)
        return self.weights + self.optimizer + moving


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
        sizes = {name: ranks[name] * sum(layers[name]) for name in targeted(adapter.target, layers)}
        magnitudes = sum(layers[name][1] for name in sizes) if adapter.kind == "dora" else 0  # pyright: ignore
        return facts.layers * (sum(sizes.values()) + magnitudes)
    if isinstance(adapter, VeraAdapter):
        return facts.layers * sum(adapter.r + layers[name][1] for name in targeted(adapter.target, layers))
    if isinstance(adapter, Ia3Adapter):
        ends = {name: layers[name][0 if name == "down_proj" else 1] for name in targeted(adapter.target, layers)}
        return facts.layers * sum(ends.values())
    if isinstance(adapter, PrefixAdapter) and adapter.projection_size is None:
        return adapter.tokens * facts.layers * 2 * layers["k_proj"][1]
    if isinstance(adapter, PrefixAdapter | PromptAdapter):
        return adapter.tokens * facts.hidden_size
    if isinstance(adapter, FreezeAdapter):
        block = sum(inputs * outputs for inputs, outputs in layers.values()) + 2 * facts.hidden_size
        return adapter.last_layers * block
    return facts.parameters


def training_memory(
    recipe: TrainConfig,
    facts: ModelFacts,
    batch: Batch,
    launch: str = "single",
    processes: int = 1,
) -> Memory:
    """A training step of a rank on so many tokens at a time."""
    trained = trainable_parameters(recipe, facts)
    full, computed = leaves_model(recipe.adapter), BYTES[recipe.dtype]
    width: float = 4 if full else computed
    per_weight = width
    if isinstance(recipe.adapter, QloraAdapter):
        inside = facts.layers * sum(a * b for a, b in facts.linear_layers().values()) / facts.parameters
        per_weight = inside * quantised_bytes(recipe.adapter) + (1 - inside) * width
    launch = "fsdp2" if batch.tensor > 1 else launch  # whatever starts them, all ranks of a copy share its weights
    base = states(facts.parameters, trained, per_weight, 4, OPTIMIZER_BYTES[recipe.optimizer], launch, processes)
    adapter = 0 if full else adapter_bytes(recipe.adapter) * trained  # its own weights lie beside the model's
    both_ends = recipe.adapter.kind == "none" and facts.tied  # the gradient of their shared weights comes in two parts
    embedded = 4 * facts.vocab_size * facts.hidden_size if both_ends else 0
    of_adapter = 1 if full else adapter_bytes(recipe.adapter) / 4  # gradients and moments are in its number format
    if not full and batch.tensor > 1:
        of_adapter *= processes  # it is no part of the shards, and divided only in half: taken as whole
    divided_alone = batch.tensor > 1 and batch.tensor == processes  # then nothing is gathered
    gathered = launch in ("fsdp2", "deepspeed_zero3") and not divided_alone  # block by block, in 16 bit already
    copied = full and computed < 4 and not gathered
    copies = facts.parameters * computed / batch.tensor if copied else 0  # autocast keeps them for the backward pass
    return Memory(
        weights=base.weights + adapter,
        gradients=base.gradients * of_adapter + embedded,
        optimizer=base.optimizer * of_adapter,
        activations=activation_bytes(recipe, facts, batch) + copies,
        logits=logit_bytes(recipe, facts, batch),
        accumulated=batch.accumulated,
    )
