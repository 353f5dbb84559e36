"""Supervised fine-tuning: what is trained, on which rows, by which recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from data_prep.strict import StrictModel
from data_prep.tokens.config import TokensConfig
from pipeline.errors import ConfigError
from pipeline.stages.contract import Flow, ModelRef, Node, Output, StageConfig, identity_of, outside_fingerprint

PREPARE_VERSION = 1
TRAIN_VERSION = 1


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


class SftConfig(TokensConfig, Recipe, StageConfig):
    """Supervised fine-tuning through TRL's SFTTrainer on rows that were tokenised, masked and audited before."""

    kind: Literal["sft"] = "sft"
    """Which stage this is."""
    dataset: str | None = None
    """The data set to train on; without it, the only one with `role: train`."""
    start_from: str | None = Field(default=None, alias="from")
    """The model to start from, by stage name; without it, the stage before (`base` at first)."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "SftConfig":
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be below max_steps {self.max_steps}")
        return self

    def extend(self, name: str, flow: Flow) -> None:
        """A `prepare` node (tokens and masks) and a `train` node; the flow's newest model is then this stage's."""
        start = self.start_from or flow.newest_model
        if start not in flow.models:
            raise ConfigError(f"stages.{name}.from: no model '{start}'; there are {list(flow.models)}")
        dataset = flow.datasets[flow.dataset_for_training(self.dataset, name)]
        model = flow.models[start]
        prepare = flow.add(self._prepare_node(name, model, dataset, flow))
        train = flow.add(self._train_node(name, model, prepare, flow))
        if self.adapter.kind == "none":
            flow.models[name] = ModelRef(weights=Output(train, "model"))
        else:
            flow.models[name] = ModelRef(model.weights, (*model.adapters, Output(train, "adapter")))

    def _prepare_node(self, name: str, model: ModelRef, dataset: Output, flow: Flow) -> Node:
        tokens = {field: self.model_dump(mode="json")[field] for field in TokensConfig.model_fields}
        return Node(
            name=f"{name}/prepare",
            kind="sft.prepare",
            version=PREPARE_VERSION,
            config={**tokens, "stage": name, "trust_remote_code": flow.trust_remote_code},
            identity=tokens,
            inputs={"weights": model.weights, "dataset": dataset},
        )

    def _train_node(self, name: str, model: ModelRef, prepare: Node, flow: Flow) -> Node:
        recipe = {field: getattr(self, field) for field in Recipe.model_fields}
        config = TrainConfig(
            **recipe,
            seed=flow.seed,
            dtype=flow.model_dtype,
            attention=flow.attention,
            trust_remote_code=flow.trust_remote_code,
        )
        return Node(
            name=f"{name}/train",
            kind="sft.train",
            version=TRAIN_VERSION,
            config=config.model_dump(mode="json"),
            identity=identity_of(config),
            inputs={**model.as_inputs(), "rows": Output(prepare)},
            ranks=True,
        )
