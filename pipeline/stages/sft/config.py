"""Supervised fine-tuning: what is trained, on which rows, by which recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from data_prep.errors import DataError
from data_prep.tokens.choose import fingerprint, template_of_file
from data_prep.tokens.config import CHAT_TEMPLATES, TokensConfig
from data_prep.tokens.packed_rows import Packing
from pipeline.contract import Flow, ModelRef, Node, Output, StageConfig, identity_of
from pipeline.errors import ConfigError
from pipeline.training.config import Recipe, TrainConfig, split_batch

TEMPLATE_VERSION = 1
PREPARE_VERSION = 2
TRAIN_VERSION = 1


class SftConfig(TokensConfig, Recipe, StageConfig):
    """Supervised fine-tuning through TRL's SFTTrainer on rows that were tokenised, masked and audited before."""

    kind: Literal["sft"] = "sft"
    """Which stage this is."""
    dataset: str | None = None
    """The data set to train on; without it, the only one with `role: train`."""
    packing: Packing = "none"
    """best_fit: whole conversations share rows of max_length tokens, none sees another (arXiv 2404.10830): far fewer
    padding tokens, and batch_size counts the shared rows. Validation rows stay apart. none: a conversation per row."""
    start_from: str | None = Field(default=None, alias="from")
    """The model to start from, by stage name; without it, the stage before (`base` at first)."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "SftConfig":
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be below max_steps {self.max_steps}")
        return self

    def extend(self, name: str, flow: Flow) -> None:
        """A `prepare` node (tokens and masks) and a `train` node; the flow's newest model is then this stage's."""
        _, model = flow.model_named(self.start_from, f"stages.{name}.from")
        chosen = flow.dataset_for_training(self.dataset, name)
        dataset = flow.trained_on[chosen] = flow.datasets[chosen]
        try:
            split_batch(self.batch_size, self.micro_batch_size, flow.processes)
        except ConfigError as error:
            raise ConfigError(f"stages.{name}: {error}") from None
        model = self._with_template(name, model, flow)
        prepare = flow.add(self._prepare_node(name, model, dataset, flow))
        train = flow.add(self._train_node(name, model, prepare, flow))
        if self.adapter.kind == "none":
            flow.models[name] = ModelRef(weights=Output(train, "model"))
        else:
            flow.models[name] = ModelRef(model.weights, (*model.adapters, Output(train, "adapter")))

    def _with_template(self, name: str, model: ModelRef, flow: Flow) -> ModelRef:
        """The model with the chosen chat template. All models of the same weights get it: base and tuned are compared
        in the same words."""
        if self.chat_template in ("own", "trl"):
            return model
        try:
            identity = {"chat_template": fingerprint(self.chat_template)}
            text = None if self.chat_template in CHAT_TEMPLATES else template_of_file(Path(self.chat_template))
        except DataError as error:
            raise ConfigError(str(error).replace("stages.sft.", f"stages.{name}.")) from None
        node = Node(
            name=f"{name}/template",
            kind="sft.template",
            version=TEMPLATE_VERSION,
            config={
                "chosen": self.chat_template,
                "text": text,
                "trust_remote_code": flow.trust_remote_code,
                "stage": name,
            },
            identity=identity,
            inputs={"weights": model.weights},
        )
        weights = Output(flow.add(node), "model")
        for other, known in flow.models.items():
            if known.weights == model.weights:
                flow.models[other] = replace(known, weights=weights)
        return replace(model, weights=weights)

    def _prepare_node(self, name: str, model: ModelRef, dataset: Output, flow: Flow) -> Node:
        tokens = {field: self.model_dump(mode="json")[field] for field in TokensConfig.model_fields}
        tokens["chat_template"] = "trl" if self.chat_template == "trl" else "own"  # others are in the weights by now
        return Node(
            name=f"{name}/prepare",
            kind="sft.prepare",
            version=PREPARE_VERSION,
            config={**tokens, "packing": self.packing, "stage": name, "trust_remote_code": flow.trust_remote_code},
            identity={**tokens, "packing": self.packing},
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
