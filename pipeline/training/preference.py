"""What the stages that learn from judged answers share: from the prepared rows to the trained weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import DataError
from data_prep.progress import Track
from pipeline.training.preference_config import PreferenceTrainConfig

if TYPE_CHECKING:
    from transformers import Trainer

    from pipeline.training.loop import Rows


def load_judged(inputs: Mapping[str, Path], recipe: PreferenceTrainConfig) -> "Rows":
    """The prepared rows, with their reference's log-probabilities beside them where there are any."""
    from datasets import concatenate_datasets, load_from_disk

    from pipeline.training.loop import load_rows

    rows = load_rows(inputs["rows"], recipe)
    if len(rows.train) < recipe.batch_size:
        raise DataError(
            f"{len(rows.train)} training rows do not fill one batch of {recipe.batch_size}; lower batch_size, or "
            "check data.NAME.splits and the funnel of the filter stage"
        )
    if "reference" not in inputs:
        return rows

    def beside(part: Any, split: str) -> Any:
        known: Any = load_from_disk(str(inputs["reference"] / split))
        return concatenate_datasets([part, known.select(range(len(part)))], axis=1)

    validation = None if rows.validation is None else beside(rows.validation, "validation")
    return replace(rows, train=beside(rows.train, "train"), validation=validation)


def starting_policy(
    recipe: PreferenceTrainConfig, inputs: Mapping[str, Path], adapter: bool = True
) -> tuple[Any, Any, Any]:
    """Tokenizer, the policy that the stage starts from, and PEFT's configuration of the adapter that it trains.

    Without the adapter the policy is the reference. Quantised weights keep it, because no trainer takes them bare; TRL
    switches it off while it scores.
    """
    from pipeline.training.adapters import adapter_config
    from pipeline.training.models import load_start, load_tokenizer

    tokenizer = load_tokenizer(inputs["weights"], recipe.trust_remote_code)
    model = load_start(recipe, inputs)
    wanted = adapter or getattr(model, "is_quantized", False)
    return tokenizer, model, adapter_config(recipe, model, inputs["weights"]) if wanted else None


def preference_arguments(recipe: PreferenceTrainConfig, steps: int, checkpoints: Path) -> dict[str, Any]:
    """What TRL's preference trainers are given.

    A batch at the end of a pass that is not full is left out: losses are means over the rows of a device, so that its
    rows would count more than others, and differently on two ranks than on one.
    """
    from pipeline.training.arguments import training_arguments

    return {
        **training_arguments(recipe, steps, checkpoints),
        "dataloader_drop_last": True,
        "disable_dropout": not recipe.dropout,
        "remove_unused_columns": False,
    }


def train_preference(
    recipe: PreferenceTrainConfig,
    rows: "Rows",
    inputs: Mapping[str, Path],
    out: Path,
    track: Track,
    make_trainer: Callable[[int, Path], "Trainer"],
) -> dict[str, float]:
    """`train_to_end`, with the rewards of the last step and of the last validation among the metrics."""
    from pipeline.training.arguments import refuse_lonely_ranks
    from pipeline.training.loop import train_to_end
    from pipeline.training.preference_validation import PreferenceValidation
    from pipeline.training.step_log import STEPS, VALIDATION, read_log

    def checked(steps: int, checkpoints: Path) -> "Trainer":
        trainer = make_trainer(steps, checkpoints)
        refuse_lonely_ranks(trainer.accelerator)
        return trainer

    metrics = train_to_end(recipe, rows, inputs, out, track, checked, watch=PreferenceValidation)
    for prefix, file in (("last", STEPS), ("validation", VALIDATION)):
        last = (read_log(out / "checkpoints" / file) or [{}])[-1]
        told = {"accuracy": last.get("rewards/accuracies"), "margin": last.get("rewards/margins")}
        told |= {"loss": last.get("loss")} if prefix == "validation" else {}
        metrics |= {f"{prefix}_{name}": value for name, value in told.items() if value is not None}
    return metrics
