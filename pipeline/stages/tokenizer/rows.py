"""The text that a tokenizer learns from."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from data_prep.progress import Track
from data_prep.rows import SPLITS, iterate_rows, parts_of


def training_texts(inputs: Mapping[str, Path], track: Track) -> Iterator[str]:
    """All text of the training splits; evaluation rows never shape a tokenizer."""
    for label, folder in sorted(inputs.items()):
        if label.startswith("rows."):
            for row in track(iterate_rows(folder, SPLITS[0]), f"read {label.removeprefix('rows.')}"):
                yield from parts_of(row).values()
