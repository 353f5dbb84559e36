"""Run one model over a data set that is measured in its own way: multiple choice, cloze words, label words, fairness.

A data set is one like any other: rows with an id, whose benchmark columns were carried along (`keep`) in `meta`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import Row, read_rows
from eval.choice.cloze import cloze_items_of, score_cloze
from eval.choice.encode import scoring_policy
from eval.choice.items import ChoiceItem, items_of, label_items
from eval.choice.score import Rows, choice_policy, score_choice
from eval.config import (
    BbqTask,
    ChoiceTask,
    ClassificationTask,
    ClozeTask,
    GroupsTask,
    PairTask,
    ReasoningTask,
    TaskConfig,
)
from eval.fairness.bbq import bbq_items_of, score_bbq
from eval.fairness.groups import score_winogender
from eval.fairness.likelihoods import score_pairs
from eval.fairness.pairs import pairs_of
from eval.loading import model_key
from eval.predict import finish
from eval.predictions import Measure, key_of
from eval.reasoning.prompts import with_numbers
from eval.reasoning.score import reasoning_policy, score_reasoning
from eval.samples import template_sha256

_SHOT_POOLS = ("train", "validation")


class _Asked(NamedTuple):
    """What a model is asked: rows as the benchmark's own columns, solved examples, and rows that could not be used."""

    model: Any
    tokenizer: Any
    rows: list[dict[str, Any]]
    pool: list[dict[str, Any]]
    broken: list[str]


def predict_task(
    model: Any, tokenizer: Any, folder: Path, dataset: str, out: Path, task: TaskConfig, track: Track = silent
) -> dict[str, float]:
    """Measure the test rows of a dataset folder by `task`; `eval.predictions` says what `out` then holds.

    Solved examples (`shots`) come from the train split, else from validation, else from the other test rows. Rows that
    are no item of the task are left out, counted in `<kind>_left_out` and told of in the policy. A second call with the
    same model, rows and settings reads what is there, and a killed one goes on. Returns what `predict` returns. Raises
    DataError without test rows, and where no row is an item of the task.
    """
    rows = [columns_of(row) for row in read_rows(folder, "test")]
    if not rows:
        raise DataError(f"{dataset}: no test rows in {folder}; raise data.{dataset}.splits.test or give it role: eval")
    pool = next((found for split in _SHOT_POOLS if (found := read_rows(folder, split))), [])
    asked = _Asked(model, tokenizer, rows, [columns_of(row) for row in pool], [])
    measure = measure_of(task)
    settings = task.model_dump(mode="json", exclude={"batch_size"})
    key = key_of(model_key(model, tokenizer), settings, rows, asked.pool)
    notes: dict[str, Any] = {}

    def compute(partial: Path) -> Rows:
        found = _scored(asked, dataset, task, track, partial)
        notes.update(_policy(asked, task))
        return found

    numbers = finish(out, dataset, measure, key, compute, notes)
    return {**numbers, f"{measure}_left_out": len(asked.broken)} if asked.broken else numbers


def measure_of(task: TaskConfig) -> Measure:
    """The predictions file that a task writes."""
    return "choice" if task.kind == "classification" else task.kind


def columns_of(row: Row) -> dict[str, Any]:
    """A canonical row with the columns that it carries along beside its own; `prompt` and `completion` are also known
    as `context` and `continuation`."""
    own = {name: value for name, value in row.items() if name not in ("meta", "source")}
    if "prompt" in own and "completion" in own:
        own |= {"context": own["prompt"], "continuation": own["completion"]}
    return {**own, **row.get("meta", {}), "id": row["id"]}


def _scored(asked: _Asked, dataset: str, task: TaskConfig, track: Track, partial: Path) -> Rows:
    """The rows of one task; errors of single rows name the data set."""
    model, tokenizer = asked.model, asked.tokenizer
    try:
        match task:
            case ClozeTask():
                return score_cloze(model, tokenizer, cloze_items_of(asked.rows), task, track, partial)
            case PairTask():
                return score_pairs(model, tokenizer, pairs_of(asked.rows), task, track, partial)
            case BbqTask():
                return score_bbq(model, tokenizer, bbq_items_of(asked.rows), task, track, partial)
            case GroupsTask():
                return score_winogender(model, tokenizer, items_of(asked.rows, asked.broken), task, track, partial)
            case ReasoningTask():
                problems = with_numbers(asked.rows, asked.broken)
                return score_reasoning(model, tokenizer, problems, task, asked.pool, partial, track)
            case ChoiceTask() | ClassificationTask():
                items, pool = _items(asked.rows, task, asked.broken), _items(asked.pool, task, [])
                return score_choice(model, tokenizer, items, task, track, pool or None, partial)
    except DataError as error:
        raise DataError(f"{dataset}: {error}") from error


def _items(
    rows: Sequence[Mapping[str, Any]], task: ChoiceTask | ClassificationTask, broken: list[str]
) -> list[ChoiceItem]:
    if not rows:
        return []
    return label_items(rows, task.words) if isinstance(task, ClassificationTask) else items_of(rows, broken)


def _policy(asked: _Asked, task: TaskConfig) -> dict[str, Any]:
    """How the task was measured, for the report; equal for models that are compared."""
    if isinstance(task, ClozeTask | PairTask):
        told: dict[str, Any] = {"how": scoring_policy(asked.model, asked.tokenizer, task)}
        told |= {"normalise": task.normalise} if isinstance(task, PairTask) else {"delimiter": task.delimiter}
    elif isinstance(task, ReasoningTask):
        told = reasoning_policy(asked.model, asked.tokenizer, task)
    else:
        told = choice_policy(asked.model, asked.tokenizer, task)
    if asked.broken:
        told |= {"left_out": len(asked.broken), "left_out_example": asked.broken[0]}
    notes: dict[str, Any] = {measure_of(task): told}
    if told.get("template") == "chat":
        notes["template_sha256"] = template_sha256(asked.tokenizer, "chat")
    return notes
