"""What is measured, of which models."""

from typing import Literal

from pydantic import Field

from data_prep.curation.decontamination.config import Decontamination
from data_prep.strict import StrictModel
from eval.config import GenerationConfig, PerplexityConfig, StatisticsConfig
from pipeline.contract import Flow, Node, Output, StageConfig, identity_of
from pipeline.errors import ConfigError

PREDICT_VERSION = 1
COMPARE_VERSION = 2
OVERLAP_VERSION = 1


class PredictConfig(StrictModel):
    """How one model is run over one held-out data set: what both sides of a comparison share."""

    dataset: str
    """Name of the data set."""
    template: Literal["auto", "chat", "plain"]
    """How a row becomes a prompt."""
    perplexity: PerplexityConfig | None
    """Scoring of the held-out answers; null: not measured."""
    generation: GenerationConfig | None
    """Greedy answers to the held-out prompts; null: not measured."""
    dtype: str
    """Number format of the weights."""
    attention: str
    """Attention implementation."""
    trust_remote_code: bool
    """Whether code of a Hub model may run."""


class CompareConfig(StrictModel):
    """How two models' predictions are compared."""

    datasets: list[str]
    """Names of the data sets."""
    statistics: StatisticsConfig
    """Intervals and tests."""
    samples: int
    """Biggest wins and regressions kept."""


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
    """ROUGE, BLEU and chrF of greedy answers; `null` switches it off."""
    overlap: Decontamination | None = Decontamination()
    """How items of an evaluation are found that stand in the training data; models are compared without them. Asked
    only of data sets with `role: eval` that no filter has cleaned the training data of; `null`: all items count."""
    statistics: StatisticsConfig = StatisticsConfig()
    """Intervals and tests of the comparison."""
    samples: int = Field(default=5, ge=0)
    """How many of the biggest wins and regressions the report shows."""

    def extend(self, name: str, flow: Flow) -> None:
        """One `predict` node per model and data set, and one `compare` node for each pair with the baseline."""
        names = self.compare or list(dict.fromkeys(["base", flow.newest_model]))
        datasets = self.datasets or [dataset for dataset in flow.datasets if dataset in flow.tested]
        self._refuse_unknown(name, names, datasets, flow)
        predictions = {
            model: {dataset: Output(self._predict(name, model, dataset, flow)) for dataset in datasets}
            for model in names
        }
        baseline = names[0]
        if len(names) == 1:
            return
        overlaps = self._overlaps(name, datasets, flow)
        for tuned in names[1:]:
            self._compare(name, baseline, tuned, predictions, overlaps, flow)

    def _refuse_unknown(self, name: str, models: list[str], datasets: list[str], flow: Flow) -> None:
        for model in models:
            if model not in flow.models:
                raise ConfigError(
                    f"stages.{name}.compare: no model '{model}' before this stage; there are {list(flow.models)}"
                )
        for dataset in datasets:
            if dataset not in flow.datasets:
                raise ConfigError(f"stages.{name}.datasets: no data set '{dataset}'; there are {sorted(flow.datasets)}")
        for dataset in datasets:
            if dataset not in flow.tested:
                raise ConfigError(
                    f"stages.{name}.datasets: '{dataset}' has no test rows; raise data.{dataset}.splits.test"
                )
        if not datasets:
            raise ConfigError(
                f"stages.{name}: no data set has test rows; raise data.NAME.splits.test or add role: eval"
            )
        if self.perplexity is None and self.generation is None:
            raise ConfigError(f"stages.{name}: perplexity and generation are both off; switch one on")

    def _predict(self, name: str, model: str, dataset: str, flow: Flow) -> Node:
        config = PredictConfig(
            dataset=dataset,
            template=self.template,
            perplexity=self.perplexity,
            generation=self.generation,
            dtype=flow.model_dtype,
            attention=flow.attention,
            trust_remote_code=flow.trust_remote_code,
        )
        several = len(flow.datasets) > 1
        return flow.add(
            Node(
                name=f"{name}/{model}/{dataset}" if several else f"{name}/{model}",
                kind="evaluate.predict",
                version=PREDICT_VERSION,
                config=config.model_dump(mode="json"),
                identity=identity_of(config),
                inputs={**flow.models[model].as_inputs(), "dataset": flow.datasets[dataset]},
            )
        )

    def _overlaps(self, name: str, datasets: list[str], flow: Flow) -> dict[str, Output]:
        """A node per evaluation that was not there when the training data was filtered."""
        if self.overlap is None or not flow.trained_on:
            return {}
        unseen = [each for each in datasets if flow.roles[each] == "eval" and each not in flow.decontaminated]
        settings = self.overlap.model_dump(mode="json")
        training = {f"training.{each}": output for each, output in flow.trained_on.items()}
        return {
            dataset: Output(
                flow.add(
                    Node(
                        name=f"{name}/overlap/{dataset}",
                        kind="evaluate.overlap",
                        version=OVERLAP_VERSION,
                        config={"dataset": dataset, "settings": settings},
                        identity={"dataset": dataset, "settings": settings},
                        inputs={**training, "evaluation": flow.datasets[dataset]},
                    )
                )
            )
            for dataset in unseen
        }

    def _compare(
        self,
        name: str,
        baseline: str,
        tuned: str,
        predictions: dict[str, dict[str, Output]],
        overlaps: dict[str, Output],
        flow: Flow,
    ) -> None:
        config = CompareConfig(
            datasets=list(predictions[tuned]), statistics=self.statistics, samples=self.samples
        ).model_dump(mode="json")
        sides = {"base": predictions[baseline], "tuned": predictions[tuned]}
        flow.add(
            Node(
                name=f"{name}/{tuned}_vs_{baseline}",
                kind="evaluate.compare",
                version=COMPARE_VERSION,
                config=config,
                identity=config,
                inputs={
                    **{f"{side}.{dataset}": out for side, outs in sides.items() for dataset, out in outs.items()},
                    **{f"overlap.{dataset}": output for dataset, output in overlaps.items()},
                },
            )
        )
