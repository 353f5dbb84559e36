"""Measures texts by all heuristic rules at once, and says which rules each of them fails.

`measure` costs, `failures` does not: keep the table to try other limits later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.curation.quality.batch import Batch, tokenise
from data_prep.curation.quality.c4 import measure_c4
from data_prep.curation.quality.config import Quality
from data_prep.curation.quality.fineweb import measure_fineweb
from data_prep.curation.quality.gopher import measure_gopher
from data_prep.curation.quality.lexicon import Lexicon
from data_prep.curation.quality.lines import lines_of, segments_of
from data_prep.curation.quality.repetition import measure_repetition
from data_prep.curation.quality.rules import PREFIX, rules
from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import Shape

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Failure:
    """A rule that a text fails: what was measured, and what is allowed."""

    rule: str
    value: float
    limit: float
    side: str

    def __str__(self) -> str:
        """Such as `gopher_stop_words: 1, at least 2`."""
        bound = "at least" if self.side == "min" else "at most"
        return f"{self.rule}: {_apart(self.value, self.limit)}, {bound} {self.limit:g}"


def judges(config: Quality, shape: Shape) -> bool:
    """Whether rows of this shape are judged at all."""
    return config.rows == "all" or shape == "text"


def judge_quality(texts: Sequence[str], config: Quality, track: Track = silent) -> list[list[Failure]]:
    """All rules that each text fails, in the order of the rules; an empty list: it passes."""
    return failures(measure(texts, config, track), config)


def measure(texts: Sequence[str], config: Quality, track: Track = silent, lexicon: Lexicon | None = None) -> "pa.Table":
    """One row per text, one column per measure of the families that are switched on. NaN: there was nothing to measure.

    Flat in memory but for the table: texts are tokenised about a million characters at a time. A `lexicon` that is
    kept from call to call saves looking at common words again; it never changes a measure.
    """
    import pyarrow as pa

    lexicon = lexicon or Lexicon()
    batches = [_measure(part, config, lexicon) for part in _parts(track(texts, "quality"))]
    empty = _measure([""], config, lexicon)
    columns = {PREFIX + name: [batch[name] for batch in batches] or [empty[name][:0]] for name in empty}
    return pa.table({name: np.concatenate(parts) for name, parts in columns.items()})


def failures(measures: "pa.Table", config: Quality) -> list[list[Failure]]:
    """The failing rules of every row of a table of measures, under the limits of `config`.

    Raises:
        DataError: the table lacks the column of a rule.
    """
    failed: list[list[Failure]] = [[] for _ in range(measures.num_rows)]
    for rule in rules(config):
        if rule.column not in measures.column_names:
            raise DataError(
                f"rule {rule.rule}: the table has no column {rule.column}; measure the texts with its family on"
            )
        values = np.asarray(measures[rule.column].to_numpy(), np.float64)
        bad = values < rule.value if rule.side == "min" else values > rule.value
        if rule.rule == "fineweb_punctuated_lines" and config.fineweb and config.fineweb.unpunctuated_passes:
            bad &= values != 0
        for row in np.flatnonzero(bad).tolist():
            failed[row].append(Failure(rule.rule, float(values[row]), rule.value, rule.side))
    return failed


def _measure(texts: Sequence[str], config: Quality, lexicon: Lexicon) -> dict[str, np.ndarray[Any, Any]]:
    batch: Batch = tokenise(texts, lexicon)
    measures: dict[str, np.ndarray[Any, Any]] = {"characters": batch.characters}
    lines = lines_of(batch) if config.gopher_quality or config.c4 else None
    segments = segments_of(batch) if config.gopher_repetition or config.fineweb else None
    if config.gopher_quality and lines:
        measures |= measure_gopher(batch, lines)
    if config.gopher_repetition and segments:
        measures |= measure_repetition(batch, segments)
    if config.fineweb and segments:
        measures |= measure_fineweb(batch, segments, config.fineweb)
    if config.c4 and lines:  # last: it may empty the lexicon
        measures |= measure_c4(batch, lines, config.c4, lexicon)
    return measures


def _parts(texts: Iterator[str]) -> Iterator[list[str]]:
    part: list[str] = []
    characters = 0
    for text in texts:
        part.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _apart(value: float, limit: float) -> str:
    """A value with so many digits that it does not look equal to the limit it breaks."""
    text = f"{value:.0f}" if value.is_integer() else f"{value:.3g}"
    digits = 4
    while float(text) == limit and digits < 18:
        text, digits = f"{value:.{digits}g}", digits + 1
    return text
