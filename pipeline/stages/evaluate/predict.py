"""One model over one held-out data set: what it scores and what it writes, row by row."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track, about
from eval.benchmarks import predict_task
from eval.cost import with_cost
from eval.loading import load_model
from eval.predict import predict
from pipeline.stages.evaluate.config import PredictConfig
from pipeline.training.models import know_own_models, shape_of_model


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Predictions of the test rows. Batches finished before a kill are kept under `checkpoints/` and not made again."""
    asked = PredictConfig.model_validate(config)
    adapters = [path for label, path in inputs.items() if label.startswith("adapter_")]
    if (shape := shape_of_model(inputs["weights"])) != "decoder":
        raise DataError(
            f"model: is an {shape.replace('_', '–')}, and evaluation reads decoders; its pretrain stage measures its "
            "validation loss (stages.NAME.validate_every): remove the evaluate stage"
        )
    know_own_models(inputs["weights"])
    model, tokenizer = load_model(inputs["weights"], adapters, asked.dtype, asked.attention, asked.trust_remote_code)
    unfinished = out / "checkpoints"
    unfinished.mkdir(exist_ok=True)
    rows, name = inputs["dataset"], asked.dataset
    track = about(track, name)
    if asked.task is not None:
        metrics = predict_task(model, tokenizer, rows, name, unfinished, asked.task, track)
    else:
        scoring = asked.perplexity, asked.generation, asked.template
        metrics = predict(model, tokenizer, rows, name, unfinished, *scoring, track)
    for file in sorted(unfinished.iterdir()):
        shutil.copyfile(file, out / file.name)
    return with_cost(model, metrics)
