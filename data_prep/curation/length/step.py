"""Which rows are too short or too long."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_prep.curation.length.config import Length
from data_prep.curation.step import Limit
from data_prep.rows import Row, parts_of

if TYPE_CHECKING:
    import pyarrow as pa

LIMITED_BY = {
    "text": "text",
    "prompt": "prompt",
    "completion": "completion",
    "chosen": "completion",
    "rejected": "completion",
}
"""Part of a row → the part that the limits are named after."""


class LengthStep:
    """Measures the words of each part of a row."""

    def __init__(self, config: Length) -> None:
        self._config = config

    def columns(self) -> "Mapping[str, pa.DataType]":
        """Words of each part, null where the row has no such part; `length_tool_call`: an answer calls a tool."""
        import pyarrow as pa

        return {f"length_{part}_words": pa.int64() for part in LIMITED_BY} | {"length_tool_call": pa.bool_()}

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """See `columns`."""
        counts = [{part: len(text.split()) for part, text in parts_of(row).items()} for row in rows]
        words = {f"length_{part}_words": [count.get(part) for count in counts] for part in LIMITED_BY}
        return words | {"length_tool_call": [_calls_tool(row) for row in rows]}

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """One reason for each part with too few or too many words."""
        calls = measures["length_tool_call"].to_pylist()
        found: list[list[str]] = [[] for _ in calls]
        for part, limited_by in LIMITED_BY.items():
            low = getattr(self._config, f"min_{limited_by}_words")
            high = getattr(self._config, f"max_{limited_by}_words")
            for reasons, words, call in zip(found, measures[f"length_{part}_words"].to_pylist(), calls, strict=True):
                # A chat whose only answer is a tool call has no words, and is not short.
                if words is not None and words < low and not (call and limited_by == "completion"):
                    reasons.append(f"{part} of {words} words, at least {low}")
                if words is not None and high is not None and words > high:
                    reasons.append(f"{part} of {words} words, at most {high}")
        return found

    def limits(self) -> Sequence[Limit]:
        """The limits that are set."""
        found: list[Limit] = []
        for part, limited_by in LIMITED_BY.items():
            low, high = (getattr(self._config, f"{side}_{limited_by}_words") for side in ("min", "max"))
            found.append(Limit("min_words", f"length_{part}_words", "min", low))
            if high is not None:
                found.append(Limit("max_words", f"length_{part}_words", "max", high))
        return found


def _calls_tool(row: Row) -> bool:
    turns = row.get("messages", []) or [turn for turn in row.get("chosen", []) if isinstance(turn, dict)]
    return any(turn.get("tool_calls") for turn in turns)
