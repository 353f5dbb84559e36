"""Simple preference optimization: which pairs, by which recipe."""

from typing import ClassVar, Literal

from pydantic import Field

from data_prep.strict import StrictModel
from pipeline.training.preference_config import PreferenceStage, PreferenceTrainConfig

TRAIN_VERSION = 1


class SimpoFields(StrictModel):
    """The objective."""

    beta: float = Field(default=2.0, gt=0)
    """Scale of the reward, the mean log-probability of an answer's tokens (Meng et al. 2024, arXiv 2405.14734)."""
    gamma: float = Field(default=1.0, ge=0)
    """Margin by which the chosen answer's reward shall exceed the rejected one's."""
    sft_weight: float = Field(default=0.0, ge=0)
    """Weight of the chosen answers' own loss; above 0 it is CPO-SimPO."""


class SimpoTrainConfig(PreferenceTrainConfig, SimpoFields):
    """What the ranks are given."""

    sequences_per_row: ClassVar[int] = 2
    logits: ClassVar[Literal["tiles", "whole", "odds", "margin"]] = "margin"


class SimpoConfig(SimpoFields, PreferenceStage):
    """Simple preference optimization through TRL's experimental CPOTrainer (loss simpo)."""

    kind: Literal["simpo"] = "simpo"
    """Which stage this is."""

    train_config: ClassVar[type[PreferenceTrainConfig]] = SimpoTrainConfig
    version: ClassVar[int] = TRAIN_VERSION

    def reads_whole_batch(self) -> bool:
        """The chosen answers' loss is a mean over the tokens of a device."""
        return self.sft_weight > 0
