"""Supervised fine-tuning: what is trained, on which rows, by which recipe."""

from typing import Literal

from pydantic import Field

from data_prep.config import MixturePart
from data_prep.errors import DataError
from data_prep.tokens.choose import fingerprint
from data_prep.tokens.config import TokensConfig
from pipeline.contract import Flow, ModelRef, Node, Output, StageConfig, identity_of
from pipeline.errors import ConfigError
from pipeline.stages.mix.config import MixConfig
from pipeline.training.config import Recipe, TrainConfig
from pipeline.training.flow import starting_model, trained_model

PREPARE_VERSION = 1
TRAIN_VERSION = 1


class SftTrainConfig(TrainConfig):
    """What the ranks are given."""

    neftune_alpha: float | None
    """Size of the noise on the embeddings."""


class SftConfig(TokensConfig, Recipe, StageConfig):
    """Supervised fine-tuning through TRL's SFTTrainer on rows that were tokenised, masked and audited before."""

    kind: Literal["sft"] = "sft"
    """Which stage this is."""
    dataset: str | list[str] | dict[str, float] | None = None
    """The data set to train on; without it, the only one with `role: train`. Several: a list takes all rows of each
    once, and names with weights (`{chat: 2, code: 1}`) share out the rows until the first data set is used up. A stage
    of kind mix can do more."""
    start_from: str | None = Field(default=None, alias="from")
    """The model to start from, by stage name; without it, the stage before (`base` at first)."""
    neftune_alpha: float | None = Field(default=None, gt=0)
    """Uniform noise on the embeddings in training, alpha / √(tokens · width) at most (Jain et al. 2023, 2310.05914)."""

    def extend(self, name: str, flow: Flow) -> None:
        """A `prepare` node (tokens and masks) and a `train` node; the flow's newest model is then this stage's."""
        model = starting_model(self, self.start_from, name, flow)
        chosen = flow.dataset_for_training(_mixed(self.dataset, name, flow), name)
        dataset = flow.trained_on[chosen] = flow.datasets[chosen]
        prepare = flow.add(self._prepare_node(name, model, dataset, flow))
        train = flow.add(self._train_node(name, model, prepare, flow))
        flow.models[name] = trained_model(self.adapter, model, train)

    def _prepare_node(self, name: str, model: ModelRef, dataset: Output, flow: Flow) -> Node:
        tokens = {field: self.model_dump(mode="json")[field] for field in TokensConfig.model_fields}
        try:
            template = fingerprint(self.chat_template)
        except DataError as error:
            raise ConfigError(str(error).replace("stages.sft.", f"stages.{name}.")) from None
        return Node(
            name=f"{name}/prepare",
            kind="sft.prepare",
            version=PREPARE_VERSION,
            config={**tokens, "stage": name, "trust_remote_code": flow.trust_remote_code},
            identity={**tokens, "chat_template": template},
            inputs={"weights": model.weights, "dataset": dataset},
        )

    def _train_node(self, name: str, model: ModelRef, prepare: Node, flow: Flow) -> Node:
        recipe = {field: getattr(self, field) for field in Recipe.model_fields}
        config = SftTrainConfig(
            **recipe,
            neftune_alpha=self.neftune_alpha,
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


def _mixed(dataset: str | list[str] | dict[str, float] | None, stage: str, flow: Flow) -> str | None:
    """The name of one data set; several become a mixture of their own first."""
    if dataset is None or isinstance(dataset, str):
        return dataset
    if isinstance(dataset, list):
        mixture = MixConfig(parts={name: MixturePart(epochs=1.0) for name in dataset})
    else:
        mixture = MixConfig(
            parts={name: MixturePart(weight=weight) for name, weight in dataset.items()}, stop="first_exhausted"
        )
    name = f"{stage}_mix"
    mixture.extend(name, flow)
    return name
