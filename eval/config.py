"""What is measured and how it is compared: the user's side of the evaluation."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from data_prep.errors import DataError
from data_prep.strict import StrictModel
from eval.choice.config import ChoiceConfig, ClassificationConfig, ClozeConfig
from eval.decoding.config import (
    BeamDecoding,
    ContrastiveDecoding,
    DecodingConfig,
    GreedyDecoding,
    SampleDecoding,
)
from eval.fairness.config import BbqConfig, PairConfig, WinogenderConfig
from eval.reasoning.config import ReasoningConfig
from eval.server.config import SPEED, GenerationServer


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
    """Answers to the held-out prompts, for ROUGE, BLEU, chrF and the judge."""

    model_config = ConfigDict(hide_input_in_errors=True)  # what is refused may be a server's key in the wrong place

    max_rows: int | None = Field(default=64, ge=1)
    """Prompts answered, chosen by a hash of their id; null: all."""
    max_new_tokens: int = Field(default=48, ge=1)
    """Longest answer in tokens; longer ones are cut and marked `length`."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts at a time, halved by itself where memory runs out; it changes the speed, and rarely a near tie."""
    decoding: DecodingConfig = GreedyDecoding()
    """How the next token is chosen; `decoding@stages.evaluate.generation.decoding=top_p` takes a named one."""
    log_probabilities: bool = False
    """Keep the token ids of each answer and the logarithm of what the model's own distribution gave to each, the stop
    token included."""
    engine: Literal["transformers", "vllm", "server"] = "transformers"
    """Who generates: this process by continuous batching, vLLM (`pip install 'provetune[gpu]'`, one GPU), or an
    OpenAI-compatible server that serves the models under test."""
    server: GenerationServer | None = None
    """Where `engine=server` is, and how it calls the models."""

    @model_validator(mode="after")
    def a_server_does_what_it_can(self) -> "GenerationConfig":
        """What no server does, or not alike on all of them, is refused before anything is asked."""
        if (self.engine == "server") != (self.server is not None):
            raise ValueError("engine=server and server={base_url: …, served: {MODEL: NAME}} go together; set both")
        if self.server is None:
            return self
        decoding = self.decoding
        if isinstance(decoding, BeamDecoding | ContrastiveDecoding):
            raise ValueError(f"engine=server has no {decoding.kind} search; take engine=transformers")
        if isinstance(decoding, SampleDecoding):
            for name in ("top_k", "min_p"):
                if getattr(decoding, name) is not None and name not in self.server.knows:
                    raise ValueError(
                        f"decoding.{name} is none of OpenAI's settings, and a server that does not know it says "
                        f"nothing; add {name} to server.knows if yours does, or set it to null"
                    )
            if self.log_probabilities:
                raise ValueError(
                    "log_probabilities of sampled answers: servers differ in whether they tell those of the model or "
                    "of what sampling left; take greedy decoding or another engine"
                )
        return self

    def of_model(self, model: str) -> "GenerationConfig":
        """What concerns one model under test; DataError where the server has no name for it."""
        if self.server is None:
            return self
        if model not in self.server.served:
            raise DataError(
                f"generation.server.served: no name for the model '{model}', only for {sorted(self.server.served)}; "
                f"add served.{model}=NAME"
            )
        only = self.server.model_copy(update={"served": {model: self.server.served[model]}})
        return self.model_copy(update={"server": only})

    def identity(self) -> dict[str, Any]:
        """All settings that answers depend on; not how fast a server is asked."""
        plain = self.model_dump(mode="json", exclude={"server": SPEED})
        return plain if self.server else {name: value for name, value in plain.items() if name != "server"}

    @model_validator(mode="after")
    def vllm_chooses_token_by_token(self) -> "GenerationConfig":
        """vLLM has no contrastive search, and left beam search to its callers."""
        if self.engine == "vllm" and isinstance(self.decoding, BeamDecoding | ContrastiveDecoding):
            raise ValueError(f"engine=vllm has no {self.decoding.kind} search; take engine=transformers")
        return self


class NgramConfig(StrictModel):
    """A model that only counts: bits per byte of byte n-grams of the training text, as a yardstick."""

    order: int = Field(default=5, ge=1, le=12)
    """Longest n-gram in bytes."""
    max_bytes: int = Field(default=1_000_000, ge=1)
    """Bytes of training text that are counted, the first rows in the order of a hash of their ids."""


ANSWER_METRICS = (
    "rouge",
    "bleu",
    "exact_match",
    "f1",
    "number",
    "label",
    "toxicity",
)


def _known_metric(name: str) -> str:
    if name in ANSWER_METRICS or (name.count(":") == 1 and all(name.split(":"))):
        return name
    raise ValueError(
        f"{name!r} is no metric; allowed are {', '.join(ANSWER_METRICS)}, module:function, file.py:function and "
        "evaluate:NAME_OR_SCRIPT"
    )


MetricName = Annotated[str, AfterValidator(_known_metric)]


class ChoiceTask(ChoiceConfig):
    """Questions with given answers: rows of question and choices (PIQA, ARC, CommonsenseQA, BoolQ and their kind)."""

    kind: Literal["choice"] = "choice"
    """Which kind of task this is."""


class ClozeTask(ClozeConfig):
    """The last word of each text (LAMBADA): is it the likeliest, and how likely is it."""

    kind: Literal["cloze"] = "cloze"
    """Which kind of task this is."""


class ClassificationTask(ClassificationConfig):
    """Rows of text and label, classified by which label word follows the prompt with the highest likelihood."""

    kind: Literal["classification"] = "classification"
    """Which kind of task this is."""


class PairTask(PairConfig):
    """Pairs of sentences about different groups (CrowS-Pairs, StereoSet, WinoBias): which one is likelier."""

    kind: Literal["pairs"] = "pairs"
    """Which kind of task this is."""


class BbqTask(BbqConfig):
    """The Bias Benchmark for QA: accuracy and bias where the context answers the question, and where it does not."""

    kind: Literal["bbq"] = "bbq"
    """Which kind of task this is."""


class GroupsTask(WinogenderConfig):
    """Questions about people of different groups: accuracy by group and the gap between groups (Winogender)."""

    kind: Literal["groups"] = "groups"
    """Which kind of task this is."""


class ReasoningTask(ReasoningConfig):
    """Problems whose answer is a number, solved in steps: votes over several answers, budgets for thinking (GSM8K)."""

    kind: Literal["reasoning"] = "reasoning"
    """Which kind of task this is."""


TaskConfig = Annotated[
    ChoiceTask | ClozeTask | ClassificationTask | PairTask | BbqTask | GroupsTask | ReasoningTask,
    Field(discriminator="kind"),
]
"""A data set that is measured in its own way, instead of by perplexity and generated answers."""


class StatisticsConfig(StrictModel):
    """How the difference of two models is judged."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Level of the intervals; a verdict is given at a significance of one minus this, after Holm's correction."""
    interval: Literal["percentile", "bca"] = "percentile"
    """How bootstrap resamples become an interval: their percentiles, or bias-corrected and accelerated (Efron 1987),
    which follows skewed scores better and costs one leave-one-out value per row. Cohen's kappa keeps percentiles."""
    resamples: int = Field(default=10_000, ge=100)
    """Resamples of the paired bootstrap, and swaps of the permutation test."""
    seed: int = Field(default=0, ge=0)
    """Seed of both."""
