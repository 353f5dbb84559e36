"""Kahneman–Tversky optimization: which loss over which judged answers, by which recipe."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from data_prep.strict import StrictModel
from pipeline.training.preference_config import PreferenceStage, PreferenceTrainConfig

TRAIN_VERSION = 1


class KtoFields(StrictModel):
    """The objective."""

    loss: Literal["kto", "apo_zero_unpaired"] = "kto"
    """kto (Ethayarajh et al. 2024, arXiv 2402.01306), or APO's loss on single answers (arXiv 2408.06266)."""
    beta: float = Field(default=0.1, gt=0)
    """How firmly the policy is held at its reference."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """Weight of the good answers' loss; raise it where they are the fewer."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """Weight of the bad answers' loss; raise it where they are the fewer."""


class KtoTrainConfig(PreferenceTrainConfig, KtoFields):
    """What the ranks are given."""


class KtoConfig(KtoFields, PreferenceStage):
    """Kahneman–Tversky optimization through TRL's KTOTrainer, on single answers that are good or bad.

    A pair counts as two answers. With the loss kto, each answer is also scored under the prompt of its neighbour in the
    batch, which estimates how far the policy has moved; so rows keep one order, drawn by the seed.
    """

    kind: Literal["kto"] = "kto"
    """Which stage this is."""

    train_config: ClassVar[type[PreferenceTrainConfig]] = KtoTrainConfig
    version: ClassVar[int] = TRAIN_VERSION
    prepared_by: ClassVar[str] = "kto.prepare"
    referenced_by: ClassVar[str | None] = "kto.reference"

    @model_validator(mode="after")
    def _neighbours(self) -> "KtoConfig":
        if self.loss == "kto" and min(self.batch_size, self.micro_batch_size or self.batch_size) < 2:
            raise ValueError("the loss kto compares neighbours: batch_size and micro_batch_size must be at least 2")
        return self

    def reads_whole_batch(self) -> bool:
        """The distance from the reference is estimated over the answers of a device."""
        return self.loss == "kto"

    def reference_identity(self, seed: int) -> dict[str, Any]:
        """Neighbours follow from the order and the batch."""
        return {"loss": self.loss, "batch_size": self.batch_size, "seed": seed}
