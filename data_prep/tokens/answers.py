"""Single answers that were judged good or bad (KTO) as tokens; a pair counts as two of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_prep.errors import DataError
from data_prep.rows import Row, shape_of
from data_prep.templates import BrokenRow
from data_prep.tokens.audit import Audit, find_problem
from data_prep.tokens.config import PreferenceConfig
from data_prep.tokens.masks import encode_batch
from data_prep.tokens.preference import SIDES, broken_message, check_judged, render_side
from data_prep.tokens.prepare import Columns, Form, refuse
from data_prep.tokens.template import Rendered, RowTemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def answers_of(row: Row) -> Iterator[Row]:
    """The judged answers of a row `{prompt, completion, label}`; of a pair the chosen one is good, the other bad."""
    if shape_of(row) == "preference":
        check_judged(row, SIDES)
        told = {name: row[name] for name in ("source", "tools") if name in row}
        for side in SIDES:
            answer = {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
            yield {**told, "id": f"{row['id']} {side}", **answer}
    elif shape_of(row) == "prompt_completion" and isinstance(row.get("label"), bool):
        check_judged(row, ("completion",))
        yield row
    else:
        raise DataError(
            f"row {row.get('id')}: is no judged answer (prompt, completion, label true or false) and no pair; use "
            "preference data, for instance data.NAME.format=kto, or a stage of kind sft"
        )


def _encode_answers(
    rows: list[Row], audit: Audit, tokenizer: "PreTrainedTokenizerBase", config: PreferenceConfig
) -> Columns:
    """The answers that can be trained on; the others are dropped or raise, as configured."""
    rendered = [each for row in rows for each in _render_answers(row, audit, tokenizer, config)]
    encodings = encode_batch(tokenizer, [text for _, text in rendered], config.max_length)
    columns: Columns = {name: [] for name in answer_features()}
    for (row, text), encoded in zip(rendered, encodings, strict=True):
        if problem := find_problem(row, encoded, config.max_length):
            refuse(row, *problem, audit, config)
            continue
        audit.add(row, text, encoded)
        values = {"input_ids": encoded.input_ids, "labels": encoded.labels, "label": row["label"], "id": row["id"]}
        for name, value in values.items():
            columns[name].append(value)
    return columns


def _render_answers(
    row: Row, audit: Audit, tokenizer: "PreTrainedTokenizerBase", config: PreferenceConfig
) -> list[tuple[Row, Rendered]]:
    """The answers of a row as text; none for a row that is dropped."""
    try:
        return [(answer, render_side(tokenizer, answer, "completion", config)) for answer in answers_of(row)]
    except BrokenRow as error:
        refuse(row, "broken_pair", broken_message(row, error), audit, config)
    except RowTemplateError as error:
        refuse(row, "template_error", str(error), audit, config)
    return []


def answer_features() -> Any:
    """The columns of a prepared answer: ids and labels, prompt included (-100: no loss), whether it is good, its id."""
    from datasets import Features, List, Value

    tokens = {name: List(Value("int32")) for name in ("input_ids", "labels")}
    return Features({**tokens, "label": Value("bool"), "id": Value("string")})


ANSWERS = Form(answer_features, _encode_answers)
"""Rows with one judged answer."""
