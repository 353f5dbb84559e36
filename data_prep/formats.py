"""From a file's columns to canonical rows: one adapter per known format, found by the names of the columns.

Formats: `text`; `prompt_completion` (TRL; a prompt may be a list of messages); `messages` (OpenAI); `sharegpt` and
`alpaca` (as LLaMA-Factory reads them); `document_summary` (XSum, CNN/DailyMail).
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.chats import pairs_to_turns, tools_of, turns_of
from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.rows import Row
from data_prep.templates import BrokenRow, PromptTemplate, parse_template, type_name

SUMMARY_PROMPT = "Summarise the text below in one sentence.\n\n{document}"

Source = Mapping[str, Any]
Adapt = Callable[[Source, PromptTemplate | None], Row]


@dataclass(frozen=True)
class Format:
    """A known format: its columns, how a row becomes canonical, and the column that a prompt template stands in for."""

    name: str
    required: tuple[str, ...]
    adapt: Adapt
    optional: tuple[str, ...] = ()
    templated: str | None = None

    def needs(self, has_template: bool) -> set[str]:
        """The columns a file must have."""
        return set(self.required) - ({self.templated} if has_template else set())


@dataclass(frozen=True)
class Adapter:
    """A format chosen for one data set: turns file rows into canonical rows (without id and source)."""

    format: Format
    columns: Mapping[str, str]
    template: PromptTemplate | None

    def view(self, row: Source) -> Row:
        """The row under its canonical column names, beside the file's own names."""
        kept = {name: value for name, value in row.items() if name not in self.columns}
        return kept | {name: row[column] for name, column in self.columns.items() if column in row}

    def adapt(self, view: Source) -> Row:
        """The canonical row of a view; BrokenRow when a field is missing, of the wrong type or cannot be stored."""
        row = self.format.adapt(view, self.template)
        try:
            json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError as error:
            raise BrokenRow("invalid UTF-8 (or half of a surrogate pair) in its text") from error
        except (TypeError, ValueError) as error:
            raise BrokenRow(f"holds a value that JSON cannot ({error})") from error
        return row


def choose_adapter(name: str, config: DatasetConfig, columns: Collection[str], common: Collection[str]) -> Adapter:
    """The adapter of data set `name`, whose rows have `columns` in all and most of them the `common` ones.

    `auto` takes the first fitting format of messages, sharegpt, alpaca, document_summary, prompt_completion, text.
    """
    for canonical, column in config.columns.items():
        if column not in columns:
            _refuse(f"data.{name}.columns.{canonical}: there is no column {column}", columns, "name one of these")
    template = parse_template(config.prompt, f"data.{name}.prompt") if config.prompt else None
    present = set(common) | set(config.columns)
    for column in template.columns if template else []:
        if column not in set(columns) | present:
            _refuse(f"data.{name}.prompt: there is no column {column}", columns, f"change {{{column}}}")
    chosen = _auto(name, config, present, list(common)) if config.format == "auto" else _named(name, config, present)
    if chosen.name == "document_summary" and template is None:
        template = parse_template(SUMMARY_PROMPT, f"data.{name}.prompt")
    return Adapter(chosen, config.columns, template)


def _auto(name: str, config: DatasetConfig, present: set[str], first: list[str]) -> Format:
    if {"chosen", "rejected"} <= present:
        advice = "to train on one side, set format and columns"
        _refuse(f"data.{name}: chosen and rejected are preference rows", present, advice)
    for candidate in FORMATS.values():
        mapped = set(config.columns) <= set(candidate.required + candidate.optional)
        prompted = config.prompt is None or candidate.templated is not None
        if mapped and prompted and candidate.needs(config.prompt is not None) <= present:
            if "label" in present and candidate.name in ("messages", "prompt_completion"):
                advice = f"to train on good and bad answers alike, set data.{name}.format={candidate.name}"
                _refuse(f"data.{name}: the column label marks good and bad answers (KTO)", present, advice)
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
    unread = sorted(set(config.columns) - set(chosen.required + chosen.optional))
    if unread:
        readable = ", ".join(chosen.required + chosen.optional)
        raise DataError(f"data.{name}.columns.{unread[0]}: not read by format {chosen.name}; allowed are {readable}")
    missing = sorted(chosen.needs(config.prompt is not None) - present)
    if missing:
        advice = f"map it: data.{name}.columns={{{missing[0]}: COLUMN}}"
        _refuse(f"data.{name}: format {chosen.name} needs the column {missing[0]}", present, advice)
    return chosen


