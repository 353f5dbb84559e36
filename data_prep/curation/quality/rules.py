"""The limits on the measures that are switched on."""

from collections.abc import Iterator
from typing import Literal

from data_prep.curation.quality.config import Quality
from data_prep.curation.step import Limit

PREFIX = "quality_"

_Limits = Iterator[tuple[str, str, float | None, Literal["min", "max"]]]


def rules(config: Quality) -> list[Limit]:
    """The rules that are switched on, in a fixed order."""
    found = [*_gopher_rules(config), *_repetition_rules(config), *_c4_rules(config), *_fineweb_rules(config)]
    return [Limit(name, PREFIX + column, side, limit) for name, column, limit, side in found if limit is not None]


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
