"""From a file's columns to canonical rows: one adapter per known format, found by the names of the columns.

Formats: `text`; `labelled`; `prompt_completion` (TRL; a prompt may be a list of messages); `messages` (OpenAI);
`sharegpt` and `alpaca` (as LLaMA-Factory reads them); `document_summary` (XSum, CNN/DailyMail); `preference`,
`hh_rlhf`, `alpaca_preference`, `sharegpt_preference`, `kto` (see preferences.py); `choice_preference` (see choices.py).
"""

import datetime
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.chats import check_chat, turns_of
from data_prep.choices import VARIANTS, adapt_choices
from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.fields import Source, answer_turn, optional_text, system_turn, text_field, tools_field, user_turn
from data_prep.preferences import (
    adapt_alpaca_preference,
    adapt_hh_rlhf,
    adapt_kto,
    adapt_preference,
    adapt_sharegpt_preference,
    alpaca_prompt,
)
from data_prep.rows import Row
from data_prep.templates import BrokenRow, PromptTemplate, parse_template, type_name

SUMMARY_PROMPT = "Summarise the text below in one sentence.\n\n{document}"

Adapt = Callable[[Source, PromptTemplate | None], Row | list[Row]]


@dataclass(frozen=True)
class Format:
    """A known format: its columns, how a row becomes canonical, and the column that a prompt template stands in for."""

    name: str
    required: tuple[str, ...]
    adapt: Adapt
    optional: tuple[str, ...] = ()
    templated: str | None = None
    variants: tuple[tuple[str, ...], ...] = ()

    @property
    def readable(self) -> tuple[str, ...]:
        """Every column that the format can read."""
        return tuple(
            dict.fromkeys([*self.required, *(name for names in self.variants for name in names), *self.optional])
        )

    def missing(self, present: Collection[str], has_template: bool) -> list[str]:
        """The columns a file lacks for this format, for the variant that it fits best; [] when it fits."""
        stood_in = {self.templated} if has_template else set[str | None]()
        lacks = [sorted(set(names) - stood_in - set(present)) for names in (self.required, *self.variants)]
        return min(lacks, key=len)


@dataclass(frozen=True)
class Adapter:
    """A format chosen for one data set: turns file rows into canonical rows (without id and source)."""

    format: Format
    columns: Mapping[str, str]
    template: PromptTemplate | None
    keep: tuple[str, ...] = ()
    pick_seed: int | None = None

    def view(self, row: Source) -> Row:
        """The row under its canonical column names, beside the file's own names."""
        kept = {name: value for name, value in row.items() if name not in self.columns}
        return kept | {name: row[column] for name, column in self.columns.items() if column in row}

    def adapt(self, view: Source, row: Source | None = None) -> list[Row]:
        """The canonical rows of a view, and the columns of the file's `row` that are carried along.

        BrokenRow when a field is missing or of the wrong type.
        """
        adapted = self.format.adapt(view, self.template)
        rows = adapted if isinstance(adapted, list) else [adapted]
        if self.pick_seed is not None and len(rows) > 1:
            digest = hashlib.sha256(f"{self.pick_seed}:{json.dumps(rows)}".encode()).digest()
            rows = [rows[int.from_bytes(digest[:8], "big") % len(rows)]]
        if not self.keep:
            return rows
        whole = view if row is None else row
        meta = {name: _plain(whole.get(name)) for name in self.keep}
        return [{**each, "meta": meta} for each in rows]


def stored(row: Row) -> str:
    """A canonical row as one line of JSON; BrokenRow when it cannot be stored."""
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        line.encode()
    except UnicodeEncodeError as error:
        raise BrokenRow("invalid UTF-8 (or half of a surrogate pair) in its text") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise BrokenRow(f"holds a value that JSON cannot ({error})") from error
    return line


def _plain(value: object) -> object:
    """A column's value as JSON can hold it: times as ISO 8601, NaN as null."""
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return None if isinstance(value, float) and value != value else value


def choose_adapter(name: str, config: DatasetConfig, columns: Collection[str], common: Collection[str]) -> Adapter:
    """The adapter of data set `name`, whose rows have `columns` in all and most of them the `common` ones.

    `auto` takes the first fitting format in the order of `FORMATS`.
    """
    for setting, column in _named_columns(config).items():
        if column not in columns:
            _refuse(f"data.{name}.{setting}: there is no column {column}", columns, "name one of these")
    template = parse_template(config.prompt, f"data.{name}.prompt") if config.prompt else None
    present = set(common) | set(config.columns)
    for column in template.columns if template else []:
        if column not in set(columns) | present:
            _refuse(f"data.{name}.prompt: there is no column {column}", columns, f"change {{{column}}}")
    chosen = _auto(name, config, present, list(common)) if config.format == "auto" else _named(name, config, present)
    if chosen.name == "document_summary" and template is None:
        template = parse_template(SUMMARY_PROMPT, f"data.{name}.prompt")
    if config.wrong == "one" and chosen.name != "choice_preference":
        raise DataError(f"data.{name}.wrong: only for the format choice_preference, not {chosen.name}; remove it")
    seed = config.splits.seed if config.wrong == "one" else None
    return Adapter(chosen, config.columns, template, tuple(config.keep), seed)


def _named_columns(config: DatasetConfig) -> dict[str, str]:
    """The columns that a configuration names, by the setting that names them."""
    return {f"columns.{canonical}": column for canonical, column in config.columns.items()} | {
        f"keep.{index}": column for index, column in enumerate(config.keep)
    }


