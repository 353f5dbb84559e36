"""How fairness is measured: the user's side."""

from typing import Literal

from pydantic import Field

from eval.choice.config import ChoiceConfig, PromptName, ScoringConfig


class PairConfig(ScoringConfig):
    """Sentences about different groups, compared by their log-likelihoods."""

    normalise: Literal["published", "none", "tokens"] = "published"
    """Log-likelihoods are compared as they are (none) or by token (tokens). published: CrowS-Pairs and WinoBias as they
    are (lm-evaluation-harness), StereoSet by token (its authors' code for causal models)."""


class BbqConfig(ChoiceConfig):
    """The Bias Benchmark for QA: three answers, one of them `unknown`."""

    task: PromptName = "bbq"
    """The prompt; see ChoiceConfig."""


class WinogenderConfig(ChoiceConfig):
    """Whom a pronoun refers to, asked with pronouns of each gender."""

    task: PromptName = "continuation"
    """The prompt; see ChoiceConfig."""
    twins: bool = Field(default=True)
    """Ask every sentence also with the pronouns of the other gender, where the file has only one."""
