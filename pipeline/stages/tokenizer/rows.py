"""The text that a tokenizer learns from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.progress import Track
from data_prep.rows import SPLITS, iterate_rows, parts_of


@dataclass(frozen=True)
class TrainingTexts:
    """All text of the training splits, read anew each time; evaluation rows never shape a tokenizer."""

    inputs: Mapping[str, Path]
    track: Track

    def __iter__(self) -> Iterator[str]:
        for label, folder in sorted(self.inputs.items()):
            if label.startswith("rows."):
                for row in self.track(iterate_rows(folder, SPLITS[0]), f"read {label.removeprefix('rows.')}"):
                    yield from parts_of(row).values()
