"""One model over one held-out data set: what it scores and what it writes, row by row."""

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.engines.config import RayEngine
from data_prep.errors import DataError
from data_prep.progress import Track, about, silent
from eval.benchmarks import predict_task
from eval.cost import with_cost
from eval.loading import load_model
from eval.predict import predict
from eval.shares import Share, taking, with_shares
from pipeline.stages.evaluate.config import PredictConfig
from pipeline.stages.evaluate.spread import gathered, over_ray, share_of_rank
from pipeline.training.models import know_own_models, shape_of_model

Loaded = tuple[Any, Any]


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Predictions of the test rows. Rows finished before a kill are kept under `checkpoints/` and not made again.

    On several ranks each computes its share, and the first one merges; so does this process what a Ray cluster made.
    """
    asked = PredictConfig.model_validate(config)
    unfinished, shares = out / "checkpoints", list[dict[str, float]]()
    unfinished.mkdir(exist_ok=True)
    if isinstance(asked.spread, RayEngine):
        shares = over_ray(asked.spread, "evaluate.predict", config, inputs, unfinished, track)
    mine = share_of_rank()
    loaded = _load(asked, inputs)
    if mine is not None:
        with taking(mine):
            shares = gathered(
                _predict(loaded, asked, inputs, unfinished, track if mine.index == 0 else silent), unfinished
            )
        if mine.index:
            return {}
    metrics = with_shares(_predict(loaded, asked, inputs, unfinished, track), shares)
    for file in sorted(path for path in unfinished.iterdir() if path.is_file()):
        shutil.copyfile(file, out / file.name)
    return with_cost(loaded[0], metrics)


def run_share(
    config: Mapping[str, Any], inputs: Mapping[str, Path], unfinished: Path, share: Share
) -> dict[str, float]:
    """One share, on a node of a cluster: seconds by measure."""
    asked = PredictConfig.model_validate(config)
    with taking(share):
        return _predict(_kept(asked.model_dump_json(), tuple(inputs.items())), asked, inputs, unfinished, silent)


@functools.lru_cache(maxsize=1)
def _kept(config: str, inputs: tuple[tuple[str, Path], ...]) -> Loaded:
    """The model of the last share: a worker of a cluster takes several."""
    return _load(PredictConfig.model_validate_json(config), dict(inputs))


def _load(asked: PredictConfig, inputs: Mapping[str, Path]) -> Loaded:
    adapters = [path for label, path in inputs.items() if label.startswith("adapter_")]
    if (shape := shape_of_model(inputs["weights"])) != "decoder":
        raise DataError(
            f"model: is an {shape.replace('_', '–')}, and evaluation reads decoders; its pretrain stage measures its "
            "validation loss (stages.NAME.validate_every): remove the evaluate stage"
        )
    know_own_models(inputs["weights"])
    return load_model(inputs["weights"], adapters, asked.dtype, asked.attention, asked.trust_remote_code)


def _predict(
    loaded: Loaded, asked: PredictConfig, inputs: Mapping[str, Path], unfinished: Path, track: Track
) -> dict[str, float]:
    model, tokenizer = loaded
    rows, name = inputs["dataset"], asked.dataset
    track = about(track, name)
    if asked.task is not None:
        return predict_task(model, tokenizer, rows, name, unfinished, asked.task, track)
    scoring = asked.perplexity, asked.generation, asked.template
    return predict(model, tokenizer, rows, name, unfinished, *scoring, track)
