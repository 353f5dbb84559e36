"""The quality rules as a filter step."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_prep.curation.quality.config import Quality
from data_prep.curation.quality.rules import rules
from data_prep.curation.step import Limit
from data_prep.rows import Row, parts_of, shape_of

if TYPE_CHECKING:
    import pyarrow as pa

    from data_prep.curation.quality.lexicon import Lexicon


class QualityStep:
    """Judges text rows, and all others only when asked to, by the web heuristics of Gopher, C4 and FineWeb."""

    def __init__(self, config: Quality) -> None:
        self._config = config
        self._lexicon: Lexicon | None = None

    def columns(self) -> "Mapping[str, pa.DataType]":
        """All measures of the families that are on: counts as int64, means and shares as float64."""
        from data_prep.curation.quality.judge import measure

        schema = measure([], self._config).schema
        return dict(zip(schema.names, schema.types, strict=True))

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """Per column one value for each row; None in rows that are not judged, and where there is nothing to share."""
        from data_prep.curation.quality.judge import judges, measure
        from data_prep.curation.quality.lexicon import Lexicon

        self._lexicon = self._lexicon or Lexicon()
        judged = [number for number, row in enumerate(rows) if judges(self._config, shape_of(row))]
        texts = ["\n".join(parts_of(rows[number]).values()) for number in judged]
        table = measure(texts, self._config, lexicon=self._lexicon)
        found: dict[str, list[Any]] = {name: [None] * len(rows) for name in table.column_names}
        for name, values in found.items():
            for number, value in zip(judged, table[name].to_pylist(), strict=True):
                values[number] = value if value == value else None  # noqa: PLR0124 - NaN is not equal to itself
        return found

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """Per row every rule that it fails, such as `gopher_stop_words: 1, at least 2`."""
        from data_prep.curation.quality.judge import failures

        return [[str(failure) for failure in row] for row in failures(measures, self._config)]

    def limits(self) -> Sequence[Limit]:
        """The limits that are switched on."""
        return rules(self._config)
