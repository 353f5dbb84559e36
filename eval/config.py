"""What is measured and how it is compared: the user's side of the evaluation."""

from pydantic import Field

from data_prep.strict import StrictModel


class PerplexityConfig(StrictModel):
    """Log-likelihood of the held-out text (text rows) or of the held-out answers (prompt/completion and chat rows)."""

    max_rows: int | None = Field(default=None, ge=1)
    """Rows scored, chosen by a hash of their id; null: all."""
    batch_size: int = Field(default=8, ge=1)
    """Sequences per forward pass; it changes the speed, and the last digits."""
    stride: int | None = Field(default=None, ge=1)
    """Tokens scored by each window after the first, for text longer than the model's context; null: the context
    length, as lm-evaluation-harness does. A smaller stride gives every token more left context and costs more."""


class GenerationConfig(StrictModel):
    """Greedy answers to the held-out prompts, for ROUGE, BLEU and chrF."""

    max_rows: int | None = Field(default=64, ge=1)
    """Prompts answered, chosen by a hash of their id; null: all."""
    max_new_tokens: int = Field(default=48, ge=1)
    """Longest answer in tokens; longer ones are cut and marked `length`."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts per batch, halved by itself where memory runs out; it changes the speed, and rarely a near tie."""


class StatisticsConfig(StrictModel):
    """How the difference of two models is judged."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Level of the intervals; a verdict is given at a significance of one minus this, after Holm's correction."""
    resamples: int = Field(default=10_000, ge=100)
    """Resamples of the paired bootstrap, and swaps of the permutation test."""
    seed: int = Field(default=0, ge=0)
    """Seed of both."""
