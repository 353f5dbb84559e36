"""The nodes of an evaluation: predictions per model and data set, what is measured beside them, comparisons."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.sources import resolve_files
from eval.config import GenerationConfig, PerplexityConfig
from eval.judge.config import JudgeConfig, LocalJudge
from pipeline.artifacts import HashMemory
from pipeline.contract import Flow, Node, Output, identity_of
from pipeline.errors import ConfigError
from pipeline.stages.evaluate.config import (
    BASELINE_VERSION,
    COMPARE_VERSION,
    GENERAL,
    GENERAL_VERSION,
    JUDGE_VERSION,
    OVERLAP_VERSION,
    PREDICT_VERSION,
    CompareConfig,
    EvaluateConfig,
    ForgettingConfig,
    JudgeNodeConfig,
    PredictConfig,
)

Predictions = Mapping[str, Mapping[str, Output]]
"""Model → data set → its predictions."""
_JUDGE_SPEED = {"batch_size", "concurrency", "requests_per_minute", "retries", "timeout_seconds"}


def lay_out(config: EvaluateConfig, name: str, flow: Flow) -> None:
    """Add the nodes of one stage. ConfigError where it names what is not there, or measures nothing."""
    models = config.compare or list(dict.fromkeys(["base", flow.newest_model]))
    datasets = config.datasets or [dataset for dataset in flow.datasets if dataset in flow.tested]
    _refuse_unknown(config, name, models, datasets, flow)
    _refuse_idle(config, name, datasets)
    # A benchmark is measured whole, as it was published: a filter before is for what is trained on.
    whole = {dataset for dataset in config.tasks if flow.roles[dataset] == "eval"}
    sources = {dataset: (flow.sources if dataset in whole else flow.datasets)[dataset] for dataset in datasets}
    general = _general(config, name, flow) if len(models) > 1 else None
    if general is not None:
        sources[GENERAL] = general
    predictions = {
        model: {dataset: _predict(config, name, model, dataset, source, flow) for dataset, source in sources.items()}
        for model in models
    }
    if len(models) == 1:
        return
    beside = _overlaps(config, name, sources, flow) | _baselines(config, name, datasets, flow)
    for tuned in models[1:]:
        _compare(config, name, (models[0], tuned), predictions, beside, flow)


def _refuse_unknown(config: EvaluateConfig, name: str, models: list[str], datasets: list[str], flow: Flow) -> None:
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
            raise ConfigError(f"stages.{name}.datasets: '{dataset}' has no test rows; raise data.{dataset}.splits.test")
    if not datasets:
        raise ConfigError(f"stages.{name}: no data set has test rows; raise data.NAME.splits.test or add role: eval")


def _refuse_idle(config: EvaluateConfig, name: str, datasets: list[str]) -> None:
    """Settings of a data set that is not measured so, and a data set of which nothing is measured."""
    for field, keys in (("tasks", config.tasks), ("metrics", config.metrics)):
        for dataset in keys:
            if dataset not in datasets:
                raise ConfigError(f"stages.{name}.{field}.{dataset}: not evaluated here; evaluated are {datasets}")
    for dataset in config.metrics:
        if dataset in config.tasks or config.generation is None:
            raise ConfigError(f"stages.{name}.metrics.{dataset}: nothing is generated for '{dataset}'; remove it")
    others = [dataset for dataset in datasets if dataset not in config.tasks]
    if others and config.perplexity is None and config.generation is None:
        raise ConfigError(
            f"stages.{name}: perplexity and generation are both off; switch one on, or give '{others[0]}' a task"
        )
    if config.judge is not None and (config.generation is None or not others):
        raise ConfigError(
            f"stages.{name}.judge: nothing is generated that could be judged; set stages.{name}.generation"
        )
    if config.labels is not None and config.judge is None:
        raise ConfigError(f"stages.{name}.labels: there is no judge to compare them with; set stages.{name}.judge")


def _general(config: EvaluateConfig, name: str, flow: Flow) -> Output | None:
    """The general text; None where it is switched off, or cannot be had and was not asked for by name."""
    asked = config.forgetting
    if asked is None or flow.architecture is not None or GENERAL in flow.datasets:
        return None
    try:
        files = resolve_files(asked.source)
    except DataError as error:
        if asked.source == ForgettingConfig().source:
            return None
        raise ConfigError(f"stages.{name}.forgetting.source: {error}") from None
    if not files:
        raise ConfigError(
            f"stages.{name}.forgetting.source: {asked.source} is no file; give a local file or package://"
        )
    hashes = HashMemory(flow.artifacts / "hashes.json")
    settings = {"source": asked.source, "column": asked.column, "max_rows": asked.max_rows}
    identity = {**settings, "source": [hashes.sha256(file) for file in files]}
    node = Node(f"{name}/{GENERAL}", "evaluate.general", GENERAL_VERSION, settings, identity)
    return Output(flow.add(node))


def _predict(config: EvaluateConfig, name: str, model: str, dataset: str, source: Output, flow: Flow) -> Output:
    task, forgetting = config.tasks.get(dataset), config.forgetting
    general = source.node.kind == "evaluate.general"
    perplexity = PerplexityConfig(batch_size=forgetting.batch_size) if general and forgetting else config.perplexity
    asked = PredictConfig(
        dataset=dataset,
        template=config.template,
        perplexity=None if task else perplexity,
        generation=_generation(config, name, model) if not task and not general else None,
        task=task,
        dtype=flow.model_dtype,
        attention=flow.attention,
        trust_remote_code=flow.trust_remote_code,
        spread=config.spread,
    )
    several = general or len(flow.datasets) > 1
    node = Node(
        name=f"{name}/{model}/{dataset}" if several else f"{name}/{model}",
        kind="evaluate.predict",
        version=PREDICT_VERSION,
        config=asked.model_dump(mode="json"),
        identity=identity_of(asked) | ({"generation": asked.generation.identity()} if asked.generation else {}),
        inputs={**flow.models[model].as_inputs(), "dataset": source},
        ranks=_on_ranks(config, flow),
    )
    return Output(flow.add(node))


def _generation(config: EvaluateConfig, name: str, model: str) -> GenerationConfig | None:
    try:
        return config.generation and config.generation.of_model(model)
    except DataError as error:
        raise ConfigError(f"stages.{name}.{error}") from None


def _on_ranks(config: EvaluateConfig, flow: Flow) -> bool:
    return config.spread.kind == "ranks" and flow.processes > 1


def _overlaps(config: EvaluateConfig, name: str, sources: Mapping[str, Output], flow: Flow) -> dict[str, Output]:
    """A node per evaluation that was not there when the training data was filtered."""
    if config.overlap is None or not flow.trained_on:
        return {}
    settings = config.overlap.model_dump(mode="json")
    training = {f"training.{each}": output for each, output in flow.trained_on.items()}
    found = {}
    for dataset, source in sources.items():
        if flow.roles.get(dataset, "eval") != "eval" or dataset in flow.decontaminated:
            continue
        asked = {"dataset": dataset, "settings": settings}
        inputs = {**training, "evaluation": source}
        node = Node(f"{name}/overlap/{dataset}", "evaluate.overlap", OVERLAP_VERSION, asked, asked, inputs)
        found[f"overlap.{dataset}"] = Output(flow.add(node))
    return found


def _baselines(config: EvaluateConfig, name: str, datasets: list[str], flow: Flow) -> dict[str, Output]:
    """An n-gram model for each data set with training rows whose perplexity is measured."""
    if config.baseline is None or config.perplexity is None:
        return {}
    found = {}
    for dataset in datasets:
        if dataset in config.tasks or flow.roles[dataset] == "eval":
            continue
        asked = {"dataset": dataset, "max_rows": config.perplexity.max_rows, **config.baseline.model_dump(mode="json")}
        inputs = {"dataset": flow.datasets[dataset]}
        node = Node(f"{name}/baseline/{dataset}", "evaluate.baseline", BASELINE_VERSION, asked, asked, inputs)
        found[f"baseline.{dataset}"] = Output(flow.add(node))
    return found


def _compare(
    config: EvaluateConfig,
    name: str,
    pair: tuple[str, str],
    predictions: Predictions,
    beside: Mapping[str, Output],
    flow: Flow,
) -> None:
    """One comparison, and before it the verdicts of its judge."""
    base, tuned = pair
    asked = CompareConfig(
        datasets=list(predictions[tuned]),
        metrics={dataset: list(names) for dataset, names in config.metrics.items()},
        judge=config.judge,
        labels=config.labels,
        statistics=config.statistics,
        samples=config.samples,
    ).model_dump(mode="json")
    own = sorted({metric for names in config.metrics.values() for metric in names if ":" in metric})
    identity = {**asked, "custom": {metric: _source_sha256(name, metric) for metric in own}}
    if config.labels is not None:
        identity["labels"] = _file_sha256(f"stages.{name}.labels", Path(config.labels))
        asked["labels"] = str(Path(config.labels).expanduser().absolute())
    sides = {"base": predictions[base], "tuned": predictions[tuned]}
    inputs = {f"{side}.{dataset}": out for side, outs in sides.items() for dataset, out in outs.items()}
    judged = _judges(config, name, pair, predictions, flow)
    node = Node(
        name=f"{name}/{tuned}_vs_{base}",
        kind="evaluate.compare",
        version=COMPARE_VERSION,
        config=asked,
        identity=identity,
        inputs={**inputs, **beside, **judged},
    )
    flow.add(node)


def _judges(
    config: EvaluateConfig, name: str, pair: tuple[str, str], predictions: Predictions, flow: Flow
) -> dict[str, Output]:
    """A node per data set whose answers are judged."""
    if config.judge is None:
        return {}
    base, tuned = pair
    models = {**flow.models[base].as_inputs("base_"), **flow.models[tuned].as_inputs("tuned_")}
    location = str(flow.models["base"].weights.node.config.get("location", "scratch"))
    names = [] if location == "scratch" else [location]
    found = {}
    for dataset in predictions[tuned]:
        if dataset in config.tasks or flow.roles.get(dataset) is None:
            continue
        asked = JudgeNodeConfig(dataset=dataset, judge=config.judge, names=names, spread=config.spread)
        node = Node(
            name=f"{name}/judge/{tuned}_vs_{base}/{dataset}",
            kind="evaluate.judge",
            version=JUDGE_VERSION,
            config=asked.model_dump(mode="json"),
            identity={"dataset": dataset, **_judge_identity(config.judge)},
            inputs={**models, "base": predictions[base][dataset], "tuned": predictions[tuned][dataset]},
            ranks=config.judge.has_local and _on_ranks(config, flow),
        )
        found[f"judge.{dataset}"] = Output(flow.add(node))
    return found


def _judge_identity(judge: JudgeConfig) -> dict[str, Any]:
    """What verdicts depend on: not what only changes the speed, nor how they are summed up afterwards."""
    plain = judge.model_dump(mode="json", exclude={"judges", "vote", "weighted", "length_penalty"})
    told = []
    for one in judge.judges:
        settings = one.model_dump(mode="json", exclude=_JUDGE_SPEED)
        folder = Path(one.model).expanduser() if isinstance(one, LocalJudge) else None
        if folder is not None and folder.is_dir():
            files = sorted(file for file in folder.iterdir() if file.is_file())
            settings["files"] = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        told.append(settings)
    return {**plain, "judges": told}


def _source_sha256(stage: str, metric: str) -> str | None:
    """Hash of the file behind a metric of the user's own; None for a metric of the Hub."""
    from eval.custom_metrics import source_file

    try:
        file = source_file(metric)
    except DataError as error:
        raise ConfigError(f"stages.{stage}.metrics: {error}") from None
    return _file_sha256(f"stages.{stage}.metrics", file) if file else None


def _file_sha256(key: str, file: Path) -> str:
    try:
        return hashlib.sha256(file.expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{key}: {file} cannot be read ({error.strerror}); check the path") from None
