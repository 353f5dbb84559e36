"""The reference of the quality rules: datatrove's filters on spaCy's words, which a committed file holds to spaCy itself.

spaCy clashes with our pins, so the filters are given the words of `split_chunk` and sentences counted word by word.
The file was made by spaCy 3.8 from sentences written for this test.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from data_prep.curation.quality.chunks import split_chunk
from data_prep.curation.quality.config import Quality
from data_prep.curation.quality.judge import judge_quality

FAMILIES = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
SPACY = json.loads(Path(__file__).with_name("test_quality_spacy.json").read_text(encoding="utf-8"))["rows"]
SENTENCE_ENDS = frozenset(".!?։؟۔。！？")
PROSE = (
    "The committee met on Tuesday to discuss the plans that the city had made. It was agreed that the bridge would be "
    "closed for repairs, and that buses would have to take another way. Many people were not happy with this. "
    '"We don\'t know how to get to work," said one of them. The mayor promised to look for a better answer soon.\n'
    "Work is to begin in March. Nobody could say how long it would take."
)


def only(family: str, **sections: Any) -> Quality:
    """A configuration with one family of rules."""
    return Quality(**{**dict.fromkeys(FAMILIES), family: sections.get(family, Quality.model_fields[family].default)})


@lru_cache(maxsize=200_000)
def split(run: str) -> tuple[str, ...]:
    """The words of a run of non-space characters."""
    return split_chunk(run)


def words_of(text: str, language: str | None = None) -> list[str]:
    """In place of datatrove's split_into_words."""
    return [word for run in text.split() for word in split(run)]


def sentences(line: str, language: str | None = None) -> list[str]:
    """In place of datatrove's split_into_sentences: as many strings as spaCy's sentencizer finds sentences."""
    count, seen = 1, False
    for part in re.findall(r"\S+|\s+", line):
        if part == " ":
            continue
        for word in [part] if part.isspace() else split(part):
            punctuation = all(unicodedata.category(character)[0] == "P" for character in word)
            if word in SENTENCE_ENDS:
                seen = True
            elif seen and not punctuation:
                count, seen = count + 1, False
    return [""] * count


def datatrove_filters(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """datatrove's filters of each family, on these words and sentences."""
    filters = pytest.importorskip("datatrove.pipeline.filters")
    for name in ("gopher_quality_filter", "gopher_repetition_filter", "fineweb_quality_filter"):
        monkeypatch.setattr(f"datatrove.pipeline.filters.{name}.split_into_words", words_of)
    monkeypatch.setattr("datatrove.pipeline.filters.c4_filters.split_into_sentences", sentences)
    return {
        "gopher_quality": filters.GopherQualityFilter(),
        "gopher_repetition": filters.GopherRepetitionFilter(),
        "c4": filters.C4QualityFilter(),
        "fineweb": filters.FineWebQualityFilter(),
    }


def differing(texts: Sequence[str], peer: dict[str, Any]) -> dict[str, list[int]]:
    """Per family the texts that we keep and datatrove drops, or the other way round."""
    from datatrove.data import Document

    found: dict[str, list[int]] = {}
    for family in FAMILIES:
        ours = [not failed for failed in judge_quality(texts, only(family))]
        theirs = [peer[family].filter(Document(text=text, id="")) is True for text in texts]
        found[family] = [number for number, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    return found


@pytest.mark.parametrize("row", SPACY, ids=lambda row: row["text"][:20])
def test_words_and_sentences_are_spacys(row: dict[str, Any]) -> None:
    assert words_of(row["text"]) == row["words"]
    assert len(sentences(row["text"])) == row["sentences"]