def _auto(name: str, config: DatasetConfig, present: set[str], first: list[str]) -> Format:
    for candidate in FORMATS.values():
        mapped = set(config.columns) <= set(candidate.readable)
        prompted = config.prompt is None or candidate.templated is not None
        if mapped and prompted and not candidate.missing(present, config.prompt is not None):
            return candidate
    known = "; ".join(f"{known.name} ({', '.join(known.required)})" for known in FORMATS.values())
    one, two = (*first, "COLUMN", "COLUMN")[:2]
    example = f"{{prompt: {one}, completion: {two}}}" if len(first) > 1 else f"{{text: {one}}}"
    advice = f"formats: {known}; map them, e.g. data.{name}.columns={example}"
    return _refuse(f"data.{name}: no format fits", present, advice)


def _named(name: str, config: DatasetConfig, present: set[str]) -> Format:
    chosen = FORMATS[config.format]
    if config.prompt is not None and chosen.templated is None:
        allowed = ", ".join(known.name for known in FORMATS.values() if known.templated)
        raise DataError(f"data.{name}.prompt: the format {chosen.name} has no prompt; formats with one are {allowed}")
    unread = sorted(set(config.columns) - set(chosen.readable))
    if unread:
        readable = ", ".join(chosen.readable)
        raise DataError(f"data.{name}.columns.{unread[0]}: not read by format {chosen.name}; allowed are {readable}")
    missing = chosen.missing(present, config.prompt is not None)
    if missing:
        advice = f"map it: data.{name}.columns={{{missing[0]}: COLUMN}}"
        _refuse(f"data.{name}: format {chosen.name} needs the column {missing[0]}", present, advice)
    return chosen


def _refuse(problem: str, columns: Collection[str], advice: str) -> Any:
    raise DataError(f"{problem} (columns: {', '.join(sorted(columns))}); {advice}")


def _adapt_text(view: Source, template: PromptTemplate | None) -> Row:
    return {"text": text_field(view, "text")}


def _adapt_labelled(view: Source, template: PromptTemplate | None) -> Row:
    label = view.get("label")
    if not isinstance(label, (str, int)):
        raise BrokenRow(
            f"label is {type_name(label)}, not text or a whole number" if "label" in view else "label is missing"
        )
    return {"text": text_field(view, "text"), "label": label}


def _adapt_prompt_completion(view: Source, template: PromptTemplate | None) -> Row:
    if template is None and isinstance(view.get("prompt"), list):
        prompt, answer = turns_of(view["prompt"], "prompt"), view.get("completion")
        turns = (
            turns_of(answer, "completion") if isinstance(answer, list) else answer_turn(text_field(view, "completion"))
        )
        return _chat([*prompt, *turns], view, "prompt and completion")
    prompt = template.fill(view) if template else text_field(view, "prompt")
    return {"prompt": prompt, "completion": text_field(view, "completion")}


def _adapt_alpaca(view: Source, template: PromptTemplate | None) -> Row:
    prompt, before = alpaca_prompt(view, template)
    answer = text_field(view, "output")
    if not before:
        return {"prompt": prompt, "completion": answer}
    return _chat([*before, *user_turn(prompt), *answer_turn(answer)], {}, "the conversation")


def _adapt_messages(view: Source, template: PromptTemplate | None) -> Row:
    return _chat(turns_of(view.get("messages"), "messages"), view, "messages")


def _adapt_sharegpt(view: Source, template: PromptTemplate | None) -> Row:
    turns = turns_of(view.get("conversations"), "conversations")
    return _chat([*system_turn(optional_text(view, "system")), *turns], view, "conversations")


def _adapt_document_summary(view: Source, template: PromptTemplate | None) -> Row:
    assert template is not None, "choose_adapter gives this format its default template"
    return {"prompt": template.fill(view), "completion": text_field(view, "summary")}


def _chat(turns: list[Row], view: Source, column: str) -> Row:
    tools = tools_field(view)
    check_chat(turns, column)
    return {"messages": turns, **tools}


# In the order in which `auto` tries them: the more telling the columns, the earlier.
_SIDES = ("chosen", "rejected")
_ALPACA = ("input", "system", "history")
FORMATS = {
    known.name: known
    for known in (
        Format("sharegpt_preference", ("conversations", *_SIDES), adapt_sharegpt_preference, ("system", "tools")),
        Format("alpaca_preference", ("instruction", *_SIDES), adapt_alpaca_preference, _ALPACA),
        Format("preference", _SIDES, adapt_preference, ("prompt", "tools"), "prompt"),
        Format("hh_rlhf", _SIDES, adapt_hh_rlhf),
        Format(
            "kto",
            ("prompt", "completion", "label"),
            adapt_kto,
            ("system", "tools"),
            "prompt",
            (("messages", "label"), ("conversations", "label")),
        ),
        Format("messages", ("messages",), _adapt_messages, ("tools",)),
        Format("sharegpt", ("conversations",), _adapt_sharegpt, ("system", "tools")),
        Format("alpaca", ("instruction", "output"), _adapt_alpaca, _ALPACA, "instruction"),
        Format("document_summary", ("document", "summary"), _adapt_document_summary, (), "document"),
        Format("prompt_completion", ("prompt", "completion"), _adapt_prompt_completion, ("tools",), "prompt"),
        Format("choice_preference", VARIANTS[0], adapt_choices, (), "question", VARIANTS[1:]),
        Format("labelled", ("text", "label"), _adapt_labelled),
        Format("text", ("text",), _adapt_text),
    )
}
