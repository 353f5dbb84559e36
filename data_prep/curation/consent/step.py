"""Rows whose licence or opt-out field forbids their use."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_prep.curation.consent.config import Consent, License, OptOut
from data_prep.curation.consent.licences import is_allowed
from data_prep.curation.step import Limit
from data_prep.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_CHARACTERS = 80
_WORD_BREAKS = re.compile(r"[\s,;:=]+")


class ConsentStep:
    """Measures nothing but notes the fields themselves, so that other rules can be tried on them."""

    def __init__(self, config: Consent) -> None:
        self._config = config

    def columns(self) -> "Mapping[str, pa.DataType]":
        """A text per field: itself, or JSON of anything else; null where the row has none."""
        import pyarrow as pa

        return {f"consent_{name}": pa.string() for name in self._config.fields}

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """See `columns`."""
        return {f"consent_{name}": [_field(row, name) for row in rows] for name in self._config.fields}

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """A reason for each field that forbids the use of a row."""
        columns = [measures[f"consent_{name}"].to_pylist() for name in self._config.fields]
        return [
            [
                reason
                for name, value in zip(self._config.fields, values, strict=True)
                if (reason := self._reason(name, value))
            ]
            for values in zip(*columns, strict=True)
        ]

    def limits(self) -> Sequence[Limit]:
        """None: consent is no number."""
        return []

    def _reason(self, name: str, value: str | None) -> str | None:
        of_license = self._config.license is not None and name == self._config.license.field
        rule: License | OptOut | None = self._config.license if of_license else self._config.opt_out
        if rule is None or value is None:
            return f"{name} missing" if rule is not None and rule.missing == "drop" else None
        return _license_reason(name, value, rule) if isinstance(rule, License) else _opt_out_reason(name, value, rule)


def never_carried(config: Consent, kept: Collection[str]) -> list[str]:
    """The fields that the step asks about and `data.NAME.keep` did not carry along: they miss in every row."""
    return [name for name in config.fields if name not in kept]


def _field(row: Row, name: str) -> str | None:
    value = (row.get("meta") or {}).get(name)
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _license_reason(name: str, value: str, rule: License) -> str | None:
    listed = _parsed(value)
    licences = [str(each) for each in listed] if isinstance(listed, list) else [value]
    for licence in licences:
        if not is_allowed(licence, [], rule.deny):
            return f"{name} {_shown(licence)}, denied {', '.join(rule.deny)}"
        if not is_allowed(licence, rule.allow, rule.deny):
            return f"{name} {_shown(licence)}, allowed {', '.join(rule.allow)}"
    return None


def _opt_out_reason(name: str, value: str, rule: OptOut) -> str | None:
    said = _words(_parsed(value))
    refusing = [each for each in rule.values if each.casefold() in said]
    return f"{name} {_shown(value)}, opts out by {', '.join(refusing)}" if refusing else None


def _words(value: object) -> set[str]:
    """What a field says: its words and the whole of it; of an object the keys that are true, and what texts say."""
    if isinstance(value, dict):
        true = {str(key).casefold() for key, each in value.items() if each is True or each == 1}
        return true.union(*(_words(each) for each in value.values() if isinstance(each, (str, list, dict))))
    if isinstance(value, list):
        return set[str]().union(*(_words(each) for each in value))
    text = (value if isinstance(value, str) else json.dumps(value)).casefold().strip()
    return {text, *_WORD_BREAKS.split(text)}


def _parsed(value: str) -> object:
    """The value that a field had, from the JSON that `measure` made of it, or that it was itself."""
    if value[:1] not in "[{":
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _shown(value: str) -> str:
    return value if len(value) <= _SHOWN_CHARACTERS else value[: _SHOWN_CHARACTERS - 1] + "…"
