"""Read one data set: source → records → canonical rows → ids and splits → a dataset folder."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.formats import Adapter, choose_adapter
from data_prep.hub import read_hub
from data_prep.lead import Shortener, make_shortener
from data_prep.progress import Track, silent
from data_prep.readers import Record, read_file
from data_prep.rows import Row, write_rows, write_stats
from data_prep.sources import resolve_files
from data_prep.splits import by_split, with_ids
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


def load(
    name: str, config: DatasetConfig, out: Path, tokenizer_file: Path | None, track: Track = silent
) -> dict[str, Any]:
    """Read data set `name` and write it to the dataset folder `out`; the source is never changed.

    `out` gets train.jsonl, validation.jsonl, test.jsonl (rows sorted by id, each with `source: name`) and stats.json;
    `tokenizer_file` is a tokenizer.json, needed with `config.lead`. Returns what stats.json holds: read (broken rows
    included), broken, shortened, lead, limited (rows beyond `limit`), rows, splits, format, role, broken_examples.

    Raises:
        DataError: the source is missing or damaged, the columns fit no format, a row is broken, nothing is left.
    """
    broken = Broken(name, config.on_error)
    records = _good(track(_records(config, name), f"{name}: read"), broken)
    adapter = _adapter(name, config, records, broken)
    shortener = _shortener(name, config, tokenizer_file, records, adapter)
    adapted = _adapted(track(records, f"{name}: adapt", total=len(records)), adapter, shortener, broken)
    named = with_ids(adapted, name)
    rows = named[: config.limit]
    parts = by_split(rows, config.splits if config.role == "train" else None)
    _check_splits(name, config, parts, broken)
    for split, part in parts.items():
        write_rows(out, split, part)
    stats = {
        "read": len(named) + broken.count,
        "broken": broken.count,
        "shortened": shortener.shortened if shortener else 0,
        "lead": _lead_stats(shortener),
        "limited": len(named) - len(rows),
        "rows": len(rows),
        "splits": {split: len(part) for split, part in parts.items()},
        "format": adapter.format.name,
        "role": config.role,
        "broken_examples": broken.examples,
    }
    write_stats(out, stats)
    return stats


def _records(config: DatasetConfig, name: str) -> Iterator[Record]:
    files = resolve_files(config.source)
    for setting in ("revision", "subset", "split"):
        if files and getattr(config, setting) is not None:
            raise DataError(f"data.{name}.{setting}: only for Hub data sets, but {config.source} is local; remove it")
    if not files:
        yield from read_hub(config.source, config.revision, config.subset, config.split)
    for path in files:
        yield from read_file(path)


def _good(records: Iterable[Record], broken: Broken) -> list[Record]:
    good: list[Record] = []
    for record in records:
        if record.error:
            broken.note(record, record.error)
        else:
            good.append(record)
    return good


def _adapter(name: str, config: DatasetConfig, records: list[Record], broken: Broken) -> Adapter:
    if not records:
        raise DataError(f"data.{name}: none of its {broken.count} rows can be read; look at the file {config.source}")
    counts = Counter(column for record in records for column in record.row)
    # Columns of most rows decide the format: one odd row must not, wherever it stands.
    common = [column for column, count in counts.items() if 2 * count >= len(records)]
    return choose_adapter(name, config, list(counts), common)


def _shortener(
    name: str, config: DatasetConfig, tokenizer_file: Path | None, records: list[Record], adapter: Adapter
) -> Shortener | None:
    if config.lead is None:
        return None
    known = {column for record in records for column in adapter.view(record.row)}
    if config.lead.field not in known:
        listed = ", ".join(sorted(known))
        raise DataError(f"data.{name}.lead.field: there is no column {config.lead.field}; the columns are {listed}")
    # A mapped column stands in the row under both names; a template may use either.
    names = {column for pair in config.columns.items() if config.lead.field in pair for column in pair}
    return make_shortener(config.lead, (config.lead.field, *sorted(names)), tokenizer_file, name)


def _adapted(records: Iterable[Record], adapter: Adapter, shortener: Shortener | None, broken: Broken) -> Iterator[Row]:
    for record in records:
        view = adapter.view(record.row)
        if shortener:
            shortener.shorten(view)
        try:
            yield adapter.adapt(view)
        except BrokenRow as error:
            broken.note(record, str(error))


def _check_splits(name: str, config: DatasetConfig, parts: dict[str, list[Row]], broken: Broken) -> None:
    rows = sum(len(part) for part in parts.values())
    if not rows:
        example = broken.examples[0]
        place = f"{example['file']}:{example['line']}: {example['error']}"
        raise DataError(f"data.{name}: all {broken.count} rows are broken (first: {place}); fix the file or the format")
    if config.role == "train" and config.splits.train > 0 and not parts["train"]:
        advice = f"raise data.{name}.splits.train, change its seed, or add rows"
        raise DataError(f"data.{name}: none of its {rows} rows fell into the train split; {advice}")


def _lead_stats(shortener: Shortener | None) -> dict[str, Any] | None:
    if shortener is None:
        return None
    return {"max_tokens": shortener.max_tokens, "tokens_kept_share": round(shortener.kept_share, 4)}
