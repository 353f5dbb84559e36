"""Prompt templates over a row's columns.

`str.format` would let a template reach into attributes and items of its values; here a placeholder is a plain column
name and nothing else, and braces that stand in the data pass through untouched.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.errors import DataError


class BrokenRow(ValueError):
    """One row cannot be used; the message says what is wrong, the caller knows where the row stands."""


@dataclass(frozen=True)
class PromptTemplate:
    """A parsed template: literal texts, each followed by the value of a column (or by nothing, at the end)."""

    parts: tuple[tuple[str, str | None], ...]

    @property
    def columns(self) -> list[str]:
        """The columns that the template names."""
        return [column for _, column in self.parts if column is not None]

    def fill(self, row: Mapping[str, Any]) -> str:
        """The prompt of one row; BrokenRow when a column is missing, null or neither text nor a number."""
        return "".join(text + ("" if column is None else _value(row, column)) for text, column in self.parts)


def parse_template(template: str, setting: str) -> PromptTemplate:
    """Parse a template such as `"Question: {question}"`; literal braces are doubled. DataError names `setting`."""
    try:
        found = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"{setting}: not a template ({error}); write a literal brace twice: {{{{ or }}}}") from error
    for _, column, specification, conversion in found:
        if specification or conversion:
            raise DataError(f"{setting}: {{{column}}} has a format or conversion; only plain {{column}} is allowed")
    parsed = PromptTemplate(tuple((text, column) for text, column, _, _ in found))
    if not parsed.columns:
        raise DataError(f"{setting}: names no column, so every prompt would be the same; add one, e.g. {{document}}")
    return parsed


def _value(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if isinstance(value, (str, int, float)):
        return str(value)
    raise BrokenRow(f"{column} is {'missing' if column not in row else type_name(value)}, so the prompt has a hole")


def type_name(value: object) -> str:
    """What a JSON value is called in an error message."""
    names = {type(None): "null", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")
