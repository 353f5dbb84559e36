"""Read one data set: source → records → canonical rows → ids and splits → a dataset folder."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, Literal

from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.formats import Adapter, choose_adapter, stored
from data_prep.hub import hub_records, load_hub
from data_prep.lead import Shortener, make_shortener
from data_prep.progress import Track, silent
from data_prep.readers import read_file
from data_prep.records import Record
from data_prep.rows import SPLITS, Row, write_splits, write_stats
from data_prep.sources import resolve_files
from data_prep.splits import row_id, split_of
from data_prep.spool import Spool, spill_folder
from data_prep.templates import BrokenRow

MAX_EXAMPLES = 20


@dataclass
class Broken:
    """The broken rows of a data set: refused at the first one, or counted with a few kept as examples."""

    name: str
    on_error: Literal["fail", "skip"]
    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def note(self, record: Record, error: str) -> None:
        """Refuse or count one broken row."""
        if self.on_error == "fail":
            advice = f"fix the line, or set data.{self.name}.on_error=skip"
            raise DataError(f"{record.file}:{record.line}: {error}; {advice}")
        self.count += 1
        if len(self.examples) < MAX_EXAMPLES:
            # The file's name alone: a report must not depend on the folder of the machine it was made on.
            self.examples.append({"file": Path(record.file).name, "line": record.line, "error": error})


@dataclass(frozen=True)
class Survey:
    """What the first reading of a source finds: its records, the good ones, and how many of these have each column."""

    records: int
    good: int
    columns: Counter[str]


def load(
    name: str, config: DatasetConfig, out: Path, tokenizer_file: Path | None, track: Track = silent
) -> dict[str, Any]:
    """Read data set `name` and write it to the dataset folder `out`; the source is never changed.

    The source is read twice, first for its columns; rows are put in order on disk (`out/.spill`, as large as the rows,
    gone afterwards), so that memory does not grow with their number. `out` gets train.jsonl, validation.jsonl,
    test.jsonl (rows sorted by id, each with `source: name`) and stats.json; `tokenizer_file` is a tokenizer.json,
    needed with `config.lead`. Returns what stats.json holds: read (canonical and broken rows), broken, shortened, lead,
    limited (rows beyond `limit`), rows, splits, format, role, broken_examples.

    Raises:
        DataError: the source is missing or damaged, the columns fit no format, a row is broken, nothing is left.
    """
    broken = Broken(name, config.on_error)
    records = _asked_for(_source(config, name), name, config.only)
    survey = _survey(track(records(), f"{name}: read"), broken)
    adapter = _adapter(name, config, survey, broken)
    shortener = _shortener(name, config, tokenizer_file, survey.columns)
    with spill_folder(out) as spill:
        spool = Spool(spill / "rows")
        adapted = _adapted(track(records(), f"{name}: adapt", total=survey.records), adapter, shortener, broken)
        made = _spill(adapted, spool)
        splits = _write(name, config, spool, out, broken)
    rows = sum(splits.values())
    stats = {
        "read": made + broken.count,
        "broken": broken.count,
        "shortened": shortener.shortened if shortener else 0,
        "lead": _lead_stats(shortener),
        "limited": made - rows,
        "rows": rows,
        "splits": splits,
        "format": adapter.format.name,
        "role": config.role,
        "broken_examples": broken.examples,
        **_not_asked_for(name, config, survey),
    }
    write_stats(out, stats)
    return stats


def _source(config: DatasetConfig, name: str) -> Callable[[], Iterator[Record]]:
    """What reads the source from its beginning, each time anew."""
    files = resolve_files(config.source)
    for setting in ("revision", "subset", "split"):
        if files and getattr(config, setting) is not None:
            raise DataError(f"data.{name}.{setting}: only for Hub data sets, but {config.source} is local; remove it")
    if files:
        return lambda: chain.from_iterable(read_file(path, config.max_row_bytes) for path in files)
    found = load_hub(config.source, config.revision, config.subset, config.split)
    return lambda: hub_records(found, config.source)


def _asked_for(
    records: Callable[[], Iterator[Record]], name: str, only: Mapping[str, Any]
) -> Callable[[], Iterator[Record]]:
    """The records that hold what `only` says, and those that cannot be read, which are counted as broken."""

    def holds(record: Record) -> bool:
        missing = next((column for column in only if column not in record.row), None)
        if missing is not None:
            place, listed = f"{record.file}:{record.line}", ", ".join(map(str, record.row))
            raise DataError(f"data.{name}.only.{missing}: {place} has no such column; its columns are {listed}")
        return all(record.row[column] == value for column, value in only.items())

    return (lambda: (each for each in records() if each.error or holds(each))) if only else records


def _not_asked_for(name: str, config: DatasetConfig, survey: Survey) -> dict[str, int]:
    return {"not_asked_for": sum(1 for _ in _source(config, name)()) - survey.records} if config.only else {}


def _survey(records: Iterable[Record], broken: Broken) -> Survey:
    count, good, columns = 0, 0, Counter[str]()
    for record in records:
        count += 1
        if record.error:
            broken.note(record, record.error)
        else:
            good += 1
            columns.update(record.row.keys())
    return Survey(count, good, columns)


def _adapter(name: str, config: DatasetConfig, survey: Survey, broken: Broken) -> Adapter:
    if not survey.good and config.only and not broken.count:
        raise DataError(f"data.{name}.only: no row of {config.source} holds {config.only}; check the values")
    if not survey.good:
        raise DataError(f"data.{name}: none of its {broken.count} rows can be read; look at the file {config.source}")
    # Columns of most rows decide the format: one odd row must not, wherever it stands.
    common = [column for column, count in survey.columns.items() if 2 * count >= survey.good]
    return choose_adapter(name, config, list(survey.columns), common)


def _shortener(
    name: str, config: DatasetConfig, tokenizer_file: Path | None, columns: Collection[str]
) -> Shortener | None:
    if config.lead is None:
        return None
    known = set(columns) | set(config.columns)
    if config.lead.field not in known:
        listed = ", ".join(sorted(known))
        raise DataError(f"data.{name}.lead.field: there is no column {config.lead.field}; the columns are {listed}")
    # A mapped column stands in the row under both names; a template may use either.
    names = {column for pair in config.columns.items() if config.lead.field in pair for column in pair}
    return make_shortener(config.lead, (config.lead.field, *sorted(names)), tokenizer_file, name)


def _adapted(
    records: Iterable[Record], adapter: Adapter, shortener: Shortener | None, broken: Broken
) -> Iterator[tuple[Row, str]]:
    """Every canonical row, and the same as JSON; records that could not be read were noted before."""
    for record in records:
        if record.error:
            continue
        view = adapter.view(record.row)
        if shortener:
            shortener.shorten(view)
        try:
            yield from [(row, stored(row)) for row in adapter.adapt(view, record.row)]
        except BrokenRow as error:
            broken.note(record, str(error))


def _spill(rows: Iterable[tuple[Row, str]], spool: Spool) -> int:
    made = 0
    for row, line in rows:
        spool.add(row_id(row), line.encode())
        made += 1
    return made


def _write(name: str, config: DatasetConfig, spool: Spool, out: Path, broken: Broken) -> dict[str, int]:
    """Write the rows in the order of their ids, up to `limit`; how many each split got."""
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    named = (pair for identity, lines in spool.groups() for pair in _numbered(identity, lines))
    begin = f', "source": {json.dumps(name, ensure_ascii=False)}, '.encode()
    with write_splits(out) as write:
        for identity, line in islice(named, config.limit):
            split = split_of(identity, config.splits) if config.role == "train" else "test"
            counts[split] += 1
            write(split, b'{"id": "%b"%b%b' % (identity.encode(), begin, line[1:]))
        _check_splits(name, config, counts, broken)
    return counts


def _numbered(identity: str, lines: Counter[bytes]) -> Iterator[tuple[str, bytes]]:
    """The rows of one id as `with_ids` names them, in the order of these names."""
    # Different rows of one id are possible (a text, and the same prompt with an empty completion): content decides.
    ordered = sorted(lines, key=lambda line: json.dumps(json.loads(line))) if len(lines) > 1 else list(lines)
    repeats = chain.from_iterable(repeat(line, lines[line]) for line in ordered)
    named = ((f"{identity}#{number}" if number > 1 else identity, line) for number, line in enumerate(repeats, start=1))
    return iter(sorted(named)) if lines.total() > 1 else named


def _check_splits(name: str, config: DatasetConfig, counts: dict[str, int], broken: Broken) -> None:
    rows = sum(counts.values())
    if not rows:
        example = broken.examples[0]
        place = f"{example['file']}:{example['line']}: {example['error']}"
        raise DataError(f"data.{name}: all {broken.count} rows are broken (first: {place}); fix the file or the format")
    if config.role == "train" and config.splits.train > 0 and not counts["train"]:
        advice = f"raise data.{name}.splits.train, change its seed, or add rows"
        raise DataError(f"data.{name}: none of its {rows} rows fell into the train split; {advice}")


def _lead_stats(shortener: Shortener | None) -> dict[str, Any] | None:
    if shortener is None:
        return None
    return {"max_tokens": shortener.max_tokens, "tokens_kept_share": round(shortener.kept_share, 4)}
