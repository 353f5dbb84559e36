"""What the stages that learn from judged answers share: their settings, and the nodes that they add."""

from typing import Any, ClassVar

from pydantic import Field, model_validator

from data_prep.tokens.config import PreferenceConfig
from pipeline.contract import Flow, ModelRef, Node, Output, StageConfig, identity_of
from pipeline.training.config import Recipe, TrainConfig, split_batch
from pipeline.training.flow import starting_model, trained_model

PREPARE_VERSION = 1
REFERENCE_VERSION = 1


class PreferenceTrainConfig(TrainConfig):
    """What the ranks are given, whatever the objective."""

    dropout: bool
    """Whether dropout is on in training."""


class PreferenceStage(PreferenceConfig, Recipe, StageConfig):
    """The base of the stages that learn from judged answers; each adds its objective's own fields."""

    dataset: str | None = None
    """The data set to train on; without it, the only one with `role: train`."""
    start_from: str | None = Field(default=None, alias="from")
    """The model to start from, by stage name; without it, the stage before (`base` at first)."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate of AdamW. Full fine-tuning (adapter none) wants far less: about 1e-6."""
    dropout: bool = False
    """Dropout in training, the model's and the adapter's. Off, the policy begins exactly as its reference."""

    train_config: ClassVar[type[PreferenceTrainConfig]] = PreferenceTrainConfig
    version: ClassVar[int] = 1
    """VERSION of the train node."""
    prepared_by: ClassVar[str] = "dpo.prepare"
    """The node kind that makes the rows: pairs, or answers with a label."""
    referenced_by: ClassVar[str | None] = None
    """The node kind that makes the reference's log-probabilities; None for an objective without a reference."""

    @model_validator(mode="after")
    def _recipe_goes_together(self) -> "PreferenceStage":
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be below max_steps {self.max_steps}")
        adapter_dropout = getattr(self.adapter, "dropout", 0.0)
        if adapter_dropout and not self.dropout:
            raise ValueError(f"adapter.dropout {adapter_dropout} has no effect without dropout=true; set it, or 0")
        return self

    def reads_whole_batch(self) -> bool:
        """Whether the loss of a row depends on the rows that share its device, so that accumulation changes it."""
        return False

    def reference_identity(self) -> dict[str, Any]:
        """What of the objective decides the reference's log-probabilities."""
        return {}

    def extend(self, name: str, flow: Flow) -> None:
        """A `prepare` node, where needed a `reference` node, and a `train` node; the newest model is then this one."""
        model = starting_model(self, self.start_from, name, flow)
        chosen = flow.dataset_for_training(self.dataset, name)
        dataset = flow.trained_on[chosen] = flow.datasets[chosen]
        config = self._train_config(flow)
        inputs = {**model.as_inputs(), "rows": Output(flow.add(self._prepare_node(name, model, dataset, flow)))}
        if self.referenced_by is not None:
            reference = flow.add(self._reference_node(name, self.referenced_by, config, inputs))
            inputs = {**inputs, "reference": Output(reference)}
        train = flow.add(
            Node(
                name=f"{name}/train",
                kind=f"{self.model_dump()['kind']}.train",
                version=self.version,
                config=config.model_dump(mode="json"),
                identity=identity_of(config) | self._device_batch(flow),
                inputs=inputs,
                ranks=True,
            )
        )
        flow.models[name] = trained_model(self.adapter, model, train)

    def _device_batch(self, flow: Flow) -> dict[str, Any]:
        """The rows that meet on a device, where the loss depends on them."""
        if not self.reads_whole_batch():
            return {}
        if self.batch_tokens is not None:
            return {"processes": flow.processes, "micro_batch_size": self.micro_batch_size}
        return {"per_device": split_batch(self.batch_size, self.micro_batch_size, flow.processes)[0]}

    def _train_config(self, flow: Flow) -> PreferenceTrainConfig:
        """The recipe and the objective, with what the rest of the run decides."""
        shared = set(self.train_config.model_fields) & set(type(self).model_fields)
        return self.train_config.model_validate(
            {
                **{field: getattr(self, field) for field in shared},
                "seed": flow.seed,
                "dtype": flow.model_dtype,
                "attention": flow.attention,
                "trust_remote_code": flow.trust_remote_code,
            }
        )

    def _prepare_node(self, name: str, model: ModelRef, dataset: Output, flow: Flow) -> Node:
        tokens = self.model_dump(mode="json", include=set(PreferenceConfig.model_fields))
        return Node(
            name=f"{name}/prepare",
            kind=self.prepared_by,
            version=PREPARE_VERSION,
            config={**tokens, "stage": name, "trust_remote_code": flow.trust_remote_code},
            identity=tokens,
            inputs={"weights": model.weights, "dataset": dataset},
        )

    def _reference_node(self, name: str, kind: str, config: PreferenceTrainConfig, inputs: dict[str, Output]) -> Node:
        """Log-probabilities under the policy that the stage starts from: another recipe does not change them."""
        adapter = self.adapter.model_dump(mode="json")
        plain = self.adapter.kind in ("none", "lora")  # other adapters may change how the frozen weights are loaded
        return Node(
            name=f"{name}/reference",
            kind=kind,
            version=REFERENCE_VERSION,
            config=config.model_dump(mode="json"),
            identity={
                "dtype": config.dtype,
                "attention": config.attention,
                "adapter": (self.adapter.kind if plain else adapter),
                **self.reference_identity(),
            },
            inputs=inputs,
            ranks=True,
        )
