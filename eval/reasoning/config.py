"""The settings of reasoning tasks. Imports only pydantic."""

from typing import Literal

from pydantic import Field, model_validator

from data_prep.strict import StrictModel
from eval.decoding.config import DecodingConfig, GreedyDecoding, SampleDecoding


class BudgetConfig(StrictModel):
    """Budget forcing (Muennighoff et al. 2025, arXiv:2501.19393): how long a model thinks before it answers."""

    least: int = Field(default=0, ge=0)
    """Fewest thinking tokens: an earlier end of the thought, or of the turn, is replaced by `wait`."""
    most: int = Field(ge=1)
    """Most thinking tokens: a longer thought is cut, and `end` is forced."""
    wait: str = Field(default="Wait", min_length=1)
    """What is put in place of an end that comes too early."""
    end: str = Field(default="\nThe answer is", min_length=1)
    """What ends the thought and opens the answer; `</think>` for models that were trained with it."""

    @model_validator(mode="after")
    def least_is_not_above_most(self) -> "BudgetConfig":
        """A thought cannot be longer than its limit."""
        if self.least > self.most:
            raise ValueError(f"least={self.least} thinking tokens are more than most={self.most}; lower one of them")
        return self


class ReasoningConfig(StrictModel):
    """Problems whose answer is a number, solved step by step."""

    max_rows: int | None = Field(default=None, ge=1)
    """Problems asked, chosen by a hash of their id; null: all."""
    instruction: str = "Think step by step. End with: The answer is NUMBER."
    """Follows each problem (Kojima et al. 2022); empty: the data set's own prompt says it."""
    shots: int = Field(default=0, ge=0)
    """Solved examples with their steps before the problem (Wei et al. 2022), the first by a hash of their id from the
    train split, else from validation, else from the other problems."""
    samples: int = Field(default=1, ge=1)
    """Answers to each problem; the number that most of them state counts (self-consistency, Wang et al. 2023), the
    first that was given where several are equal."""
    decoding: DecodingConfig = GreedyDecoding()
    """How the next token is chosen; several samples need `kind: sample`."""
    budget: BudgetConfig | None = None
    """Fewest and most thinking tokens; null: the model stops when it likes."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest answer in tokens; with a budget, what may follow the thought."""
    batch_size: int = Field(default=32, ge=1)
    """Answers at a time, halved by itself where memory runs out."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """`auto`: the tokenizer's chat template where it has one."""

    @model_validator(mode="after")
    def several_samples_differ(self) -> "ReasoningConfig":
        """Without chance, every sample is the same answer."""
        if self.samples > 1 and not isinstance(self.decoding, SampleDecoding):
            raise ValueError(
                f"samples={self.samples} of {self.decoding.kind} decoding are all alike; "
                "take kind: sample, or samples=1"
            )
        return self
