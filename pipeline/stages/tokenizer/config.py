"""Which tokenizer is trained on which rows, or how an existing one is extended."""

from typing import Literal

from pydantic import Field, model_validator

from data_prep.tokens.vocabulary.config import ExtensionConfig, VocabularyConfig
from pipeline.contract import Flow, ModelRef, Node, Output, StageConfig
from pipeline.errors import ConfigError
from pipeline.stages.model.config import START_VERSION

TRAIN_VERSION = 1
EXTEND_VERSION = 1


class TokenizerConfig(VocabularyConfig, StageConfig):
    """Train the tokenizer of a model from scratch, which then gets its first weights; or extend that of a model."""

    kind: Literal["tokenizer"] = "tokenizer"
    """Which stage this is."""
    datasets: list[str] | None = Field(default=None, min_length=1)
    """The data sets whose training rows it is learned from; without it, all with `role: train`."""
    add: ExtensionConfig | None = None
    """Add tokens to the model's tokenizer instead of training one; their embeddings start as the mean of the old
    pieces."""
    start_from: str | None = Field(default=None, alias="from")
    """The model to extend, by stage name; without it, the stage before (`base` at first)."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> "TokenizerConfig":
        new = VocabularyConfig.model_fields
        unused = sorted(name for name in new if getattr(self, name) != new[name].default)
        if self.add is not None and unused:
            raise ValueError(f"{unused[0]}: belongs to a new tokenizer, but add: keeps the old one; remove one of them")
        if self.add is None and self.start_from is not None:
            raise ValueError("from: names a model to extend, but add: is not set; set it, or remove from")
        return self

    def extend(self, name: str, flow: Flow) -> None:
        """A tokenizer with the first weights of the run's architecture; or the extended model under this name."""
        rows = self._rows(name, flow)
        if self.add is not None:
            self._add_tokens(self.add, name, rows, flow)
            return
        if flow.architecture is None or flow.models:
            raise ConfigError(
                f"stages.{name}: the model has a tokenizer already; add: extends it, and a new one belongs to a model "
                "from scratch (model=scratch/llama3_nano), as its first stage"
            )
        config = self.model_dump(mode="json", include=set(VocabularyConfig.model_fields))
        told = {field: flow.architecture.get(field) for field in ("vocab_size", "max_position_embeddings")}
        settings = {"vocabulary": config, "architecture": told}
        trained = flow.add(Node(name, "tokenizer", TRAIN_VERSION, settings, identity=settings, inputs=rows))
        start = {"architecture": dict(flow.architecture), "seed": flow.seed}
        inputs = {"tokenizer": Output(trained, "tokenizer")}
        flow.models["base"] = ModelRef(
            Output(flow.add(Node("model", "model.start", START_VERSION, start, identity=start, inputs=inputs)), "model")
        )

    def _rows(self, name: str, flow: Flow) -> dict[str, Output]:
        """The training rows by data set."""
        known = [each for each in flow.datasets if flow.roles[each] == "train"]
        for dataset in self.datasets or ():
            if dataset not in known:
                raise ConfigError(f"stages.{name}.datasets: no data set '{dataset}' to train on; there are {known}")
        return {f"rows.{dataset}": flow.datasets[dataset] for dataset in self.datasets or known}

    def _add_tokens(self, add: ExtensionConfig, name: str, rows: dict[str, Output], flow: Flow) -> None:
        _, model = flow.model_named(self.start_from, f"stages.{name}.from")
        config = add.model_dump(mode="json")
        node = Node(
            name,
            "tokenizer.extend",
            EXTEND_VERSION,
            {**config, "trust_remote_code": flow.trust_remote_code},
            identity=config,
            inputs={**model.as_inputs(), **rows},
        )
        flow.models[name] = ModelRef(Output(flow.add(node), "model"))
