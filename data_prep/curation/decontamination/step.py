"""Which training rows hold items of an evaluation."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.counts import Counts, boilerplate, count
from data_prep.curation.decontamination.index import Index, open_index
from data_prep.curation.decontamination.matches import Match, measured, search
from data_prep.curation.step import Limit
from data_prep.rows import Row, parts_of

if TYPE_CHECKING:
    import pyarrow as pa

MOST_MATCHES = 8
"""Matches of a row that are noted."""
QUOTED = 80
"""Characters of the matched text in a reason."""

RowMatches = list[tuple[str, Match]]
"""(part of the row, match), the strongest first."""


class DecontaminationStep:
    """Measures which items of the index a row holds, how much of them, and where."""

    def __init__(self, config: Decontamination, index_path: Path) -> None:
        self._config, self._index_path = config, index_path

    def columns(self) -> "Mapping[str, pa.DataType]":
        """Of the strongest match its item and span; the largest share and hits of all; and up to 8 matches.

        All are null for a row without any. `start` and `end` are characters of the part; `text` is cut to 300.
        """
        import pyarrow as pa

        texts = ("dataset", "item", "side", "part", "text")
        numbers = {
            "unit": pa.int64(),
            "share": pa.float64(),
            "hits": pa.int64(),
            "start": pa.int64(),
            "end": pa.int64(),
        }
        fields = numbers | dict.fromkeys(texts, pa.string()) | {"runs": pa.list_(pa.int64())}
        flat = {name: kind for name, kind in fields.items() if name not in ("unit", "runs")}
        prefixed = {f"decontamination_{name}": kind for name, kind in flat.items()}
        return prefixed | {"decontamination_matches": pa.list_(pa.struct(list(fields.items())))}

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """See `columns`. Boilerplate of the training rows is not known yet: see `settle`."""
        return self.measure_and_count(rows)[0]

    def measure_and_count(self, rows: Sequence[Row]) -> tuple[Mapping[str, Sequence[Any]], Counts]:
        """The measures, and in how many of the rows the n-grams of the index stand outside of their items."""
        found, counts = search_rows(rows, self._index, self._config)
        noted = [[_noted(part, match) for part, match in _strongest(row)] for row in found]
        return self._flat(noted), counts

    def settle(self, measures: "pa.Table", counts: Counts) -> "pa.Table":
        """The measures without the boilerplate that the counts of all training rows show."""
        import pyarrow as pa

        dropped = boilerplate(counts, self._index, self._config)
        if not dropped.any():
            return measures
        noted = [self._without(matches or [], dropped) for matches in measures["decontamination_matches"].to_pylist()]
        for name, values in self._flat(noted).items():
            column = pa.array(values, type=self.columns()[name])
            measures = measures.set_column(measures.schema.get_field_index(name), name, column)
        return measures

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """One reason for each item of which the row holds too much."""
        rows = measures["decontamination_matches"].to_pylist()
        return [[reason for match in matches or [] if (reason := self._reason(match))] for matches in rows]

    def limits(self) -> Sequence[Limit]:
        """Share of an item, and n-grams of an item."""
        return [
            Limit("max_share", "decontamination_share", "max", self._config.max_share),
            Limit("max_hits", "decontamination_hits", "max", self._config.max_hits),
        ]

    @cached_property
    def _index(self) -> Index:
        return open_index(self._index_path)

    def _flat(self, noted: list[list[dict[str, Any]]]) -> dict[str, list[Any]]:
        columns = dict[str, list[Any]]()
        for name in self.columns():
            field = name.removeprefix("decontamination_")
            columns[name] = [matches[0].get(field) if matches else None for matches in noted]
        columns["decontamination_matches"] = [matches or None for matches in noted]
        columns["decontamination_hits"] = [max((each["hits"] for each in row), default=None) for row in noted]
        return columns

    def _without(self, matches: list[dict[str, Any]], dropped: Any) -> list[dict[str, Any]]:
        changed = list[dict[str, Any]]()
        for match in matches:
            share, hits = measured(self._index, match["unit"], match["runs"], dropped)
            changed.append({**match, "share": share, "hits": hits})
        # A stable sort: what was equally strong stays in its order.
        return sorted(changed, key=lambda match: (-match["share"], -match["hits"]))

    def _reason(self, match: dict[str, Any]) -> str | None:
        item = f'{match["dataset"]} item {match["item"]}: "{_quoted(match["text"])}"'
        if match["share"] > self._config.max_share:
            return f"{match['share']:.2f} of {item}"
        return f"{match['hits']} n-grams of {item}" if match["hits"] > self._config.max_hits else None


def search_rows(rows: Sequence[Row], index: Index, config: Decontamination) -> tuple[list[RowMatches], Counts]:
    """Per row what it holds, over all its parts, and the counts of the n-grams outside of their items."""
    parts = [parts_of(row) for row in rows]
    found = search([text for each in parts for text in each.values()], index, config)
    matches, grams, at = list[RowMatches](), list[Any](), 0
    for each in parts:
        own = range(at, at + len(each))
        named = [(part, match) for part, text in zip(each, own, strict=True) for match in found.matches[text]]
        matches.append(sorted(named, key=lambda pair: (pair[1].order, pair[0])))
        grams.append(found.grams[at] if len(own) == 1 else _union([found.grams[text] for text in own]))
        at += len(each)
    return matches, count(grams, ([match for _, match in row] for row in matches), index)


def _strongest(row: RowMatches) -> RowMatches:
    """The matches of the largest shares, and the one with the most hits."""
    if len(row) <= MOST_MATCHES:
        return row
    kept, longest = row[:MOST_MATCHES], max(row, key=lambda pair: pair[1].hits)
    return kept if longest in kept else [*kept[:-1], longest]


def _union(grams: list[Any]) -> Any:
    some = [each for each in grams if len(each)]
    return np.unique(np.concatenate(some)) if len(some) > 1 else (some or grams)[0]


def _noted(part: str, match: Match) -> dict[str, Any]:
    return {**match._asdict(), "part": part}


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= QUOTED else line[: QUOTED - 1] + "…"
