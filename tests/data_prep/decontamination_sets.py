"""Made-up evaluations and documents: words drawn as in a language, a few very often and most rarely."""

import random
from pathlib import Path

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.index import Index, index_units
from data_prep.curation.decontamination.items import dataset_units
from data_prep.rows import Row, write_rows

_WORDS = ["".join(random.Random(n).choices("abcdefghijklmnoprstuvwz", k=2 + n % 9)) for n in range(6000)]
_WEIGHTS = [1 / (rank + 3) for rank in range(len(_WORDS))]


def sentence(draw: random.Random, words: int) -> str:
    """A sentence of so many words; now and then a number."""
    drawn = draw.choices(_WORDS, _WEIGHTS, k=words)
    drawn = [str(draw.randrange(2, 900)) if draw.random() < 0.06 else word for word in drawn]
    return " ".join(drawn).capitalize() + "."


def document(draw: random.Random, sentences: int = 12) -> str:
    """Several sentences."""
    return " ".join(sentence(draw, draw.randrange(6, 22)) for _ in range(sentences))


def questions(seed: int, rows: int = 120) -> list[Row]:
    """Multiple-choice questions with options in the prompt."""
    draw = random.Random(f"questions {seed}")
    return [_question(draw, number) for number in range(rows)]


def _question(draw: random.Random, number: int) -> Row:
    opening = draw.choice(("Which of the following best describes", "Which of these is", "How many are"))
    stem = f"Question: {opening} {sentence(draw, draw.randrange(9, 25))[:-1].lower()}?"
    options = [sentence(draw, draw.randrange(1, 5))[:-1] for _ in range(4)]
    lines = [f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True)]
    return {"id": f"q{number}", "source": "made up", "prompt": "\n".join([stem, *lines]), "completion": options[1]}


def passages(seed: int, rows: int = 60) -> list[Row]:
    """Long texts."""
    draw = random.Random(f"passages {seed}")
    return [{"id": f"p{n}", "source": "made up", "text": document(draw, 8)} for n in range(rows)]


def hosts(seed: int, rows: int = 300) -> list[str]:
    """Documents that hold nothing of the evaluations."""
    draw = random.Random(f"hosts {seed}")
    return [document(draw) for _ in range(rows)]


def index_of(sets: dict[str, list[Row]], config: Decontamination) -> Index:
    """The index of sets of rows, in memory."""
    return index_units((unit for name in sorted(sets) for unit in dataset_units(name, sets[name], config)), config)


def folder_of(rows: list[Row], folder: Path, split: str = "test") -> Path:
    """A dataset folder with these rows."""
    write_rows(folder, split, rows)
    return folder
