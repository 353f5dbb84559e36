"""Supervised fine-tuning through TRL's SFTTrainer, on rows that are tokenised and masked already."""

import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import DataError
from data_prep.progress import Track
from pipeline.errors import StageFailed
from pipeline.training.config import LoraAdapter, TrainConfig, split_batch

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Train to `max_steps`, from the newest whole checkpoint if there is one; leaves `adapter/` or `model/`.

    Also `steps.jsonl` (loss, learning rate, gradient norm of every step) and `validation.jsonl`.
    Raises StageFailed when the loss is no number, DataError when there is nothing to train on.
    """
    from transformers import set_seed

    from pipeline.training.checkpoints import MarkCheckpoints, latest_complete
    from pipeline.training.step_log import STEPS, VALIDATION, StepLog, cut_back, read_log
    from pipeline.training.validation import ValidationLoss

    recipe = TrainConfig.model_validate(config)
    rows, validation = _rows(inputs["rows"], recipe)
    steps = recipe.max_steps or max(1, math.ceil(len(rows) / recipe.batch_size * recipe.epochs))
    set_seed(recipe.seed)
    checkpoints = out / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    resumed = latest_complete(checkpoints)
    first_step = int(resumed.name.rsplit("-", 1)[1]) if resumed else 0
    trainer = _trainer(recipe, inputs, rows, steps, checkpoints)
    if trainer.is_world_process_zero():
        for name in (STEPS, VALIDATION):
            cut_back(checkpoints / name, first_step)
    trainer.add_callback(StepLog(checkpoints, first_step, steps, track))
    if validation is not None and recipe.validate_every is not None:
        trainer.add_callback(ValidationLoss(trainer, validation, recipe.validate_every, checkpoints))
    trainer.add_callback(MarkCheckpoints(trainer.accelerator))
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    seconds = time.perf_counter() - started
    _save(trainer, recipe, inputs, out)
    if trainer.is_world_process_zero():
        for name in (STEPS, VALIDATION):
            shutil.copyfile(checkpoints / name, out / name)
    return _metrics(trainer, read_log(checkpoints / STEPS), rows, recipe, steps - first_step, seconds)


def _rows(folder: Path, recipe: TrainConfig) -> "tuple[Dataset, Dataset | None]":
    """The prepared rows, memory-mapped; validation rows only when they are asked for."""
    from datasets import load_from_disk

    rows = load_from_disk(str(folder / "train")).remove_columns("id")
    if len(rows) == 0:
        raise DataError("no training rows; check data.NAME.splits and the funnel of the filter stage")
    if recipe.validate_every is None:
        return rows, None  # pyright: ignore[reportReturnType]
    if not (folder / "validation").exists():
        raise DataError("validate_every is set, but there are no validation rows; raise data.NAME.splits.validation")
    validation = load_from_disk(str(folder / "validation")).remove_columns("id")
    return rows, validation.select(range(min(len(validation), recipe.validation_rows)))  # pyright: ignore


def _trainer(
    recipe: TrainConfig,
    inputs: Mapping[str, Path],
    rows: "Dataset",
    steps: int,
    checkpoints: Path,
) -> "SFTTrainer":
    """TRL's trainer over our rows: it neither tokenises nor truncates nor masks."""
    from transformers import AutoTokenizer
    from trl import SFTTrainer

    from pipeline.training.models import load_start, lora_config

    tokenizer = AutoTokenizer.from_pretrained(inputs["weights"], trust_remote_code=recipe.trust_remote_code)
    model = load_start(recipe, inputs)
    adapter = lora_config(recipe.adapter, model) if isinstance(recipe.adapter, LoraAdapter) else None
    trainer = SFTTrainer(
        model=model,
        args=_arguments(recipe, steps, checkpoints),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapter,
    )
    if trainer.accelerator.num_processes != _world_size():  # ranks that train alone would each see half of a batch
        joined = trainer.accelerator.num_processes
        raise StageFailed(f"{_world_size()} ranks were started, but {joined} joined; check the launch settings")
    return trainer


def _arguments(recipe: TrainConfig, steps: int, checkpoints: Path) -> "SFTConfig":
    """The recipe in TRL's words. Batch sizes are global here: what a device takes is derived."""
    import torch
    from trl import SFTConfig

    per_device, accumulation = split_batch(recipe.batch_size, recipe.micro_batch_size, _world_size())
    autocast = recipe.adapter.kind == "none"
    on_cpu = not torch.accelerator.is_available()
    return SFTConfig(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=per_device,
        per_device_eval_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=autocast and recipe.dtype == "bfloat16",
        fp16=autocast and recipe.dtype == "float16",
        activation_checkpointing=recipe.activation_checkpointing,
        seed=recipe.seed,
        data_seed=recipe.seed,
        eval_strategy="no",
        save_strategy="steps",
        save_steps=recipe.checkpoint_every,
        save_total_limit=2,
        logging_steps=1,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _save(trainer: "SFTTrainer", recipe: TrainConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """The trained part as safetensors, with the tokenizer: `adapter/`, or the whole `model/`."""
    if not trainer.is_world_process_zero():
        return
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    folder = out / ("model" if recipe.adapter.kind == "none" else "adapter")
    model.save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)  # pyright: ignore
    if recipe.adapter.kind != "none":
        _make_repeatable(folder, inputs["weights"])


def _make_repeatable(folder: Path, weights: Path) -> None:
    """PEFT writes this machine's path of the base model, and sets in any order; the same run gives the same bytes."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = f"model/{weights.parent.name}"
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    (folder / "README.md").unlink(missing_ok=True)  # a template of a card that says nothing
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _metrics(
    trainer: "SFTTrainer", log: list[dict[str, float]], rows: "Dataset", recipe: TrainConfig, steps: int, seconds: float
) -> dict[str, float]:
    """Losses, and the speed of the steps that this process made (padding not counted)."""
    trainable = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)  # pyright: ignore
    mean_length = sum(len(ids) for ids in rows["input_ids"]) / len(rows)
    tokens = mean_length * recipe.batch_size * steps
    return {
        "first_loss": log[0]["loss"],
        "last_loss": log[-1]["loss"],
        "steps": float(len(log)),
        "trainable_parameters": float(trainable),
        "tokens": round(tokens),
        "tokens_per_second": tokens / seconds if seconds else 0.0,
        "train_seconds": seconds,
    }
