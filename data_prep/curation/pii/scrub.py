"""What is done about findings in canonical rows: the same in a prompt, a turn, a tool call and a rejected answer."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import find_pii_batch
from data_prep.curation.pii.pseudonyms import Pseudonyms
from data_prep.curation.pii.spans import Detector, Span
from data_prep.errors import DataError
from data_prep.rows import Row

TEXT_FIELDS = ("text", "prompt", "completion", "messages", "chosen", "rejected", "tools")
# What holds a turn together and is no text of anybody.
_STRUCTURE = frozenset({"role", "type", "id", "tool_call_id"})
_ROUNDS = 10


class Scrubbed(NamedTuple):
    """A row after its findings were dealt with."""

    row: Row | None
    """None: the row is dropped."""
    counts: dict[str, int]
    """Findings per kind."""


class Scrubber:
    """Applies the action of a configuration; `pseudonyms` is needed by that action only."""

    def __init__(self, config: Pii, pseudonyms: Pseudonyms | None = None, detectors: Sequence[Detector] = ()) -> None:
        if config.action == "pseudonym" and pseudonyms is None:
            raise DataError("pii: action pseudonym without a key; give Pseudonyms(read_key(), config.phone_regions)")
        self._config, self._pseudonyms, self._detectors = config, pseudonyms, detectors

    def apply(self, row: Row) -> Scrubbed:
        """A new row without the findings and their number per kind; the given row stays as it is.

        Raises:
            DataError: the row is nested deeper than it can be walked.
        """
        counts: Counter[str] = Counter()
        try:
            clean = {
                name: self._value(value, "", counts) if name in TEXT_FIELDS else value for name, value in row.items()
            }
        except RecursionError as error:
            raise DataError(f"row {row.get('id')}: nested too deeply to look for personal data; remove it") from error
        dropped = self._config.action == "drop" and counts
        return Scrubbed(None if dropped else clean, dict(sorted(counts.items())))

    def text(self, text: str, counts: Counter[str], hint: str = "") -> str:
        """A text without its findings, which are added to `counts`."""
        replacement = self._replacement()
        for _ in range(_ROUNDS):
            # The hint stands before the text: so further detectors see it too, and its own words are never findings.
            lead = f"{hint}: " if hint else ""
            found = find_pii_batch([lead + text], self._config, self._detectors)[0]
            spans = [_moved(span, -len(lead)) for span in found if span.start >= len(lead)]
            counts.update(span.kind for span in spans)
            text = _replaced(text, spans, replacement)
            # A mask shortens what stood between a word and a number; what that brings up is masked as well.
            if not spans or self._config.action != "mask":
                break
        return text

    def _replacement(self) -> Callable[[Span, str], str]:
        if self._config.action == "pseudonym" and self._pseudonyms:
            return self._pseudonyms.of
        if self._config.action == "mask":
            return lambda span, _text: f"[{span.kind.upper()}]"
        return lambda span, text: text[span.start : span.end]

    def _value(self, value: Any, hint: str, counts: Counter[str]) -> Any:
        """Every text in a value: strings, lists, objects with their keys, numbers (a card without quotes)."""
        if isinstance(value, str):
            return self.text(value, counts, hint)
        if isinstance(value, list):
            return [self._value(each, hint, counts) for each in value]
        if isinstance(value, dict):
            return self._object(value, counts)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**6:
            return self._number(value, hint, counts)
        return value

    def _object(self, value: dict[str, Any], counts: Counter[str]) -> dict[str, Any]:
        clean: dict[str, Any] = {}
        for key, each in value.items():
            if key in _STRUCTURE and isinstance(each, str):
                clean[key] = each
            elif key == "arguments" and isinstance(each, str):
                clean[key] = self._arguments(each, counts)
            else:
                hint = "" if key in ("content", "text", "arguments", "value") else key
                clean[_free_key(self.text(key, counts), clean)] = self._value(each, hint, counts)
        return clean

    def _arguments(self, arguments: str, counts: Counter[str]) -> str:
        """The JSON text of a tool call's arguments; its values are looked at unescaped, and it stays JSON."""
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError):
            return self.text(arguments, counts)
        clean = self._value(parsed, "", counts)
        return arguments if clean == parsed else json.dumps(clean, ensure_ascii=False)

    def _number(self, value: int, hint: str, counts: Counter[str]) -> int | str:
        clean = self.text(str(value), counts, hint)
        return int(clean) if clean.lstrip("-").isdigit() and str(int(clean)) == clean else clean


def _free_key(key: str, taken: dict[str, Any]) -> str:
    """The key, numbered when two masked keys became equal: no value may get lost."""
    number, free = 2, key
    while free in taken:
        free, number = f"{key} {number}", number + 1
    return free


def _moved(span: Span, by: int) -> Span:
    return Span(span.start + by, span.end + by, span.kind, span.score, span.rule)


def _replaced(text: str, spans: list[Span], replacement: Callable[[Span, str], str]) -> str:
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], replacement(span, text)]
        end = span.end
    return "".join([*parts, text[end:]])
