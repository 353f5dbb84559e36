"""The self-test plants what it says, the same each time, and reports what was found of it."""

import copy
import json
from typing import Any

import phonenumbers
import pytest
from scipy.stats import binomtest
from stdnum import iban, luhn

from data_prep.curation.config import CurationSteps
from data_prep.curation.near_dedup.compared import compared_text
from data_prep.curation.near_dedup.shingles import shingle
from data_prep.curation.self_test.near_copies import levels
from data_prep.curation.self_test.personal import KINDS, invented
from data_prep.curation.self_test.plant import plant
from data_prep.curation.self_test.run import self_test
from data_prep.curation.self_test.score import score, wilson
from data_prep.curation.self_test.truth import Planted, Truth
from data_prep.errors import DataError
from data_prep.rows import Row
from tests.data_prep.decontamination_sets import hosts, questions

STEPS = CurationSteps.model_validate({"near_dedup": {}, "pii": {"action": "mask"}, "decontamination": {}})
EVALUATIONS = {"quiz": questions(20, 40)}
SHORT: list[Row] = [{"id": str(n), "text": "short text"} for n in range(90)]


def text_rows(count: int = 130) -> list[Row]:
    return [{"id": f"r{n}", "source": "s", "text": text} for n, text in enumerate(hosts(20, count))]


def chat_rows(count: int = 90) -> list[Row]:
    texts = hosts(21, 2 * count)
    return [
        {
            "id": f"c{n}",
            "source": "s",
            "messages": [{"role": "user", "content": texts[2 * n]}, {"role": "assistant", "content": texts[2 * n + 1]}],
        }
        for n in range(count)
    ]


def preference_rows(count: int = 90) -> list[Row]:
    texts = hosts(22, 3 * count)
    return [
        {"id": f"p{n}", "source": "s", "prompt": texts[n], "chosen": texts[count + n], "rejected": texts[2 * count + n]}
        for n in range(count)
    ]


@pytest.mark.parametrize("rows", [text_rows(), chat_rows(), preference_rows()], ids=["text", "chat", "preference"])
@pytest.mark.parametrize("on", ["row", "prompt", "completion"])
@pytest.mark.parametrize("words", [5, 3])
def test_planted_similarities_are_exact(rows: list[Row], on: str, words: int) -> None:
    steps = CurationSteps.model_validate({"near_dedup": {"on": on, "words": words}})
    planted = plant(rows, steps, {}, seed=3, size=40)
    by_id = {row["id"]: row for row in planted.rows}
    assert len(planted.truths) >= 35 and steps.near_dedup
    for truth in planted.truths:
        texts = [compared_text(by_id[each], steps.near_dedup.on) for each in (truth.base, truth.row)]
        hashes, offsets = shingle(texts, words).hashes, shingle(texts, words).offsets
        first, second = set(hashes[: offsets[1]].tolist()), set(hashes[offsets[1] :].tolist())
        assert truth.jaccard == len(first & second) / len(first | second)
        assert abs(truth.jaccard - float(truth.kind)) <= 0.02
        assert truth.expected == (truth.jaccard >= steps.near_dedup.threshold)


def test_the_levels_follow_the_threshold() -> None:
    for threshold in (0.5, 0.8, 0.95):
        near = CurationSteps.model_validate({"near_dedup": {"threshold": threshold}}).near_dedup
        assert near
        assert all((level > threshold) == expected for level, expected in levels(near).items())


def test_the_same_seed_plants_the_same_whatever_the_order() -> None:
    rows = text_rows()
    first, again = (plant(each, STEPS, EVALUATIONS, 5, 40) for each in (rows, rows[::-1]))
    assert first == again
    assert plant(rows, STEPS, EVALUATIONS, 6, 40) != first


