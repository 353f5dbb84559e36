"""Checkpoints that can be trusted: a checkpoint counts only when its `complete.json` matches its files.

Trainer writes a checkpoint file by file; a kill in between leaves a folder that looks whole. The mark is written last,
after every rank has written its part.
"""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.artifacts import file_sha256, read_json, write_json
from pipeline.training.supervision import rank_0_says

if TYPE_CHECKING:
    from accelerate import Accelerator

MARK = "complete.json"


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
    """Marks each checkpoint once all ranks have written their part; the stage itself saves the end."""

    def __init__(self, accelerator: "Accelerator"):
        self._accelerator = accelerator

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """No checkpoint of the last step: Trainer would train one step too many on a resume from it."""
        if state.global_step >= state.max_steps or control.should_training_stop:
            control.should_save = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called on every rank after Trainer wrote a checkpoint."""
        self._accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")


class CheckpointByTime(TrainerCallback):
    """Asks for a checkpoint when so many minutes have passed since the last one, by the clock of rank 0."""

    def __init__(self, accelerator: "Accelerator", minutes: float):
        self._accelerator, self._seconds = accelerator, 60 * minutes
        self._last = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """All ranks save at the same step, or they would wait for each other for ever."""
        if rank_0_says(self._accelerator, time.monotonic() - self._last >= self._seconds):
            control.should_save = True
            self._last = time.monotonic()


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
