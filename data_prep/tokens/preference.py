"""Judged answers as tokens: pairs of a chosen and a rejected one, and single ones with a label.

Each side is rendered, masked and verified as a row of supervised fine-tuning is; only the answer after the prompt
carries loss, however many turns of an assistant the prompt holds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_prep.chats import ROLES, check_answers, check_prompt
from data_prep.errors import DataError
from data_prep.rows import Row, shape_of, text_of
from data_prep.templates import BrokenRow
from data_prep.tokens.audit import Audit, find_problem
from data_prep.tokens.config import PreferenceConfig
from data_prep.tokens.masks import Encoded, encode_batch
from data_prep.tokens.prepare import Columns, Form, refuse
from data_prep.tokens.template import Rendered, RowTemplateError, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDES = ("chosen", "rejected")

Side = tuple[Rendered, Encoded]


def side_row(row: Row, side: str) -> Row:
    """A prompt with one of its answers (`chosen`, `rejected` or `completion`) as a row of its own."""
    prompt, answer = row["prompt"], row[side]
    told = {name: row[name] for name in ("id", "source", "tools") if name in row}
    if isinstance(prompt, str):
        return {**told, "prompt": prompt, "completion": answer}
    return {**told, "messages": [*prompt, *answer]}


def check_judged(row: Row, sides: Sequence[str]) -> None:
    """BrokenRow unless a row has a prompt and different answers that can be learned from."""
    if any(side not in row for side in ("prompt", *sides)):
        raise BrokenRow(f"has no {' and '.join(side for side in ('prompt', *sides) if side not in row)}")
    for side in sides:
        if not text_of(row[side]).strip() and not _calls(row[side]):
            raise BrokenRow(f"{side} is empty")
    if isinstance(row["prompt"], list):
        for side in ("prompt", *sides):
            _check_roles(row[side], side)
        check_prompt(row["prompt"], "prompt")
        for side in sides:
            check_answers(row[side], side)
    if len(sides) == 2 and row[sides[0]] == row[sides[1]]:
        raise BrokenRow(f"{' and '.join(sides)} are equal, so there is nothing to prefer")


def _calls(answer: Any) -> bool:
    return isinstance(answer, list) and any(turn.get("tool_calls") for turn in answer)


def _check_roles(turns: Any, name: str) -> None:
    for index, turn in enumerate(turns):
        if turn.get("role") not in ROLES:
            raise BrokenRow(f"{name}[{index}].role is {turn.get('role')!r}, not one of {', '.join(ROLES)}")


def render_side(tokenizer: "PreTrainedTokenizerBase", row: Row, side: str, config: PreferenceConfig) -> Rendered:
    """The text of a prompt with one answer, of which only the answer is supervised."""
    answer = row[side]
    turns = 1 if isinstance(answer, str) else sum(turn["role"] == "assistant" for turn in answer)
    loss_on = "completion" if turns == 1 else "assistant"
    rendered = render(tokenizer, side_row(row, side), config.template, loss_on, config.separator)
    return Rendered(rendered.text, rendered.supervised[-turns:])


class PairAudit(Audit):
    """Counts over pairs: tokens of both sides, the length of the longer one."""

    def add_pair(self, row: Row, sides: dict[str, Side]) -> None:
        """Count a pair that is kept; both sides of the first ones go into the preview."""
        encoded = [each for _, each in sides.values()]
        counts = {
            "rows": 1,
            "tokens": sum(len(each.input_ids) for each in encoded),
            "supervised_tokens": sum(each.supervised for each in encoded),
            "truncated_rows": int(any(each.truncated_tokens for each in encoded)),
            "truncated_tokens": sum(each.truncated_tokens for each in encoded),
            "truncated_supervised_tokens": sum(each.truncated_supervised for each in encoded),
            "straddling_tokens": sum(each.straddling for each in encoded),
        }
        self._total.update(counts)
        self._of_source(row).update(counts)
        self._shapes[shape_of(row)] += 1
        self._lengths.append(max(each.tokens for each in encoded))
        if len(self._preview) < 2 * self._config.preview_rows:
            for name, side in sides.items():
                shown = self._shown(row, *side)
                self._preview.append({**shown, "id": f"{shown['id']} {name}", "side": name})


def _encode_pairs(
    rows: list[Row], audit: PairAudit, tokenizer: "PreTrainedTokenizerBase", config: PreferenceConfig
) -> Columns:
    """The pairs that can be trained on; the others are dropped or raise, as configured."""
    rendered = [(row, pair) for row in rows if (pair := _render_pair(row, audit, tokenizer, config))]
    flat = encode_batch(tokenizer, [text for _, pair in rendered for text in pair], config.max_length)
    columns: Columns = {name: [] for name in pair_features()}
    for place, (row, texts) in enumerate(rendered):
        encoded = flat[2 * place : 2 * place + 2]
        if problem := _pair_problem(row, encoded, config):
            refuse(row, *problem, audit, config)
            continue
        audit.add_pair(row, dict(zip(SIDES, zip(texts, encoded, strict=True), strict=True)))
        columns["id"].append(row["id"])
        for side, each in zip(SIDES, encoded, strict=True):
            columns[f"{side}_input_ids"].append(each.input_ids)
            columns[f"{side}_labels"].append(each.labels)
    return columns


def _render_pair(
    row: Row, audit: Audit, tokenizer: "PreTrainedTokenizerBase", config: PreferenceConfig
) -> list[Rendered] | None:
    """Both sides as text; None for a row that is dropped."""
    if shape_of(row) != "preference":
        raise DataError(
            f"row {row.get('id')}: is no preference row (prompt, chosen, rejected); use preference data, for instance "
            "data.NAME.format=preference, hh_rlhf or choice_preference, or a stage of kind sft"
        )
    try:
        check_judged(row, SIDES)
        pair = [render_side(tokenizer, row, side, config) for side in SIDES]
    except BrokenRow as error:
        refuse(row, "broken_pair", _broken(row, error), audit, config)
    except RowTemplateError as error:
        refuse(row, "template_error", str(error), audit, config)
    else:
        starts = [text.text[: text.supervised[0][0]] for text in pair]
        if starts[0] == starts[1]:
            return pair
        message = (
            f"row {row['id']}: the chat template writes another prompt before the chosen than before the rejected "
            "answer; choose another chat template or set stages.sft.on_template_error=drop"
        )
        refuse(row, "template_error", message, audit, config)
    return None


def _broken(row: Row, error: object) -> str:
    return f"row {row.get('id')}: {error}; correct the row or set stages.sft.on_broken_pair=drop"


def _pair_problem(row: Row, encoded: list[Encoded], config: PreferenceConfig) -> Any:
    """Why a pair cannot be trained on once it is tokens, with the error line; None when it can."""
    for side in encoded:
        if problem := find_problem(row, side, config.max_length):
            return problem
    if encoded[0].input_ids != encoded[1].input_ids:
        return None
    if any(side.truncated_tokens for side in encoded):
        return "broken_pair", (
            f"row {row['id']}: chosen and rejected differ only after the first {config.max_length} tokens; raise "
            "stages.sft.max_length or set stages.sft.on_broken_pair=drop"
        )
    return "broken_pair", _broken(row, "chosen and rejected are the same tokens, so there is nothing to prefer")


def pair_features() -> Any:
    """The columns of a prepared pair: ids and labels of each side, prompt included (-100: no loss), and its id."""
    from datasets import Features, List, Value

    tokens = {f"{side}_{part}": List(Value("int32")) for side in SIDES for part in ("input_ids", "labels")}
    return Features({**tokens, "id": Value("string")})


PAIRS = Form(pair_features, _encode_pairs, PairAudit)
"""Rows with a chosen and a rejected answer."""
