"""Items of an evaluation in the training data: to score it without them when it was added after training."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.counts import Counts, boilerplate, merge
from data_prep.curation.decontamination.index import Index, index_units
from data_prep.curation.decontamination.items import units_of
from data_prep.curation.decontamination.matches import Match, measured
from data_prep.curation.decontamination.step import search_rows
from data_prep.progress import Track, silent
from data_prep.rows import Row, iterate_rows, write_whole

ROWS_AT_ONCE = 2000
STRONGEST = 4
"""Matches that are remembered of each text of an item until boilerplate is known."""

CONTAMINATED = "contaminated.jsonl"
SUMMARY = "overlap.json"


class Held(NamedTuple):
    """A text of an item in a training row."""

    match: Match
    dataset: str
    row: str
    part: str

    @property
    def order(self) -> tuple[Any, ...]:
        """Stronger ones first, whatever the order in which they were found."""
        return -self.match.share, -self.match.hits, self.dataset, self.row, self.part


class Overlap(NamedTuple):
    """What was found."""

    contaminated: list[dict[str, Any]]
    """One per item, in the order of the evaluation: `id`, `dataset`, `side`, `share`, `hits` and, of the training row
    that holds most of it, `row_dataset`, `row`, `part`, `start`, `end`, `text`."""
    numbers: dict[str, dict[str, int]]
    """Per evaluation: items, contaminated, and the texts that cannot be looked for (too_short, boilerplate)."""
    rows: int
    """Training rows that were read."""

    def write(self, out: Path) -> None:
        """Write contaminated.jsonl and overlap.json (the numbers)."""
        lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in self.contaminated)
        write_whole(out / CONTAMINATED, lines.encode("utf-8", "surrogatepass"))
        summary = {"training_rows": self.rows, "evaluations": self.numbers}
        write_whole(out / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())


def overlap(
    training: dict[str, Path], evaluations: dict[str, Path], config: Decontamination, track: Track = silent
) -> Overlap:
    """Find the items of evaluations in the train splits of training data.

    The training rows are read once, batch by batch; memory grows with the evaluations alone.

    Args:
        training: name → dataset folder.
        evaluations: name → dataset folder; all splits count.
        config: the settings; `against` has no effect, since the evaluations are given.
        track: shows the progress.
    """
    index = index_units(units_of(evaluations, config), config)
    strongest, counts = dict[int, list[Held]](), Counts.none()
    for name, batch in track(_batches(training), "overlap with the training data"):
        found, new = search_rows(batch, index, config)
        counts = merge([counts, new])
        for row, matches in zip(batch, found, strict=True):
            for part, match in matches:
                held = strongest.setdefault(match.unit, [])
                held.append(Held(match, name, str(row["id"]), part))
                held.sort(key=lambda each: each.order)
                del held[STRONGEST:]
    best = _contaminated(strongest, index, counts, config)
    numbers = {name: {**each, "contaminated": 0} for name, each in index.numbers.items()}
    for each in best:
        numbers[each["dataset"]]["contaminated"] += 1
    return Overlap(best, numbers, counts.rows)


def _contaminated(
    strongest: dict[int, list[Held]], index: Index, counts: Counts, config: Decontamination
) -> list[dict[str, Any]]:
    dropped, items = boilerplate(counts, index, config), dict[tuple[str, str], Held]()
    for unit in sorted(strongest):
        for held in strongest[unit]:
            share, hits = measured(index, unit, held.match.runs, dropped)
            if share <= config.max_share and hits <= config.max_hits:
                continue
            held = held._replace(match=held.match._replace(share=share, hits=hits))
            item = (held.match.dataset, held.match.item)
            items[item] = min(items.get(item, held), held, key=lambda each: each.order)
    return [_record(held) for held in items.values()]


def _record(held: Held) -> dict[str, Any]:
    match = held.match
    item = {"id": match.item, "dataset": match.dataset, "side": match.side, "share": match.share, "hits": match.hits}
    row = {"row_dataset": held.dataset, "row": held.row, "part": held.part}
    return item | row | {"start": match.start, "end": match.end, "text": match.text}


def _batches(training: dict[str, Path]) -> Iterator[tuple[str, list[Row]]]:
    for name, folder in sorted(training.items()):
        rows = iterate_rows(folder, "train")
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            yield name, batch
