"""Measures texts by all heuristic rules at once, and says which rules each of them fails.

`measure` costs, `failures` does not: keep the table to try other limits later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_prep.curation.quality.batch import Batch, tokenise
from data_prep.curation.quality.c4 import measure_c4
from data_prep.curation.quality.config import Quality
from data_prep.curation.quality.fineweb import measure_fineweb
from data_prep.curation.quality.gopher import measure_gopher
from data_prep.curation.quality.lexicon import Lexicon
from data_prep.curation.quality.lines import lines_of, segments_of
from data_prep.curation.quality.repetition import measure_repetition
from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import Shape

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_CHARACTERS = 250_000


@dataclass(frozen=True)
class Rule:
    """One limit on one column of the table of measures."""

    name: str
    column: str
    limit: float
    side: Literal["min", "max"]


@dataclass(frozen=True)
class Failure:
    """A rule that a text fails: what was measured, and what is allowed."""

    rule: str
    value: float
    limit: float


def judges(config: Quality, shape: Shape) -> bool:
    """Whether rows of this shape are judged at all."""
    return config.rows == "all" or shape == "text"


def judge_quality(texts: Sequence[str], config: Quality, track: Track = silent) -> list[list[Failure]]:
    """All rules that each text fails, in the order of the rules; an empty list: it passes."""
    return failures(measure(texts, config, track), config)


def measure(texts: Sequence[str], config: Quality, track: Track = silent, lexicon: Lexicon | None = None) -> "pa.Table":
    """One row per text, one column per measure of the families that are switched on. NaN: there was nothing to measure.

    Flat in memory but for the table: texts are tokenised about 250,000 characters at a time, which fits in a processor's cache. A `lexicon` that is
    kept from call to call saves looking at common words again; it never changes a measure.
    """
    import pyarrow as pa

    lexicon = lexicon or Lexicon()
    batches = [_measure(tokenise(part, lexicon), config, lexicon) for part in _parts(track(texts, "quality"))]
    empty = _measure(tokenise([""], lexicon), config, lexicon)
    columns = {name: [batch[name] for batch in batches] or [empty[name][:0]] for name in empty}
    return pa.table({name: np.concatenate(parts) for name, parts in columns.items()})


def failures(measures: "pa.Table", config: Quality) -> list[list[Failure]]:
    """The failing rules of every row of a table of measures, under the limits of `config`."""
    failed: list[list[Failure]] = [[] for _ in range(measures.num_rows)]
    for rule in rules(config):
        if rule.column not in measures.column_names:
            raise DataError(
                f"rule {rule.name}: the table has no column {rule.column}; measure the texts with its family on"
            )
        values = measures[rule.column].to_numpy()
        bad = values < rule.limit if rule.side == "min" else values > rule.limit
        if rule.name == "fineweb_punctuated_lines" and config.fineweb and config.fineweb.unpunctuated_passes:
            bad &= values != 0
        for row in np.flatnonzero(bad).tolist():
            failed[row].append(Failure(rule.name, float(values[row]), rule.limit))
    return failed


def rules(config: Quality) -> list[Rule]:
    """The rules that are switched on, in a fixed order."""
    found = [*_gopher_rules(config), *_repetition_rules(config), *_c4_rules(config), *_fineweb_rules(config)]
    return [Rule(name, column, limit, side) for name, column, limit, side in found if limit is not None]


_Limits = Iterator[tuple[str, str, float | None, Literal["min", "max"]]]


def _gopher_rules(config: Quality) -> _Limits:
    if section := config.gopher_quality:
        yield "gopher_min_words", "words", section.min_words, "min"
        yield "gopher_max_words", "words", section.max_words, "max"
        yield "gopher_min_mean_word_length", "mean_word_length", section.min_mean_word_length, "min"
        yield "gopher_max_mean_word_length", "mean_word_length", section.max_mean_word_length, "max"
        yield "gopher_hashes", "hashes_per_word", section.max_symbol_ratio, "max"
        yield "gopher_ellipses", "ellipses_per_word", section.max_symbol_ratio, "max"
        yield "gopher_bullet_lines", "bullet_lines", section.max_bullet_lines, "max"
        yield "gopher_ellipsis_lines", "ellipsis_lines", section.max_ellipsis_lines, "max"
        yield "gopher_alphabetic_words", "alphabetic_words", section.min_alphabetic_words, "min"
        yield "gopher_stop_words", "stop_words", section.min_stop_words, "min"


def _repetition_rules(config: Quality) -> _Limits:
    if section := config.gopher_repetition:
        yield "gopher_empty", "characters", 1, "min"
        yield "gopher_duplicate_paragraphs", "duplicate_paragraphs", section.max_duplicate_paragraphs, "max"
        limit = section.max_duplicate_paragraph_characters
        yield "gopher_duplicate_paragraph_characters", "duplicate_paragraph_characters", limit, "max"
        yield "gopher_duplicate_lines", "duplicate_lines", section.max_duplicate_lines, "max"
        limit = section.max_duplicate_line_characters
        yield "gopher_duplicate_line_characters", "duplicate_line_characters", limit, "max"
        for kind, limits in (("top", section.max_top_ngram), ("duplicate", section.max_duplicate_ngram)):
            for n, limit in sorted(limits.items()):
                yield f"gopher_{kind}_{n}gram", f"{kind}_{n}gram", limit, "max"


def _c4_rules(config: Quality) -> _Limits:
    if section := config.c4:
        yield "c4_sentences", "c4_sentences", section.min_sentences, "min"
        yield "c4_lorem_ipsum", "c4_lorem_ipsum", 0 if section.no_lorem_ipsum else None, "max"
        yield "c4_curly_brackets", "c4_curly_brackets", 0 if section.no_curly_bracket else None, "max"


def _fineweb_rules(config: Quality) -> _Limits:
    if section := config.fineweb:
        yield "fineweb_empty", "lines", 1, "min"
        yield "fineweb_punctuated_lines", "punctuated_lines", section.min_punctuated_lines, "min"
        yield "fineweb_short_lines", "short_lines", section.max_short_lines, "max"
        limit = section.max_duplicate_line_characters
        yield "fineweb_repeated_lines", "repeated_line_characters", limit, "max"
        yield "fineweb_newlines_per_word", "newlines_per_word", section.max_newlines_per_word, "max"


def _measure(batch: Batch, config: Quality, lexicon: Lexicon) -> dict[str, np.ndarray]:
    measures: dict[str, np.ndarray] = {"characters": batch.characters}
    lines = lines_of(batch) if config.gopher_quality or config.c4 else None
    segments = segments_of(batch) if config.gopher_repetition or config.fineweb else None
    if config.gopher_quality and lines:
        measures |= measure_gopher(batch, lines)
    if config.gopher_repetition and segments:
        measures |= measure_repetition(batch, segments)
    if config.c4 and lines:
        measures |= measure_c4(batch, lines, config.c4, lexicon)
    if config.fineweb and segments:
        measures |= measure_fineweb(batch, segments, config.fineweb)
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
