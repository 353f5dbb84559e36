"""Checkpoints that can be trusted: a checkpoint counts only when its `complete.json` matches its files.

Trainer writes a checkpoint file by file; a kill in between leaves a folder that looks whole. The mark is written last,
after every rank has written its part.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.artifacts import file_sha256, read_json, write_json
from pipeline.contract import identity_of
from pipeline.errors import StageFailed
from pipeline.training.config import TrainConfig
from pipeline.training.parallel import groups
from pipeline.training.supervision import rank_0_says

if TYPE_CHECKING:
    from accelerate import Accelerator

MARK, RECIPE = "complete.json", "recipe.json"
USUAL_STEPS, MOST_STALL = 50, 0.02
"""Steps between checkpoints, unless they would take more than this share of the time."""
LENGTH = ("max_steps", "epochs")
"""What may differ: a training can go on for longer."""


def latest_complete(folder: Path) -> Path | None:
    """The newest whole checkpoint of a folder; broken and half-written ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True)
    newest: Path | None = None
    for checkpoint in found:
        if newest is None and is_complete(checkpoint):
            newest = checkpoint
        elif newest is None:
            shutil.rmtree(checkpoint)
    return newest


def refuse_other_recipe(folder: Path, recipe: TrainConfig, resumed: bool) -> None:
    """Keep the settings beside the checkpoints; StageFailed with the differences when a resume has others.

    A run never meets such a checkpoint, as its folder is named by its settings; a copied or edited one may.
    """
    file, mine = folder / RECIPE, {**identity_of(recipe), "weights": _shape_of_weights()}
    mine = {name: value for name, value in mine.items() if name not in LENGTH}
    theirs = read_json(file) if resumed and file.exists() else mine
    changed = [f"{name} was {was}, is {now}" for name, was, now in _differences(theirs, mine)]
    if changed:
        raise StageFailed(
            f"the checkpoints in {folder} were made with other settings ({'; '.join(changed)}); set them back, or "
            "remove the folder to train anew"
        )
    if os.environ.get("RANK", "0") == "0":
        write_json(file, mine)


def _shape_of_weights() -> str:
    """Shards cannot be loaded into whole weights, nor those of one library by another."""
    for library in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{library}") == "true":
            return f"in shards of {library}"
    if (shared := groups()).tensor > 1:  # the optimizer's states are in parts
        return f"divided by {shared.tensor} ranks, {shared.batches} times"
    return "whole"


def _differences(was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, old and new value of what is not equal, sections field by field."""
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name}", before, after


def is_complete(checkpoint: Path) -> bool:
    """Whether the mark is there and every file is as it says."""
    try:
        files: dict[str, str] = read_json(checkpoint / MARK)
    except (OSError, ValueError):
        return False
    return all(
        (checkpoint / name).is_file() and file_sha256(checkpoint / name) == digest for name, digest in files.items()
    )


def mark_complete(checkpoint: Path) -> None:
    """Write the mark: name and hash of every file."""
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != MARK]
    write_json(checkpoint / MARK, {str(path.relative_to(checkpoint)): file_sha256(path) for path in files})


class MarkCheckpoints(TrainerCallback):
    """Marks each checkpoint once all ranks have written their part; the stage itself saves the end.

    `seconds` is how long the training stood still for its checkpoints, `last_seconds` for the last one.
    """

    def __init__(self, accelerator: "Accelerator"):
        self.accelerator = accelerator
        self._asked = 0.0
        self.seconds = self.last_seconds = 0.0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """No checkpoint of the last step: Trainer would train one step too many on a resume from it."""
        if state.global_step >= state.max_steps or control.should_training_stop:
            control.should_save = False
        self._asked = time.perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called on every rank after Trainer wrote a checkpoint."""
        self.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
        self.last_seconds = time.perf_counter() - self._asked
        self.seconds += self.last_seconds


class CheckpointByTime(TrainerCallback):
    """Asks for a checkpoint at a step, of every so many, when enough time has passed since the last, by rank 0's clock.

    `wait` says how many seconds are enough; it is asked anew each time.
    """

    def __init__(self, accelerator: "Accelerator", wait: Callable[[], float], every: int = 1):
        self._accelerator, self._wait, self._every = accelerator, wait, every
        self._last = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """All ranks save at the same step, or they would wait for each other for ever."""
        if state.global_step % self._every:
            return
        if rank_0_says(self._accelerator, time.monotonic() - self._last >= self._wait()):
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The next wait begins."""
        self._last = time.monotonic()


def cadence(recipe: TrainConfig, mark: MarkCheckpoints, is_in_parts: bool = False) -> list[TrainerCallback]:
    """Who asks for checkpoints, where transformers does not: the minutes, or what the last one cost."""
    if recipe.checkpoint_minutes is not None:
        minutes = recipe.checkpoint_minutes
        return [CheckpointByTime(mark.accelerator, lambda: 60 * minutes)]
    if recipe.checkpoint_every is not None and is_in_parts:
        return [CheckpointByTime(mark.accelerator, lambda: 0.0, every=recipe.checkpoint_every)]
    if recipe.checkpoint_every is None:
        return [CheckpointByTime(mark.accelerator, lambda: mark.last_seconds / MOST_STALL, every=USUAL_STEPS)]
    return []


def keep_number_formats(trainer: Any) -> None:
    """Let a resumed adapter stay in its number format.

    PEFT turns what it loads to float32, but TRL trains adapters on quantised weights in bfloat16: without this, a
    resumed QLoRA goes on with other numbers than an uninterrupted one.
    """
    load = trainer._load_from_checkpoint

    def load_and_keep(*args: Any, **more: Any) -> None:
        trained = {name: weight.dtype for name, weight in trainer.model.named_parameters() if weight.requires_grad}
        load(*args, **more)
        for name, weight in trainer.model.named_parameters():
            if name in trained:
                weight.data = weight.data.to(trained[name])

    trainer._load_from_checkpoint = load_and_keep
