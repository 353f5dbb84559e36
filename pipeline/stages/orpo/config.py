"""Odds ratio preference optimization: which pairs, by which recipe."""

from typing import ClassVar, Literal

from pydantic import Field

from data_prep.strict import StrictModel
from pipeline.training.preference_config import PreferenceStage, PreferenceTrainConfig

TRAIN_VERSION = 1


class OrpoFields(StrictModel):
    """The objective."""

    beta: float = Field(default=0.1, gt=0)
    """Weight of the odds ratio beside the chosen answers' own loss (λ in Hong et al. 2024, arXiv 2403.07691)."""


class OrpoTrainConfig(PreferenceTrainConfig, OrpoFields):
    """What the ranks are given."""

    sequences_per_row: ClassVar[int] = 2
    logits: ClassVar[Literal["tiles", "whole", "odds", "margin"]] = "odds"


class OrpoConfig(OrpoFields, PreferenceStage):
    """Odds ratio preference optimization through TRL's experimental ORPOTrainer: fine-tuning and preference in one."""

    kind: Literal["orpo"] = "orpo"
    """Which stage this is."""

    train_config: ClassVar[type[PreferenceTrainConfig]] = OrpoTrainConfig
    version: ClassVar[int] = TRAIN_VERSION

    def reads_whole_batch(self) -> bool:
        """The chosen answers' loss is a mean over the tokens of a device."""
        return True
