"""What is trained and by which recipe: the settings that every training stage shares."""

from typing import Annotated, Literal

from pydantic import Field

from data_prep.strict import StrictModel
from pipeline.contract import outside_fingerprint
from pipeline.errors import ConfigError


class NoAdapter(StrictModel):
    """Train every weight of the model."""

    kind: Literal["none"] = "none"
    """Full fine-tuning."""


class LoraAdapter(StrictModel):
    """Low-rank adapters beside frozen weights (Hu et al. 2021, arXiv 2106.09685)."""

    kind: Literal["lora"] = "lora"
    """LoRA."""
    r: int = Field(default=16, ge=1)
    """Rank of the update."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale: the update counts alpha / r times."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input. At 0 any number of ranks gives the same losses."""
    target: Literal["all-linear", "attention"] | list[str] = "all-linear"
    """Which linear layers get an adapter; a list names them (`[q_proj, v_proj]`)."""


Adapter = Annotated[LoraAdapter | NoAdapter, Field(discriminator="kind")]


class Recipe(StrictModel):
    """How the weights move. Batch sizes are global: the number of devices does not change the result."""

    adapter: Adapter = LoraAdapter()
    """What is trained: `adapter@stages.NAME.adapter=lora|none`."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the learning rate after warm-up; constant keeps the peak."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm."""
    batch_size: int = Field(default=8, ge=1)
    """Sequences per optimizer step, over all devices and accumulation steps."""
    micro_batch_size: int | None = outside_fingerprint(None, ge=1)
    """Most sequences on one device at a time; gradient accumulation is derived from it. Without it: no accumulation."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; without it `epochs` decides."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the training rows, when max_steps is not set."""
    checkpoint_every: int = outside_fingerprint(50, ge=1)
    """Optimizer steps between checkpoints; a killed run continues from the last."""
    validate_every: int | None = Field(default=None, ge=1)
    """Optimizer steps between measurements of the validation loss; without it, never."""
    validation_rows: int = Field(default=64, ge=1)
    """Most validation rows used."""
    activation_checkpointing: bool = outside_fingerprint(False)
    """Recompute activations in the backward pass: less memory, more time."""


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
