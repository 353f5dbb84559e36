"""The bundled classifier on texts that it was not trained on, and on those that classifiers wrongly flag."""

import pytest

from data_prep.curation.toxicity.config import Toxicity
from data_prep.curation.toxicity.dialect import dialect_sentences
from data_prep.curation.toxicity.identity import NEW_GROUPS, TRAINED_GROUPS, measured_sentences, training_sentences
from data_prep.curation.toxicity.measured_on import harmless_news, harmless_reviews, toxic_texts
from data_prep.curation.toxicity.report import toxicity_report
from data_prep.curation.toxicity.scorer import make_scorer
from data_prep.curation.toxicity.train import runs_of
from data_prep.errors import DataError


class Alphabet:
    """A scorer whose scores are known: the share of the letter x."""

    def scores(self, texts: list[str]) -> list[dict[str, float]]:
        return [{"toxicity": text.count("x") / max(len(text), 1)} for text in texts]


def test_the_report_counts() -> None:
    report = toxicity_report(Alphabet(), 0.5, ["xxx", "xa", "aaa", "xxxa"], [True, True, False, False])  # pyright: ignore
    assert report["labelled"] | {"low": 0, "high": 0} == {
        **{"n": 4, "auc": 0.75, "low": 0, "high": 0},
        **{"recall": 0.5, "false_positive_rate": 0.5},
    }
    assert toxicity_report(Alphabet(), 0.5)["labelled"] is None  # pyright: ignore
    with pytest.raises(DataError, match="2 texts but 1 labels; give one label per text"):
        toxicity_report(Alphabet(), 0.5, ["a", "b"], [True])  # pyright: ignore
    with pytest.raises(DataError, match="2 of 2 texts are toxic; both classes are needed"):
        toxicity_report(Alphabet(), 0.5, ["a", "b"], [True, True])  # pyright: ignore


def test_what_is_measured_was_not_trained_on() -> None:
    measured = [text for texts in measured_sentences().values() for text in texts]
    assert len(measured) >= 500 and len(set(measured)) == len(measured)
    assert set(measured).isdisjoint(training_sentences())
    assert not {group.lower() for group in NEW_GROUPS} & {group.lower() for group in TRAINED_GROUPS}
    assert not any(group in text for group in NEW_GROUPS for text in training_sentences())
    assert sum(map(len, dialect_sentences().values())) >= 60


def test_names_of_groups_and_dialect_are_not_flagged() -> None:
    report = toxicity_report(make_scorer(Toxicity()), Toxicity().max_score)
    for kind in ("identity", "dialect"):
        for name, found in report[kind].items():
            assert found["false_positive_rate"] <= 0.01, (name, found)  # measured: see the card


def test_runs_of_words_find_an_overlap() -> None:
    text = " ".join(f"word{number}" for number in range(20))
    assert runs_of([text]) & runs_of(["Before, " + text.upper() + " after."])
    assert not runs_of([text]) & runs_of([" ".join(text.split()[:12])])
    assert runs_of(["Short one!"]) & runs_of(["short ONE"])


@pytest.mark.parametrize("domain", ["news", "reviews"])
def test_auc_on_toxic_texts_against_an_unseen_domain(domain: str) -> None:
    try:
        toxic, harmless = toxic_texts(), harmless_news() if domain == "news" else harmless_reviews()
    except DataError as error:
        pytest.skip(str(error))
    assert len(toxic) >= 900 and len(harmless) >= 900
    labels = [True] * len(toxic) + [False] * len(harmless)
    found = toxicity_report(make_scorer(Toxicity()), Toxicity().max_score, toxic + harmless, labels)["labelled"]
    assert found["auc"] >= 0.95, found
