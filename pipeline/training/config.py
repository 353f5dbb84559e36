"""What is trained and by which recipe: the settings that every training stage shares."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from data_prep.strict import StrictModel
from pipeline.contract import outside_fingerprint
from pipeline.errors import ConfigError
from pipeline.training.adapter_config import Adapter, LoraAdapter, NoAdapter, leaves_model

__all__ = [
    "Adapter",
    "LoraAdapter",
    "NoAdapter",
    "Recipe",
    "TrainConfig",
    "leaves_model",
    "sequences_of",
    "split_batch",
]


class Recipe(StrictModel):
    """How the weights move. Batch sizes are global: the number of devices does not change the result."""

    adapter: Adapter = LoraAdapter()
    """What is trained: `adapter@stages.NAME.adapter=lora|qlora|none|…` (conf/adapter has them all)."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate of the optimizer."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "adafactor", "muon"] = "adamw"
    """AdamW; with states of 8 bit, or paged to CPU memory (bitsandbytes, on a GPU); Adafactor; Muon for the matrices of
    the blocks and AdamW for all else."""
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """Shape of the learning rate after warm-up; wsd keeps the peak and falls linearly over the last `decay_share`;
    constant keeps the peak."""
    decay_share: float = Field(default=0.1, gt=0, le=1)
    """With schedule=wsd: the part of all steps in which the learning rate falls to 0."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay. Norms and biases never decay."""
    no_weight_decay: list[str] = []
    """More weights that do not decay: parts of their names (`[embed_tokens]`)."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm."""
    batch_size: int = Field(default=8, ge=1)
    """Sequences per optimizer step, over all devices and accumulation steps."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens per optimizer step instead of `batch_size`: as many sequences of the mean length as come nearest to it,
    from 8 on a multiple of 8."""
    micro_batch_size: int | None = outside_fingerprint(None, ge=1)
    """Most sequences on one device at a time; gradient accumulation is derived from it. Without it: no accumulation."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; without it `epochs` decides."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the training rows, when max_steps is not set."""
    checkpoint_every: int | None = outside_fingerprint(None, ge=1)
    """Optimizer steps between checkpoints; a killed run continues from the last. Without it: 50, or more where they
    would take more than 2 % of the time."""
    checkpoint_minutes: float | None = outside_fingerprint(None, gt=0)
    """Minutes between checkpoints, instead of `checkpoint_every`."""
    validate_every: int | None = Field(default=None, ge=1)
    """Optimizer steps between measurements of the validation loss; without it, never."""
    validation_rows: int = Field(default=64, ge=1)
    """Most validation rows used."""
    early_stopping: int | None = Field(default=None, ge=1)
    """Stop after so many validations without a lower loss, and keep the weights of the lowest. Needs validate_every."""
    activation_checkpointing: bool = outside_fingerprint(False)
    """Recompute activations in the backward pass: less memory, more time."""
    liger: bool = outside_fingerprint(False)
    """Fused Triton kernels (liger-kernel), on a GPU."""
    compile: bool = outside_fingerprint(False)
    """Compile the model with torch.compile: minutes at first, then faster steps."""
    preflight: bool = outside_fingerprint(True)
    """Before the first step: the longest batch trained, validated and saved once, with no effect on the run."""

    @model_validator(mode="after")
    def _steps_and_validation_fit(self) -> Self:
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be below max_steps {self.max_steps}")
        if self.early_stopping is not None and self.validate_every is None:
            raise ValueError("early_stopping watches the validation loss; set validate_every")
        if self.adapter.kind == "lora_plus" and (self.optimizer == "muon" or self.no_weight_decay):
            raise ValueError("adapter lora_plus has groups of its own: use optimizer=adamw and no no_weight_decay")
        return self


class TrainConfig(Recipe):
    """The recipe with what the rest of the run decides."""

    seed: int
    """Seed of the adapter's weights and the order of rows."""
    dtype: str
    """Number format of the weights."""
    attention: str
    """Attention implementation."""
    trust_remote_code: bool
    """Whether code of a Hub model may run."""

    sequences_per_row: ClassVar[int] = 1
    """How many sequences of tokens a row is: a pair is two."""
    logits: ClassVar[Literal["tiles", "whole", "odds", "margin"]] = "tiles"
    """How much of the logits the trainer's loss holds at once: parts, as TRL's newer trainers do, or all of them."""


def split_batch(batch_size: int, micro_batch_size: int | None, processes: int) -> tuple[int, int]:
    """Sequences per device and accumulation steps, so that their product over all devices is the global batch.

    Raises ConfigError when the global batch cannot be divided so.
    """
    if batch_size % processes:
        raise ConfigError(
            f"batch_size {batch_size} cannot be shared by {processes} processes; make it a multiple of {processes}"
        )
    share = batch_size // processes
    per_device = min(micro_batch_size or share, share)
    if share % per_device:
        raise ConfigError(
            f"micro_batch_size {per_device} does not divide the {share} sequences of a process; "
            f"choose a divisor of {share}"
        )
    return per_device, share // per_device


def sequences_of(recipe: Recipe, mean_tokens: float) -> int:
    """Sequences per optimizer step: `batch_size`, or the number nearest to `batch_tokens`."""
    if recipe.batch_tokens is None:
        return recipe.batch_size
    nearest = max(1, round(recipe.batch_tokens / mean_tokens))
    return nearest if nearest < 8 else 8 * round(nearest / 8)


def largest_divisor(share: int, most: int) -> int:
    """The largest divisor of `share` that is not above `most`."""
    return next(size for size in range(min(share, most), 0, -1) if share % size == 0)
