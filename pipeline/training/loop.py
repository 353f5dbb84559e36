"""A training node from its rows to its weights, whatever trainer runs the steps."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from data_prep.errors import DataError
from data_prep.progress import Track
from pipeline.pruning import rule_of_this_process
from pipeline.training.config import TrainConfig, largest_divisor, sequences_of, split_batch
from pipeline.training.parallel import groups, is_in_parts

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback

    from pipeline.training.checkpoints import MarkCheckpoints


Sized = TypeVar("Sized", bound=TrainConfig)


@dataclass(frozen=True)
class Rows:
    """What is trained on, and what the validation loss is measured on, memory-mapped."""

    train: "Dataset"
    validation: "Dataset | None"
    mean_tokens: float
    """Tokens of a training row, padding not counted."""


def load_rows(folder: Path, recipe: TrainConfig) -> Rows:
    """The prepared rows; those of validation only when they are asked for, and without their names."""
    from datasets import load_from_disk

    from pipeline.training.batches import NAMES

    rows: Any = load_from_disk(str(folder / "train"))
    if len(rows) == 0:
        raise DataError("no training rows; check data.NAME.splits and the funnel of the filter stage")
    counted = json.loads((folder / "audit.json").read_text(encoding="utf-8"))["splits"]["train"]
    mean = counted["tokens"] / counted.get("packed_rows", counted["rows"])
    if recipe.validate_every is None:
        return Rows(rows, None, mean)
    if not (folder / "validation").exists():
        raise DataError("validate_every is set, but there are no validation rows; raise data.NAME.splits.validation")
    validation: Any = load_from_disk(str(folder / "validation"))
    validation = validation.remove_columns([name for name in NAMES if name in validation.column_names])
    return Rows(rows, validation.select(range(min(len(validation), recipe.validation_rows))), mean)


def steps_of(recipe: TrainConfig, rows: Rows) -> int:
    """Optimizer steps: as many as asked for, or as the epochs take."""
    return recipe.max_steps or max(1, math.ceil(len(rows.train) / recipe.batch_size * recipe.epochs))


def sized(recipe: Sized, rows: Rows) -> Sized:
    """The recipe with its batch in sequences, where it was asked for in tokens."""
    if recipe.batch_tokens is None:
        return recipe
    batch = sequences_of(recipe, rows.mean_tokens)
    share, _ = split_batch(batch, None, groups().batches)
    micro = None if recipe.micro_batch_size is None else largest_divisor(share, recipe.micro_batch_size)
    return recipe.model_copy(update={"batch_size": batch, "micro_batch_size": micro})


def train_to_end(
    recipe: TrainConfig,
    rows: Rows,
    inputs: Mapping[str, Path],
    out: Path,
    track: Track,
    make_trainer: Callable[[int, Path], "Trainer"],
    shifted: bool = True,
    callbacks: Sequence["TrainerCallback"] = (),
    watch: "Callable[..., TrainerCallback] | None" = None,
) -> dict[str, float]:
    """Train to the last step, from the newest whole checkpoint if there is one; leaves `adapter/` or `model/`.

    Also `steps.jsonl`, `validation.jsonl` by `watch` or the loss per token (`shifted`: the next). StageFailed at nan.
    """
    from transformers import set_seed

    from pipeline.training.batches import Batches
    from pipeline.training.checkpoints import MarkCheckpoints
    from pipeline.training.preflight import Preflight
    from pipeline.training.saving import save_trained
    from pipeline.training.step_log import StepLog

    steps = steps_of(recipe, rows)
    set_seed(recipe.seed)
    (checkpoints := out / "checkpoints").mkdir(exist_ok=True)
    resumed, first_step = _continued(checkpoints, recipe)
    trainer: Any = make_trainer(steps, checkpoints)
    _set_up(trainer, recipe, checkpoints, first_step)
    preflight, mark = Preflight(trainer, recipe, checkpoints), MarkCheckpoints(trainer.accelerator)
    log = StepLog(checkpoints, first_step, steps, track)
    measuring = _measuring(trainer, recipe, rows, checkpoints, watch, shifted)
    first = (*[preflight] * recipe.preflight, Batches(trainer), *callbacks, log, *measuring)
    for callback in (*first, *_saving(trainer, recipe, mark, out)):  # whoever decides on the end comes before who saves
        trainer.add_callback(callback)
    seconds = _timed(lambda: trainer.train(resume_from_checkpoint=resumed)) - preflight.seconds
    _return_to_best(trainer, recipe, checkpoints)
    save_trained(trainer, recipe, inputs, out)
    metrics = _metrics(trainer, checkpoints, first_step, rows.mean_tokens * recipe.batch_size, seconds)
    return metrics | preflight.metrics | {"checkpoint_seconds": mark.seconds}


def _set_up(trainer: Any, recipe: TrainConfig, checkpoints: Path, first_step: int) -> None:
    """The recipe's optimizer, resumed weights in their number format, logs that end where the training goes on."""
    from pipeline.training.checkpoints import keep_number_formats
    from pipeline.training.optimizer import follow_recipe
    from pipeline.training.parts import keep_checkpoints
    from pipeline.training.saving import save_first_adapter
    from pipeline.training.step_log import STEPS, VALIDATION, cut_back

    follow_recipe(trainer, recipe)
    keep_checkpoints(trainer, recipe)
    keep_number_formats(trainer)
    save_first_adapter(trainer, recipe, checkpoints)
    if trainer.is_world_process_zero():
        for name in (STEPS, VALIDATION):
            cut_back(checkpoints / name, first_step)
    trainer.accelerator.wait_for_everyone()