def test_the_rows_of_the_user_stay_as_they_are() -> None:
    rows, evaluations = text_rows(), copy.deepcopy(EVALUATIONS)
    before = copy.deepcopy(rows)
    planted = plant(rows, STEPS, evaluations, 5, 40)
    assert (rows, evaluations) == (before, EVALUATIONS)
    assert not {row["id"] for row in rows} & {row["id"] for row in planted.rows}


def test_invented_data_is_valid_and_look_alikes_are_not() -> None:
    for number in range(40):
        values = {}
        for kind in KINDS:
            for genuine in (True, False):
                sentence, start, end = invented(kind, genuine, 1, number)
                values[kind, genuine] = sentence[start:end]
        for genuine in (True, False):
            assert iban.is_valid(values["iban", genuine], check_country=False) == genuine
            assert luhn.is_valid(values["card", genuine].replace(" ", "")) == genuine
        assert phonenumbers.is_valid_number(phonenumbers.parse(values["phone", True]))
        assert all(int(part) < 256 for part in values["ip", True].split("."))
        assert any(int(part) > 255 for part in values["ip", False].split("."))


def perfect(planted: Planted) -> dict[str, dict[str, Any]]:
    """A ledger of a curation that makes no mistake."""
    ledger = {row["id"]: {"reasons": [], "duplicate_of": None, "pii_spans": []} for row in planted.rows}
    for truth in planted.truths:
        if truth.expected and truth.step == "pii":
            span = {"part": truth.part, "start": truth.start, "end": truth.end, "kind": truth.kind}
            ledger[truth.row]["pii_spans"] = [{**span, "score": 0.9, "rule": ""}]
        elif truth.expected:
            ledger[truth.row] |= {"reasons": [f"{truth.step}: found"], "duplicate_of": truth.base or None}
    return ledger


def test_the_report_of_a_perfect_and_of_an_idle_curation() -> None:
    planted = plant(text_rows(), STEPS, EVALUATIONS, 5, 40)
    best = score(planted, perfect(planted), STEPS)
    idle = {row["id"]: {"reasons": [], "duplicate_of": None, "pii_spans": None} for row in planted.rows}
    worst = score(planted, idle, STEPS)
    for step in ("near_dedup", "pii", "decontamination"):
        assert best[step]["recall"]["value"] == best[step]["precision"]["value"] == best[step]["spared"]["value"] == 1
        assert worst[step]["recall"]["value"] == 0 and worst[step]["found"] == 0 < worst[step]["planted"]
        assert sum(each["planted"] for each in best[step]["kinds"].values()) == best[step]["planted"]
    assert best["near_dedup"]["below_threshold"]["below_threshold"] == 0


def test_counts_by_hand() -> None:
    truths = [Truth("decontamination", "whole", True, f"w{n}") for n in range(4)]
    truths += [Truth("decontamination", "look-alike", False, f"n{n}") for n in range(5)]
    ledger = {truth.row: {"reasons": [], "duplicate_of": None} for truth in truths}
    for row in ("w0", "w1", "w2", "n0"):
        ledger[row]["reasons"] = ["language: de", "decontamination: 0.90 of it"]
    ledger["w3"]["reasons"] = ["near_dedup: another step"]
    report = score(Planted([], truths, {}), ledger, CurationSteps.model_validate({"decontamination": {}}))
    found = report["decontamination"]
    assert (found["planted"], found["found"], found["look_alikes"], found["wrongly_found"]) == (4, 3, 5, 1)
    assert (found["recall"]["value"], found["spared"]["value"], found["precision"]["value"]) == (0.75, 0.8, 0.75)


def test_other_findings_in_the_row_do_not_count() -> None:
    steps = CurationSteps.model_validate({"pii": {"action": "mask"}})
    truth = Truth("pii", "email", True, "p", part="text", start=9, end=25)
    for start, kind, part, found in ((90, "email", "text", 0), (9, "card", "text", 0), (9, "email", "prompt", 0)):
        span = {"part": part, "start": start, "end": start + 16, "kind": kind, "score": 0.9, "rule": ""}
        ledger = {"p": {"reasons": [], "duplicate_of": None, "pii_spans": [span]}}
        assert score(Planted([], [truth], {}), ledger, steps)["pii"]["found"] == found


