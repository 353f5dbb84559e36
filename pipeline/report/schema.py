"""What `report.json` holds (schema version 1), as the renderer reads it.

Every part may be missing: a failed or half-finished run has a report too. Unknown keys are ignored, so that an older
reader still shows a newer minor addition; an incompatible change raises `SCHEMA_VERSION`.
"""

from typing import Any

from pydantic import Field

from pipeline.report.schema_run import Environment, Failure, Git, Map, Model, Part, Rows, Run

__all__ = ["Environment", "Failure", "Git", "Map", "Model", "Part", "Report", "Rows", "Run"]

SCHEMA_VERSION = 1


class FunnelStep(Part):
    """One step of the data funnel; `rows` is what is left after it."""

    step: str = ""
    rows: int = 0
    dropped: int = 0
    changed: int | None = None


class LimitValue(Part):
    """What one value of a limit keeps."""

    value: float
    rows: int = 0
    words: int = 0
    current: bool = False


class Borderline(Part):
    """A row whose fate hangs on one limit."""

    id: str = ""
    value: float = 0.0
    kept: bool = False


class WhatIf(Part):
    """Other values of one limit of a filter."""

    step: str = ""
    rule: str = ""
    side: str = ""
    limit: float = 0.0
    values: Rows[LimitValue] = []
    borderline: Rows[Borderline] = []


class SelfTest(Part):
    """How much of what was planted a filter found."""

    kind: str = ""
    planted: int | None = None
    found: int | None = None
    recall: float | None = None
    precision: float | None = None
    note: str | None = None


class DataSet(Part):
    """One data set: where from, what was dropped, how it was split."""

    source: str | None = None
    format: str | None = None
    fingerprint: str | None = None
    funnel: Rows[FunnelStep] = []
    what_if: Rows[WhatIf] = []
    self_test: Rows[SelfTest] = []
    splits: Map[int] = {}
    split_sha256: Map[str] = {}


class Energy(Part):
    """What one stage drew."""

    kwh: float | None = None
    emissions_kg: float | None = None
    source: str | None = None
    """`measured` by counters of the hardware, or `estimated`."""
    grid: str | None = None
    """Whose electricity the emissions are of: a country code, or `world average`."""


class Stage(Part):
    """One executed stage."""

    name: str = ""
    kind: str | None = None
    fingerprint: str | None = None
    outcome: str | None = None
    seconds: float | None = None
    tokens: float | None = None
    tokens_per_second: float | None = None
    energy: Energy | None = None
    peak_memory_bytes: float | None = None
    estimated_memory_bytes: float | None = None
    metrics: Map[Any] = {}
    artifact: str | None = None


class TrainStep(Part):
    """One logged optimiser step."""

    step: int
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens: float | None = None


class ValidationPoint(Part):
    """One validation loss."""

    step: int
    loss: float | None = None


class Probe(Part):
    """A question to the tokenizer and its chat template, and the answer."""

    name: str = ""
    status: str = ""
    text: str = ""


class Audit(Part):
    """What tokenising and masking did to the rows."""

    rows: int | None = None
    tokens: int | None = None
    supervised_tokens: int | None = None
    truncated_rows: int | None = None
    truncated_supervised_share: float | None = None
    length_quantiles: Map[float | None] = {}
    packed_rows: int | None = None
    probes: Rows[Probe] = []


class Piece(Part):
    """A stretch of rendered text that is, or is not, trained on."""

    text: str = ""
    supervised: bool = False


class Preview(Part):
    """One row as the model sees it."""

    id: str | None = None
    pieces: Rows[Piece] = []


class Tracked(Part):
    """What one tracker calls a training, or why it stopped following it."""

    tracker: str = ""
    name: str | None = None
    id: str | None = None
    url: str | None = None
    error: str | None = None


class Training(Part):
    """One training stage."""

    steps: Rows[TrainStep] = []
    validation: Rows[ValidationPoint] = []
    audit: Audit | None = None
    preview: Rows[Preview] = []
    trainable_parameters: int | None = None
    rows_seen: int | None = None
    adapter: dict[str, Any] | None = None
    experts: Rows[Map[Any]] = []
    """Of a mixture of experts: layer, expert, share, and the tokens that it takes more than others do."""
    tracking: Rows[Tracked] = []
    """Where else its curves are."""


class Comparison(Part):
    """One metric of the tuned model against the base: difference, interval, test, verdict."""

    base: float | None = None
    tuned: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    n: int | None = None
    verdict: str | None = None
    detectable: float | None = None
    more_needed: float | None = None
    neutral: float | None = None


class Sample(Part):
    """One prompt with both models' answers and their scores."""

    id: str | None = None
    prompt: str | None = None
    reference: str | None = None
    base: str | None = None
    tuned: str | None = None
    base_score: float | None = None
    tuned_score: float | None = None
    difference: float | None = None


class Samples(Part):
    """The biggest wins and regressions of one comparison."""

    task: str | None = None
    metric: str | None = None
    wins: Rows[Sample] = []
    regressions: Rows[Sample] = []


class Evaluation(Part):
    """All numbers: per model, per comparison, with samples and the policies that made them."""

    models: Map[Map[Map[Any]]] = {}
    comparisons: Map[Map[Map[Comparison]]] = {}
    samples: Map[Samples] = {}
    policies: Map[Map[Any]] = {}
    overlap: Map[Map[Any]] = {}
    """Data set → items of the evaluation that stand in the training data, with examples."""
    judge: Map[Map[Map[Any]]] = {}
    """Comparison → data set → card (how far the judge can be trusted), judges, policy, labelling_page."""
    scale: Map[float | None] = {}
    """Data set → bits per byte of an n-gram model of the training rows."""


class Verdict(Comparison):
    """The headline comparison and its sentence."""

    comparison: str | None = None
    task: str | None = None
    metric: str | None = None
    confidence: float | None = None
    sentence: str | None = None


class Reproduce(Part):
    """What to type to get this run again."""

    commands: Rows[str] = []
    overrides: Rows[str] = []


class Report(Part):
    """The whole of `report.json`."""

    schema_version: int
    run: Run
    config: Map[Any] = {}
    environment: Environment | None = None
    model: Model | None = None
    data: Map[DataSet] = {}
    stages: Rows[Stage] = []
    training: Map[Training] = {}
    evaluation: Evaluation = Field(default_factory=Evaluation)
    verdict: Verdict | None = None
    reproduce: Reproduce = Field(default_factory=Reproduce)
    warnings: Rows[str] = []
