"""Accuracy by group and the gap between groups: Winogender (Rudinger et al. 2018), or any rows with a `group`.

Rows whose ids differ only behind the last `/` are twins, such as the same sentence with other pronouns: they are drawn
together, so that the interval of a gap knows that its two sides answered the same question.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from eval.choice.items import ChoiceItem
from eval.choice.metrics import paired, picks
from eval.config import StatisticsConfig
from eval.fairness.config import WinogenderConfig
from eval.fairness.measures import Entry, Measure, changes, summarise

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
_PRONOUN = re.compile(r"\b(she|hers|herself|her|he|his|himself|him)\b", re.IGNORECASE)
_SWAPPED = {"she": "he", "hers": "his", "herself": "himself", "he": "she", "himself": "herself", "him": "her"}
_AFTER_OBJECT = re.compile(
    r"\s*(?:$|[^\w\s]|(?:to|that|if|in|on|at|and|or|but|with|for|from|about|as|by|when|the|a)\b)"
)


def with_twins(items: Sequence[ChoiceItem]) -> list[ChoiceItem]:
    """Every item as it is and with the pronouns of the other gender; ids `<id>/female` and `<id>/male`.

    DataError for an item without a pronoun, or with pronouns of both genders.
    """
    twins = []
    for item in items:
        gender = _gender(item)
        other = "male" if gender == "female" else "female"
        twins.append(item._replace(id=f"{item.id}/{gender}", group=gender))
        swapped = item._replace(question=swap_pronouns(item.question), passage=swap_pronouns(item.passage))
        twins.append(swapped._replace(id=f"{item.id}/{other}", group=other))
    return twins


def score_winogender(
    model: Any,
    tokenizer: Any,
    items: Sequence[ChoiceItem],
    config: WinogenderConfig,
    track: Track = silent,
    partial: Path | None = None,
) -> Rows:
    """Rows of `eval.choice.score` with a group; `max_rows` counts twins one by one."""
    from eval.choice.score import score_choice

    asked = with_twins(items) if config.twins else items
    return score_choice(model, tokenizer, asked, config, track, partial=partial)


def swap_pronouns(text: str) -> str:
    """The other gender's pronouns. English needs two guesses: `her` becomes him before punctuation or a function word
    and his otherwise; a quoted `her` becomes what the first one in the text became. `his` becomes her before a word."""
    chosen: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        word, after = match[0].lower(), text[match.end() :]
        if word == "her":
            quoted = text[max(0, match.start() - 1) : match.start()] == '"' and after[:1] == '"'
            new = chosen.get("her", "his") if quoted else ("him" if _AFTER_OBJECT.match(after) else "his")
            chosen.setdefault("her", new)
        elif word == "his":
            new = "her" if re.match(r'\s+\w|"', after) else "hers"
        else:
            new = _SWAPPED[word]
        return new.capitalize() if match[0][0].isupper() else new

    return _PRONOUN.sub(other, text)


def group_measures(rows: Sequence[Row]) -> list[Measure]:
    """`accuracy/<group>` of each group, and `gap` (neutral 0): of two groups the first in the alphabet minus the
    second, of more the best minus the worst. DataError for rows without a group, or of one group only."""
    missing = next((row["id"] for row in rows if not row.get("group")), None)
    groups = sorted({row.get("group", "") for row in rows})
    if missing is not None or len(groups) < 2:
        found = f"item {missing} has none" if missing is not None else f"found {', '.join(groups) or 'none'}"
        raise DataError(f"groups: {found}; every item needs a group, and at least two groups")
    columns = _columns(rows, groups)

    def accuracies(sums: np.ndarray) -> np.ndarray:
        return sums[..., 0::2] / np.maximum(sums[..., 1::2], 1)

    def gap(sums: np.ndarray) -> np.ndarray:
        values = accuracies(sums)
        return values[..., 0] - values[..., 1] if len(groups) == 2 else values.max(axis=-1) - values.min(axis=-1)

    shares = [
        Measure(f"accuracy/{name}", columns, lambda sums, at=at: accuracies(sums)[..., at])
        for at, name in enumerate(groups)
    ]
    return [*shares, Measure("gap", columns, gap, neutral=0.0)]


def group_metrics(rows: Sequence[Row], statistics: StatisticsConfig | None = None) -> dict[str, dict[str, float | int]]:
    """Every measure of one model with its interval."""
    return summarise(group_measures(rows), statistics or StatisticsConfig())


def compare_groups(base: Sequence[Row], tuned: Sequence[Row], statistics: StatisticsConfig) -> dict[str, Entry]:
    """The change of every measure; DataError where the two models were not asked the same."""
    both = paired(base, tuned)
    return changes(group_measures([one for one, _ in both]), group_measures([two for _, two in both]), statistics)


def _columns(rows: Sequence[Row], groups: Sequence[str]) -> np.ndarray:
    """(twins, 2 · groups): right answers and items of each group."""
    clusters: dict[str, np.ndarray] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        sums = clusters.setdefault(row["id"].rpartition("/")[0] or row["id"], np.zeros(2 * len(groups)))
        at = 2 * groups.index(row["group"])
        sums[at] += picks(row)[0] == row["gold"]
        sums[at + 1] += 1
    return np.array(list(clusters.values()))


def _gender(item: ChoiceItem) -> str:
    found = {match[0].lower() for match in _PRONOUN.finditer(f"{item.passage} {item.question}")}
    genders = {"female" if word in ("she", "her", "hers", "herself") else "male" for word in found}
    if len(genders) != 1:
        raise DataError(f"item {item.id}: has {'no pronoun' if not genders else 'pronouns of both genders'}; drop it")
    return genders.pop()