def _measuring(
    trainer: Any,
    recipe: TrainConfig,
    rows: Rows,
    checkpoints: Path,
    watch: "Callable[..., TrainerCallback] | None",
    shifted: bool,
) -> list["TrainerCallback"]:
    """Who measures between steps, and decides on the end."""
    from pipeline.training.pruning import PruneByMedian
    from pipeline.training.validation import ValidationLoss

    if rows.validation is None or recipe.validate_every is None:
        return []
    every, measure = recipe.validate_every, watch or partial(ValidationLoss, shifted=shifted)
    measuring: list[Any] = [measure(trainer, rows.validation, every, checkpoints, patience=recipe.early_stopping)]
    if (rule := rule_of_this_process()) is not None:
        stage = yaml.safe_load((checkpoints.parent / "stage.yaml").read_text(encoding="utf-8"))["name"]
        measuring.append(PruneByMedian(trainer.accelerator, rule, stage, every, checkpoints))
    return measuring


def _saving(trainer: Any, recipe: TrainConfig, mark: "MarkCheckpoints", out: Path) -> list["TrainerCallback"]:
    """Who asks for checkpoints, marks them, tells trackers, and ends the training behind a mark, in this order."""
    from pipeline.training.checkpoints import cadence
    from pipeline.training.supervision import Supervised
    from pipeline.training.trackers import trackers

    return [*cadence(recipe, mark, is_in_parts(trainer)), mark, *trackers(out), Supervised(trainer, out / "logs")]


def _return_to_best(trainer: Any, recipe: TrainConfig, checkpoints: Path) -> None:
    """With early stopping: the weights of the lowest validation loss."""
    from pipeline.training.validation import BEST, return_to_best

    if recipe.early_stopping is not None and (checkpoints / BEST).exists():
        return_to_best(trainer, checkpoints / BEST)


def _timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _continued(checkpoints: Path, recipe: TrainConfig) -> tuple[str | None, int]:
    """The newest whole checkpoint and its step; None and 0 when there is none. StageFailed at one of other settings."""
    from pipeline.training.checkpoints import latest_complete, refuse_other_recipe

    newest = latest_complete(checkpoints)
    refuse_other_recipe(checkpoints, recipe, newest is not None)
    return (str(newest), int(newest.name.rsplit("-", 1)[1])) if newest else (None, 0)


def _metrics(
    trainer: Any, checkpoints: Path, first_step: int, tokens_per_step: float, seconds: float
) -> dict[str, float]:
    """Losses, and the speed of the steps that this process made (padding not counted)."""
    from pipeline.training.step_log import STEPS, read_log

    log = read_log(checkpoints / STEPS)
    tokens = tokens_per_step * (len(log) - first_step)
    trainable = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    return {
        "first_loss": log[0]["loss"],
        "last_loss": log[-1]["loss"],
        "steps": float(len(log)),
        "trainable_parameters": float(trainable),
        "tokens": round(tokens),
        "tokens_per_second": tokens / seconds if seconds else 0.0,
        "train_seconds": seconds,
    }
