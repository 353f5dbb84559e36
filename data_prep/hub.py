"""Rows of a data set on the Hugging Face Hub, through `datasets`."""

from collections.abc import Iterator
from typing import Any

from data_prep.errors import DataError
from data_prep.records import Record


def load_hub(source: str, revision: str | None, subset: str | None, split: str | None) -> Any:
    """One split of a Hub data set; DataError in one line when it cannot be had."""
    import datasets

    try:
        found = datasets.load_dataset(source, name=subset, split=split, revision=revision)
    # Offline, not found, gated, unknown subset or split, a loading script: every layer below has its own class.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        advice = "check the id, revision, subset and split, or give a local file as the source"
        raise DataError(
            f"{source}: cannot be loaded from the Hub ({type(error).__name__}: {reason}); {advice}"
        ) from error
    if isinstance(found, dict):
        if len(found) > 1:
            raise DataError(f"{source}: has the splits {', '.join(map(str, found))}; name one in data.NAME.split")
        found = next(iter(found.values()))
    return found


def hub_records(found: Any, source: str) -> Iterator[Record]:
    """All records of a data set that `load_hub` gave."""
    return (Record(source, number, dict(row)) for number, row in enumerate(found, start=1))


def read_hub(source: str, revision: str | None, subset: str | None, split: str | None) -> Iterator[Record]:
    """All records of one split of a Hub data set; DataError in one line when it cannot be had."""
    return hub_records(load_hub(source, revision, subset, split), source)
