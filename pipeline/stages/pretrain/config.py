"""Pretraining: which documents, which objective, which recipe."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from data_prep.tokens.corpus_config import CorpusConfig, Objective
from pipeline.contract import Flow, ModelRef, Node, Output, StageConfig, identity_of
from pipeline.training.adapter_config import VIRTUAL
from pipeline.training.config import Adapter, NoAdapter, Recipe, TrainConfig, leaves_model
from pipeline.training.flow import starting_model, trained_model

PREPARE_VERSION = 1
TRAIN_VERSION = 2


class PretrainTrainConfig(TrainConfig):
    """What the ranks are given."""

    objective: Objective
    """What is predicted."""
    packed: bool
    """Whether documents share rows."""

    logits: ClassVar[Literal["tiles", "whole", "odds", "margin"]] = "whole"


class PretrainConfig(CorpusConfig, Recipe, StageConfig):
    """Learn from plain text: from the first weights of an architecture, or on from where a model stands."""

    kind: Literal["pretrain"] = "pretrain"
    """Which stage this is."""
    dataset: str | None = None
    """The data set to train on; without it, the only one with `role: train`."""
    start_from: str | None = Field(default=None, alias="from")
    """The model to start from, by stage name; without it, the stage before (`base` at first)."""
    adapter: Adapter = NoAdapter()
    """What is trained: every weight, unless `adapter@stages.NAME.adapter=lora`."""

    @model_validator(mode="after")
    def _what_goes_together(self) -> "PretrainConfig":
        if not leaves_model(self.adapter) and self.objective != "causal":
            raise ValueError(f"adapter {self.adapter.kind}: goes with objective=causal, not {self.objective}; use none")
        if self.adapter.kind in VIRTUAL and self.packing != "none":
            raise ValueError(
                f"adapter {self.adapter.kind}: goes with packing=none, not {self.packing}: its tokens "
                "stand before each row, not before each document"
            )
        return self

    def extend(self, name: str, flow: Flow) -> None:
        """A `prepare` node (rows of tokens) and a `train` node; the flow's newest model is then this stage's."""
        model = starting_model(self, self.start_from, name, flow)
        chosen = flow.dataset_for_training(self.dataset, name)
        dataset = flow.trained_on[chosen] = flow.datasets[chosen]
        prepare = flow.add(self._prepare_node(name, model, dataset, flow))
        train = flow.add(self._train_node(name, model, prepare, flow))
        flow.models[name] = trained_model(self.adapter, model, train)

    def _prepare_node(self, name: str, model: ModelRef, dataset: Output, flow: Flow) -> Node:
        corpus = self.model_dump(mode="json", include=set(CorpusConfig.model_fields))
        return Node(
            name=f"{name}/prepare",
            kind="pretrain.prepare",
            version=PREPARE_VERSION,
            config={"corpus": corpus, "seed": flow.seed, "stage": name, "trust_remote_code": flow.trust_remote_code},
            identity={"corpus": corpus, "seed": flow.seed},
            inputs={"weights": model.weights, "dataset": dataset},
        )

    def _train_node(self, name: str, model: ModelRef, prepare: Node, flow: Flow) -> Node:
        recipe = {field: getattr(self, field) for field in Recipe.model_fields}
        config = PretrainTrainConfig(
            **recipe,
            objective=self.objective,
            packed=self.objective == "causal" and self.packing != "none",
            seed=flow.seed,
            dtype=flow.model_dtype,
            attention=flow.attention,
            trust_remote_code=flow.trust_remote_code,
        )
        return Node(
            name=f"{name}/train",
            kind="pretrain.train",
            version=TRAIN_VERSION,
            config=config.model_dump(mode="json"),
            identity=identity_of(config),
            inputs={**model.as_inputs(), "rows": Output(prepare)},
            ranks=True,
        )