def _refuse(problem: str, columns: Collection[str], advice: str) -> Any:
    raise DataError(f"{problem} (columns: {', '.join(sorted(columns))}); {advice}")


def _text(view: Source, name: str) -> str:
    value = view.get(name)
    if isinstance(value, str):
        return value
    raise BrokenRow(f"{name} is {type_name(value)}, not text" if name in view else f"{name} is missing")


def _optional_text(view: Source, name: str) -> str:
    return "" if view.get(name) is None else _text(view, name)


def _adapt_text(view: Source, template: PromptTemplate | None) -> Row:
    return {"text": _text(view, "text")}


def _adapt_prompt_completion(view: Source, template: PromptTemplate | None) -> Row:
    if template is None and isinstance(view.get("prompt"), list):
        prompt, answer = turns_of(view["prompt"], "prompt"), view.get("completion")
        turns = turns_of(answer, "completion") if isinstance(answer, list) else _answer(_text(view, "completion"))
        return {"messages": prompt + turns, **_tools(view)}
    prompt = template.fill(view) if template else _text(view, "prompt")
    return {"prompt": prompt, "completion": _text(view, "completion")}


def _adapt_alpaca(view: Source, template: PromptTemplate | None) -> Row:
    extra = _optional_text(view, "input")
    if template:
        prompt = template.fill({**view, "input": extra})
    else:
        prompt = _text(view, "instruction") + (f"\n\n{extra}" if extra else "")
    answer, system, history = _text(view, "output"), _optional_text(view, "system"), pairs_to_turns(view.get("history"))
    if not system and not history:
        return {"prompt": prompt, "completion": answer}
    return {"messages": [*_system(system), *history, {"role": "user", "content": prompt}, *_answer(answer)]}


def _adapt_messages(view: Source, template: PromptTemplate | None) -> Row:
    return {"messages": turns_of(view.get("messages"), "messages"), **_tools(view)}


def _adapt_sharegpt(view: Source, template: PromptTemplate | None) -> Row:
    turns = turns_of(view.get("conversations"), "conversations")
    return {"messages": [*_system(_optional_text(view, "system")), *turns], **_tools(view)}


def _adapt_document_summary(view: Source, template: PromptTemplate | None) -> Row:
    assert template is not None, "choose_adapter gives this format its default template"
    return {"prompt": template.fill(view), "completion": _text(view, "summary")}


def _system(text: str) -> list[Row]:
    return [{"role": "system", "content": text}] if text else []


def _answer(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def _tools(view: Source) -> Row:
    tools = tools_of(view.get("tools"))
    return {"tools": tools} if tools else {}


# In the order in which `auto` tries them: the more telling the columns, the earlier.
FORMATS = {
    known.name: known
    for known in (
        Format("messages", ("messages",), _adapt_messages, ("tools",)),
        Format("sharegpt", ("conversations",), _adapt_sharegpt, ("system", "tools")),
        Format("alpaca", ("instruction", "output"), _adapt_alpaca, ("input", "system", "history"), "instruction"),
        Format("document_summary", ("document", "summary"), _adapt_document_summary, (), "document"),
        Format("prompt_completion", ("prompt", "completion"), _adapt_prompt_completion, ("tools",), "prompt"),
        Format("text", ("text",), _adapt_text),
    )
}
