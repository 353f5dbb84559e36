"""What `python -m eval` is asked for. Imports only pydantic."""

import re
from typing import Literal

from pydantic import Field, model_validator

from data_prep.config import DatasetConfig
from data_prep.strict import StrictModel
from eval.config import GenerationConfig, MetricName, PerplexityConfig, StatisticsConfig, TaskConfig
from eval.energy import EnergyConfig

_NAME = re.compile(r"[\w-]+")


class EvalConfig(StrictModel):
    """One model, or two that are compared, on some tasks."""

    model: str = Field(min_length=1)
    """Folder of a Hugging Face causal model, or its Hub id."""
    adapters: list[str] = []
    """Folders of PEFT adapters that are merged into it, one after the other."""
    base: str | None = Field(default=None, min_length=1)
    """The model that it is compared with; null: it is measured alone."""
    tasks: list[str] = Field(min_length=1)
    """Packaged benchmarks (piqa, boolq, bbq …) and names under `data`; with `against=lm_eval`, tasks of
    lm-evaluation-harness."""
    data: dict[str, DatasetConfig] = {}
    """Data sets of your own; every row is measured."""
    settings: dict[str, TaskConfig] = {}
    """How a data set is measured; without it by perplexity and generated answers."""
    metrics: dict[str, list[MetricName]] = {}
    """Metrics of a data set's generated answers; without it rouge and bleu."""
    perplexity: PerplexityConfig | None = PerplexityConfig()
    """Bits per byte and perplexities; null switches it off."""
    generation: GenerationConfig | None = GenerationConfig()
    """Generated answers; `generation.decoding=top_p` takes a named decoding; null switches them off."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """`auto`: the tokenizer's chat template where it has one. With `against=lm_eval` only `chat` applies it."""
    statistics: StatisticsConfig = StatisticsConfig()
    """Intervals and tests of the comparison."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights."""
    trust_remote_code: bool = False
    """Run the code that comes with a model, as with one that was pretrained from scratch here; look at it before."""
    energy: EnergyConfig | None = EnergyConfig()
    """Meter what each model draws; null: do not."""
    output: str = Field(default="outputs/eval", min_length=1)
    """The folder of predictions and `results.json`; what it holds of the same model and settings is not made again."""
    into: str | None = None
    """Folder of a finished run whose `report.json` gets the numbers too; `python -m pipeline.report RUN` draws them."""
    against: Literal["lm_eval"] | None = None
    """lm_eval: lm-evaluation-harness itself runs its own tasks on the model."""
    limit: int | None = Field(default=None, ge=1)
    """Rows of each lm-eval task; null: all."""
    include: str | None = None
    """Folder of lm-eval task files of your own."""

    @model_validator(mode="after")
    def only_one_side_is_asked(self) -> "EvalConfig":
        """A setting of the other side would have no effect."""
        if self.against is None and (self.limit is not None or self.include is not None):
            raise ValueError("limit and include go with against=lm_eval; set max_rows of the task instead")
        twice = next((name for name in self.tasks if self.tasks.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"tasks: {twice} is there twice; name each once")
        odd = next((name for name in self.tasks if not self.against and not _NAME.fullmatch(name)), None)
        if odd is not None:
            raise ValueError(f"tasks: {odd!r} is no name; allowed are letters, digits, _ and -, as it names a folder")
        if self.against is not None:
            self._refuse_beside_lm_eval()
        for field, names in (("data", self.data), ("settings", self.settings), ("metrics", self.metrics)):
            unknown = sorted(names.keys() - set(self.tasks))
            if unknown:
                raise ValueError(f"{field}.{unknown[0]}: not among the tasks {self.tasks}; add it there, or remove it")
        self._refuse_idle_metrics()
        return self

    def _refuse_beside_lm_eval(self) -> None:
        """The harness generates, selects rows and reads its data in its own way."""
        if self.data or self.settings or self.metrics:
            raise ValueError("data, settings and metrics do not go with against=lm_eval; its tasks bring their own")
        idle = {"generation"} & self.model_fields_set
        if self.perplexity is not None:
            idle |= {f"perplexity.{name}" for name in self.perplexity.model_fields_set - {"batch_size"}}
        if idle:
            raise ValueError(
                f"{min(idle)}: has no effect with against=lm_eval, whose tasks say it themselves; remove it"
            )

    def _refuse_idle_metrics(self) -> None:
        """Metrics of answers that nobody generates, and a data set of which nothing is measured."""
        for name in self.metrics:
            if name in self.settings or self.generation is None:
                why = f"settings.{name} measures it" if name in self.settings else "generation is null"
                raise ValueError(f"metrics.{name}: nothing is generated, {why}; remove one of them")
        others = [name for name in self.tasks if name not in self.settings]
        if self.against is None and others and self.perplexity is None and self.generation is None:
            raise ValueError(
                f"perplexity and generation are both off; switch one on, or say how {others[0]} is measured "
                f"(settings.{others[0]}.kind=choice)"
            )