def test_rows_that_are_contaminated_already_are_not_planted_into() -> None:
    steps = CurationSteps.model_validate({"decontamination": {}})
    leaks = [f"{text} {EVALUATIONS['quiz'][n]['prompt']}" for n, text in enumerate(hosts(23, 20))]
    rows = text_rows(20) + [{"id": f"leak{n}", "text": text} for n, text in enumerate(leaks)]
    planted = plant(rows, steps, EVALUATIONS, 1)
    assert len(planted.truths) == 20
    assert "hold no item already" in plant(rows[20:], steps, EVALUATIONS, 1).not_tested["decontamination"]


@pytest.mark.parametrize("found, total", [(0, 7), (7, 7), (3, 11), (199, 200), (0, 1)])
def test_intervals_are_wilsons(found: int, total: int) -> None:
    expected = binomtest(found, total).proportion_ci(0.95, method="wilson")
    assert wilson(found, total) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_removal_below_the_threshold_is_told() -> None:
    planted = plant(text_rows(), CurationSteps.model_validate({"near_dedup": {}}), {}, 5, 40)
    ledger = perfect(planted)
    below = next(truth for truth in planted.truths if not truth.expected)
    ledger[below.row] |= {"reasons": ["near_dedup: similarity 0.80"], "duplicate_of": below.base}
    report = score(planted, ledger, CurationSteps.model_validate({"near_dedup": {}}))["near_dedup"]
    assert report["wrongly_found"] == 1 and report["below_threshold"]["below_threshold"] == 1


def test_nothing_planted_is_in_the_report() -> None:
    seen: list[Row] = []

    def run(rows: list[Row]) -> dict[str, dict[str, Any]]:
        seen.extend(rows)
        return perfect(plant(text_rows(), STEPS, EVALUATIONS, 5, 40))

    report = json.dumps(self_test(text_rows(), STEPS, EVALUATIONS, 5, run, 40))
    assert seen and all(row["id"] not in report for row in seen)
    for row in seen:
        assert not any(line in report for line in row["text"].split("\n") if len(line) > 12)


@pytest.mark.parametrize(
    "rows, evaluations, step, reason",
    [
        (text_rows(12), EVALUATIONS, "pii", "not tested: 4 rows that can be planted into, at least 10 are needed"),
        (
            [{"id": str(n), "text": "short text"} for n in range(90)],
            EVALUATIONS,
            "near_dedup",
            "0 of 30 rows are long enough",
        ),
        (text_rows(), {}, "decontamination", "none of 0 evaluation items has a question of 10 words"),
        ([], EVALUATIONS, "decontamination", "not tested: 0 rows"),
    ],
)
def test_what_cannot_be_tested_is_said(rows: list[Row], evaluations: Any, step: str, reason: str) -> None:
    planted = plant(rows, STEPS, evaluations, 5)
    report = self_test(rows, STEPS, evaluations, 5, lambda _: perfect(planted))
    assert reason in report[step]["not_tested"] and set(report[step]) == {"not_tested"}


def test_only_steps_that_are_on_are_tested() -> None:
    assert "none of the steps" in self_test(text_rows(), CurationSteps(), {}, 1, lambda _: {})["not_tested"]
    steps = CurationSteps.model_validate({"pii": {"action": "mask", "kinds": ["email", "national_id"]}})
    planted = plant(text_rows(), steps, {}, 1, 20)
    assert {(truth.step, truth.kind) for truth in planted.truths} == {("pii", "email")}


def test_a_ledger_without_a_planted_row_is_an_error() -> None:
    with pytest.raises(DataError, match="self_test: the ledger has no line of the planted row self-test-near-0"):
        self_test(text_rows(), STEPS, EVALUATIONS, 5, lambda _: {})
