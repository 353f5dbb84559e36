"""How multiple choice and cloze words are measured: the user's side."""

from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, field_validator

from data_prep.strict import StrictModel

Bos = Literal["tokenizer", "always", "never"]
TooLong = Literal["refuse", "cut"]
PromptName = Literal[
    "question",
    "letters",
    "continuation",
    "piqa",
    "arc_easy",
    "commonsense_qa",
    "openbookqa",
    "boolq",
    "bbq",
    "sentiment",
]
PLACEHOLDERS = ("question", "passage", "options")


class ScoringConfig(StrictModel):
    """How log-likelihoods of continuations are computed."""

    batch_size: int = Field(default=8, ge=1)
    """Sequences per forward pass, halved by itself where memory runs out; it changes the speed, and the last digits.
    Choices that share a context are read together and cost no more memory than so many separate sequences."""
    bos: Bos = "tokenizer"
    """Beginning-of-sequence token before the context, never twice: tokenizer: where the tokenizer itself puts one
    (as lm-evaluation-harness); always; never. An empty context is always one BOS (else EOS) token."""
    too_long: TooLong = "refuse"
    """Context and continuation beyond the model's context: refuse, or cut tokens from the left as
    lm-evaluation-harness does; what was cut is counted."""
    max_rows: int | None = Field(default=None, ge=1)
    """Items scored, chosen by a hash of their id; null: all."""


class ChoiceConfig(ScoringConfig):
    """Questions with given answers: which one does the model find likeliest, or name."""

    task: PromptName = "question"
    """The prompt: piqa, arc_easy, commonsense_qa, openbookqa, boolq and bbq are lm-evaluation-harness's; question shows
    the question and compares the answers' texts, letters shows lettered answers and compares the letters, continuation
    compares how a text goes on, sentiment compares label words."""
    prompt: str | None = Field(default=None, min_length=1)
    """A text of your own in place of the task's, with {question}, {passage} and {options} (the lettered answers)."""
    method: Literal["likelihood", "generation"] = "likelihood"
    """likelihood: of each answer after the prompt; generation: the model writes, and its letter is read from that."""
    shots: int = Field(default=0, ge=0)
    """Solved examples before each question."""
    shot_choice: Literal["first", "sampled"] = "first"
    """first: the first examples of the pool for every question; sampled: drawn for each question by seed and id."""
    seed: int = Field(default=0, ge=0)
    """Seed of sampled examples."""
    template: Literal["plain", "chat"] = "plain"
    """plain: text that goes on; chat: question and examples as turns of the tokenizer's chat template."""
    max_new_tokens: int = Field(default=32, ge=1)
    """Longest answer of method generation, in tokens."""

    @field_validator("prompt")
    @classmethod
    def only_known_placeholders(cls, value: str | None) -> str | None:
        """A misspelt placeholder would show itself to the model."""
        if value is None:
            return value
        names = {name for _, name, _, _ in Formatter().parse(value) if name is not None}
        unknown = sorted(names - {*PLACEHOLDERS})
        if unknown:
            allowed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"placeholder {{{unknown[0]}}}: unknown; allowed are {allowed}; write braces as {{{{ }}}}")
        if not names & {"question", "passage"}:
            raise ValueError("shows neither {question} nor {passage}; every item would get the same prompt")
        return value


class ClozeConfig(ScoringConfig):
    """The last word of a passage (LAMBADA): is it the likeliest, and how likely is it."""

    delimiter: str = " "
    """Between context and word."""


Label = Annotated[str, Field(min_length=1)]


class ClassificationConfig(ChoiceConfig):
    """Labels as words that follow a prompt."""

    task: PromptName = "sentiment"
    """The prompt; see ChoiceConfig."""
    words: dict[Label, Label] = Field(min_length=2)
    """The word of each label, such as {"0": "negative", "1": "positive"}."""

    @field_validator("words")
    @classmethod
    def words_are_different(cls, value: dict[str, str]) -> dict[str, str]:
        """Two labels with one word could not be told apart."""
        if len(set(value.values())) < len(value):
            raise ValueError("words: two labels have the same word; give each its own")
        return value
