"""Which rows have no usable content."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_prep.curation.empty.config import Empty
from data_prep.curation.step import Limit
from data_prep.rows import Row, parts_of, shape_of

if TYPE_CHECKING:
    import pyarrow as pa


class EmptyStep:
    """Measures what is missing in a row, and the share of its characters that are U+FFFD."""

    def __init__(self, config: Empty) -> None:
        self._config = config

    def columns(self) -> "Mapping[str, pa.DataType]":
        """`empty_reason` says what is missing; null: nothing."""
        import pyarrow as pa

        return {"empty_reason": pa.string(), "empty_garbled_share": pa.float64()}

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """See `columns`."""
        return {
            "empty_reason": [_missing(row) for row in rows],
            "empty_garbled_share": [_garbled_share("".join(parts_of(row).values())) for row in rows],
        }

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """What is missing, and the share of garbled characters above the limit."""
        found: list[list[str]] = []
        allowed = self._config.max_garbled_share
        for missing, share in zip(*(measures[name].to_pylist() for name in self.columns()), strict=True):
            garbled = [f"{share:.1%} U+FFFD, allowed {allowed:.1%}"] if share > allowed else []
            found.append([missing] if missing else garbled)
        return found

    def limits(self) -> Sequence[Limit]:
        """The one limit."""
        return [Limit("max_garbled_share", "empty_garbled_share", "max", self._config.max_garbled_share)]


def _missing(row: Row) -> str | None:
    parts = parts_of(row)
    if shape_of(row) == "chat":
        if not any(map(_answers, row["messages"])):
            return "no assistant turn has content"
    else:
        for part, text in parts.items():
            if not text.strip():
                return f"the {part} is empty"
    return "a NUL character" if any("\0" in text for text in parts.values()) else None


def _garbled_share(text: str) -> float:
    return text.count("\ufffd") / max(len(text), 1)


def _answers(turn: dict[str, Any]) -> bool:
    return turn["role"] == "assistant" and bool(turn["content"].strip() or turn.get("tool_calls"))
