"""The registry: which `kind` is configured by which class, and which module runs a node of a kind.

To add a stage: a folder here with `config.py` (pydantic only, imports in milliseconds) and the module that runs it,
then one line in each table.
"""

from pipeline.contract import StageConfig
from pipeline.stages.dpo.config import DpoConfig
from pipeline.stages.evaluate.config import EvaluateConfig
from pipeline.stages.export.config import ExportConfig
from pipeline.stages.filter.config import FilterConfig
from pipeline.stages.merge.config import MergeConfig
from pipeline.stages.mix.config import MixConfig
from pipeline.stages.pretrain.config import PretrainConfig
from pipeline.stages.sft.config import SftConfig
from pipeline.stages.tokenizer.config import TokenizerConfig

STAGES: dict[str, type[StageConfig]] = {
    "filter": FilterConfig,
    "mix": MixConfig,
    "tokenizer": TokenizerConfig,
    "pretrain": PretrainConfig,
    "sft": SftConfig,
    "dpo": DpoConfig,
    "merge": MergeConfig,
    "export": ExportConfig,
    "evaluate": EvaluateConfig,
}

RUNNERS: dict[str, str] = {
    "model": "pipeline.stages.model.run",
    "model.start": "pipeline.stages.model.start",
    "data": "pipeline.stages.data.run",
    "filter.measure": "pipeline.stages.filter.measure",
    "filter": "pipeline.stages.filter.run",
    "mix": "pipeline.stages.mix.run",
    "tokenizer": "pipeline.stages.tokenizer.run",
    "tokenizer.extend": "pipeline.stages.tokenizer.extend",
    "pretrain.prepare": "pipeline.stages.pretrain.prepare",
    "pretrain.train": "pipeline.stages.pretrain.train",
    "sft.prepare": "pipeline.stages.sft.prepare",
    "sft.train": "pipeline.stages.sft.train",
    "dpo.prepare": "pipeline.stages.dpo.prepare",
    "dpo.reference": "pipeline.stages.dpo.reference",
    "dpo.train": "pipeline.stages.dpo.train",
    "merge": "pipeline.stages.merge.run",
    "export": "pipeline.stages.export.run",
    "evaluate.predict": "pipeline.stages.evaluate.predict",
    "evaluate.general": "pipeline.stages.evaluate.general",
    "evaluate.baseline": "pipeline.stages.evaluate.baseline",
    "evaluate.judge": "pipeline.stages.evaluate.judge",
    "evaluate.overlap": "pipeline.stages.evaluate.overlap",
    "evaluate.compare": "pipeline.stages.evaluate.compare",
}
"""Node kind → the module whose `run(config, inputs, out, track)` makes the artifact."""
