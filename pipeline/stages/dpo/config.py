"""Direct preference optimization: which loss over which pairs, by which recipe."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from data_prep.strict import StrictModel
from pipeline.training.preference_config import PreferenceStage, PreferenceTrainConfig

TRAIN_VERSION = 1

Loss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
"""The losses of TRL's DPOTrainer."""
Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]

SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")
"""The losses that read label_smoothing."""
SORTED = ("aot", "aot_unpaired")
"""The losses that sort the pairs of a batch."""
DIVERGENT = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft")
"""The losses with another divergence than the reverse KL."""


class DpoFields(StrictModel):
    """The objective."""

    loss: Loss | dict[Loss, float] = Field(default="sigmoid", min_length=1)
    """One of TRL's losses, or several with weights: `{sigmoid: 1, sft: 0.2}`. sigmoid is DPO (Rafailov et al. 2023,
    arXiv 2305.18290); sft adds the chosen answers' own loss; apo_zero and apo_down are APO's (arXiv 2408.06266)."""
    beta: float = Field(default=0.1, gt=0)
    """How firmly the policy is held at its reference; ipo's τ."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of pairs taken to be judged the wrong way round; read by robust (below 0.5), exo_pair (above 0) and aot."""
    divergence: Divergence = "reverse_kl"
    """Divergence from the reference (f-DPO, arXiv 2309.16240)."""
    divergence_alpha: float = 0.5
    """α of `divergence=alpha_divergence`."""
    discopop_tau: float = Field(default=0.05, gt=0)
    """Temperature of the loss discopop."""
    weighting: bool = False
    """Weigh each pair by how likely the policy is to write it (WPO, arXiv 2406.11827)."""
    length_alpha: float | None = Field(default=None, ge=0, le=1)
    """Weight of the tokens by which an answer is longer than the other (LD-DPO, arXiv 2409.06411); without it: 1."""


class DpoTrainConfig(PreferenceTrainConfig, DpoFields):
    """What the ranks are given."""

    sequences_per_row: ClassVar[int] = 2

    def losses(self) -> dict[str, float]:
        """Loss → weight."""
        return losses_of(self)


class DpoConfig(DpoFields, PreferenceStage):
    """Direct preference optimization through TRL's DPOTrainer; its reference is the policy the stage starts from."""

    kind: Literal["dpo"] = "dpo"
    """Which stage this is."""

    train_config: ClassVar[type[PreferenceTrainConfig]] = DpoTrainConfig
    version: ClassVar[int] = TRAIN_VERSION
    referenced_by: ClassVar[str | None] = "dpo.reference"

    @model_validator(mode="after")
    def _objective_goes_together(self) -> "DpoConfig":
        losses = losses_of(self)
        if not all(weight > 0 for weight in losses.values()):
            raise ValueError(f"loss {losses}: each weight must be above 0; leave out a loss that does not count")
        smoothed = [loss for loss in losses if loss in SMOOTHED]
        if self.label_smoothing and not smoothed:
            raise ValueError(
                f"label_smoothing {self.label_smoothing} has no effect on {'+'.join(losses)}; use it with "
                f"{', '.join(SMOOTHED)}, or set 0"
            )
        if "exo_pair" in losses and not self.label_smoothing:
            raise ValueError("loss exo_pair needs label_smoothing above 0; its paper takes 0.001")
        if "robust" in losses and self.label_smoothing >= 0.5:
            raise ValueError(f"label_smoothing {self.label_smoothing}: must be below 0.5 for the loss robust")
        self._refuse_unread(losses)
        return self

    def _refuse_unread(self, losses: dict[str, float]) -> None:
        """Settings that the chosen losses cannot honour."""
        unfit = [loss for loss in losses if loss not in DIVERGENT]
        if self.divergence != "reverse_kl" and unfit:
            raise ValueError(
                f"divergence {self.divergence} is not defined for the loss {unfit[0]}; use reverse_kl, or the losses "
                f"{', '.join(DIVERGENT)}"
            )
        if self.weighting and any(loss in SORTED for loss in losses):
            raise ValueError(f"weighting goes with losses of single pairs, not with {', '.join(SORTED)}; set it false")

    def reads_whole_batch(self) -> bool:
        """aot sorts the pairs of a device, sft averages over its tokens."""
        return any(loss in (*SORTED, "sft") for loss in losses_of(self))

    def reference_identity(self, seed: int) -> dict[str, Any]:
        """The tokens' weights."""
        return {"length_alpha": self.length_alpha}


def losses_of(config: DpoFields) -> dict[str, float]:
    """Loss → weight."""
    return {config.loss: 1.0} if isinstance(config.loss, str) else {**config.loss}
