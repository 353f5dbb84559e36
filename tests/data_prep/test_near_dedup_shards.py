"""Near-duplicates over shards: files, pairs found once, and decisions under any threshold and order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near_dedup_reference import jaccard, planted, same, search, shingles_reference
from pydantic import ValidationError

from data_prep.curation.exact_dedup.order import keep_order, measure_of
from data_prep.curation.near_dedup.compared import compared_text
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.pairs import find_pairs, load_pairs, search_order
from data_prep.curation.near_dedup.resolve import resolve
from data_prep.curation.near_dedup.shingles import sign
from data_prep.curation.near_dedup.signatures import Signatures, load_signatures, record
from data_prep.errors import DataError
from data_prep.strict import measured_part


def longest(texts: list[str]) -> np.ndarray:
    zeros = np.zeros(len(texts), dtype=np.int64)
    return keep_order(zeros > 0, zeros, -np.array([len(text) for text in texts]), np.arange(len(texts)))


def test_shards_give_the_signatures_of_the_whole_and_equal_bytes(tmp_path: Path):
    texts, _ = planted(1, originals=20)
    whole = sign(texts, 5, 32, 42)
    paths = []
    for start, stop in ((0, 7), (7, 7), (7, 40)):
        paths.append(tmp_path / f"{start}-{stop}.npy")
        sign(texts[start:stop], 5, 32, 42).save(paths[-1])
    loaded = load_signatures(paths, 32)
    assert (loaded.records == whole.records).all() and loaded.records.dtype == record(32)
    assert loaded.records.nbytes == 40 * (16 + 4 * 32)
    Signatures(whole.records[7:]).save(tmp_path / "again.npy")
    assert (tmp_path / "again.npy").read_bytes() == paths[-1].read_bytes()
    with pytest.raises(DataError) as error:
        load_signatures(paths, 64)
    assert "0-7.npy: made with other settings (" in str(error.value) and "delete it and run again" in str(error.value)
    assert len(load_signatures([], 32).records) == 0


def test_pairs_are_saved_in_equal_bytes_and_cut_files_refused(tmp_path: Path):
    texts, _ = planted(2, originals=20)
    for config in (NearDedup(), NearDedup(containment=0.9)):
        pairs = search(texts, config)
        pairs.save(tmp_path / "pairs.npy")
        loaded = load_pairs(tmp_path / "pairs.npy")
        assert loaded.search_containment_from == config.search_containment_from and loaded.search_from == 0.7
        assert (loaded.verified == pairs.verified).all() and (loaded.leader == pairs.leader).all()
        loaded.save(tmp_path / "again.npy")
        assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "pairs.npy").read_bytes()
    (tmp_path / "pairs.npy").write_bytes((tmp_path / "again.npy").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"pairs.npy: not a whole file of 3 arrays \(.*\); delete it and run again"):
        load_pairs(tmp_path / "pairs.npy")


def test_verified_pairs_have_exact_sizes():
    texts, _ = planted(3, originals=60)
    shingles = [shingles_reference(text, 5) for text in texts]
    pairs = search(texts, NearDedup())
    assert len(pairs.verified) > 25
    for first, second, shared, first_size, second_size in pairs.verified.tolist():
        a, b = shingles[first], shingles[second]
        assert (shared, first_size, second_size) == (len(a & b), len(a), len(b)) and first < second
        assert jaccard(a, b) >= 0.7


ROWS = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcdef"), max_size=12).map(" ".join),
        st.booleans(),
        st.integers(0, 2),
        st.sampled_from([None, 0.1, 0.5, 0.9]),
    ),
    min_size=1,
    max_size=25,
)


@given(ROWS, st.sampled_from([0.5, 0.6, 0.8, 1.0]), st.sampled_from(["longest", "first", "best"]), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_removed_rows_have_a_better_kept_witness(rows, threshold: float, keep: str, words: int):
    texts = [text for text, *_ in rows]
    config = NearDedup(
        words=words, threshold=threshold, search_from=0.5, keep=keep, best_of="q" if keep == "best" else None
    )
    measure = measure_of(keep, np.array([len(text) for text in texts]), [score for *_, score in rows])
    fails = np.array([fails for _, fails, *_ in rows], dtype=bool)
    splits = np.array([split for _, _, split, _ in rows])
    position = np.arange(len(rows))[::-1]
    found = resolve(search(texts, config), config, keep_order(fails, splits, measure, position))
    shingles = [shingles_reference(text, words) for text in texts]
    for row in range(len(rows)):
        if (witness := found.of(row)) is None:
            continue
        other, similarity = witness
        assert found.kept[other] and found.group[other] == found.group[row]
        assert similarity == pytest.approx(jaccard(shingles[row], shingles[other])) and similarity >= threshold
        better = [(fails[each], splits[each], measure[each], position[each]) for each in (other, row)]
        assert better[0] < better[1], "a row never goes for a worse one"
        assert fails[row] or not fails[other], "what another step drops takes no good row with it"
    # Small enough for full buckets: what is kept is also far from all that is kept.
    kept = np.flatnonzero(found.kept).tolist()
    assert all(
        shingles[a] != shingles[b] or len(texts[a].split()) != len(texts[b].split())
        for a in kept
        for b in kept
        if a < b
    )


@given(ROWS, st.sampled_from([0.5, 0.65, 0.8, 0.95]), st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_another_threshold_decides_as_a_new_search_with_it(rows, threshold: float, words: int):
    texts = [text for text, *_ in rows]
    measured = search(texts, NearDedup(words=words, search_from=0.5))
    wanted = NearDedup(words=words, search_from=0.5, threshold=threshold)
    assert same(resolve(measured, wanted, longest(texts)), resolve(search(texts, wanted), wanted, longest(texts)))


@pytest.mark.parametrize("threshold", [0.8, 0.85, 0.9, 1.0])
def test_a_threshold_decides_as_a_search_from_it_on_planted_texts(threshold: float):
    """With other bands; no bucket exceeds the window, and no pair at these similarities is missed."""
    texts, _ = planted(5, originals=200)
    high = NearDedup(threshold=threshold, search_from=threshold, proposal_probability=0.999)
    low = NearDedup(threshold=threshold)
    assert same(resolve(search(texts, low), low, longest(texts)), resolve(search(texts, high), high, longest(texts)))


def test_the_search_does_not_hang_on_the_decision_nor_on_shards():
    texts, _ = planted(6, originals=50)
    pairs = search(texts, NearDedup())
    for other in (NearDedup(threshold=0.9), NearDedup(keep="first"), NearDedup(alarm_share=0.1)):
        again = search(texts, other)
        assert (again.verified == pairs.verified).all() and (again.leader == pairs.leader).all()
        assert measured_part(other) == measured_part(NearDedup())
    assert measured_part(NearDedup(search_from=0.75)) != measured_part(NearDedup())


def test_of_equal_rows_the_best_leads_whichever_stood_for_them_in_the_search():
    texts = ["one two three four five six", "One two three four five six!!", "one two three four five six seven eight"]
    config = NearDedup(words=2, threshold=0.7)
    pairs = search(texts, config)
    assert pairs.leader.tolist() == [1, 1, 2] and len(pairs.verified) == 1
    for order, expected in (([0, 1, 2], [-1, 0, 0]), ([2, 1, 0], [2, 2, -1]), ([1, 0, 2], [1, -1, 1])):
        found = resolve(pairs, config, np.array(order))
        assert found.duplicate_of.tolist() == expected and len(set(found.group.tolist())) == 1
        assert found.group.tolist() == [order[0]] * 3


def test_a_threshold_below_the_search_is_refused():
    pairs = search(["a b c d e f"], NearDedup(threshold=0.9, containment=0.95))
    for config, message in (
        (
            NearDedup(threshold=0.65),
            "near_dedup.threshold: 0.65 is below search_from 0.7 of these pairs; search again from there, or "
            "stay above",
        ),
        (
            NearDedup(containment=0.9),
            "near_dedup.containment: 0.9 is below search_containment_from 0.95 of these pairs; search again from "
            "there, or stay above",
        ),
    ):
        with pytest.raises(DataError) as error:
            resolve(pairs, config, np.arange(1))
        assert str(error.value) == message
    assert resolve(pairs, NearDedup(containment=0.99), np.arange(1)).kept.all()


def test_a_row_inside_a_kept_one_whichever_is_first():
    words = [f"w{number}" for number in range(100)]
    texts = [" ".join(words[:75]), " ".join(words)]
    config = NearDedup(threshold=0.9, containment=0.95)
    pairs = search(texts, config)
    assert resolve(pairs, config, np.array([1, 0])).of(0) == (1, pytest.approx(71 / 96))
    assert resolve(pairs, config, np.array([0, 1])).kept.all(), "the longer row is not inside the shorter one"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"threshold": 0.65, "search_from": 0.7},
            "near_dedup.threshold: 0.65 is below near_dedup.search_from 0.7; lower search_from too, which searches",
        ),
        (
            {"containment": 0.8, "search_containment_from": 0.9},
            "near_dedup.containment: 0.8 is below near_dedup.search_containment_from 0.9; lower",
        ),
        ({"keep": "best"}, "near_dedup.keep: best; near_dedup.best_of goes with keep=best, set both"),
        ({"earliest_by": "date"}, "near_dedup.keep: longest; near_dedup.earliest_by goes with keep=earliest, set both"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict, message: str):
    with pytest.raises(ValidationError) as error:
        NearDedup(**wrong)
    assert message in str(error.value)


def test_the_search_follows_the_limits():
    assert NearDedup().search_from == 0.7 and NearDedup(threshold=0.6).search_from == 0.6
    assert NearDedup(containment=0.9).search_containment_from == 0.9
    config = NearDedup(threshold=0.6, containment=0.9)
    assert NearDedup(**config.model_dump()) == config


def turn(role: str, content: str | None, **more: object) -> dict:
    return {"role": role, "content": content, **more}


def test_the_compared_text_of_each_shape():
    calls = turn("assistant", None, tool_calls=[{"name": "f"}])
    chat = {"messages": [turn("system", "s"), turn("user", "q"), calls, turn("tool", "t"), turn("assistant", "a")]}
    pair = {"prompt": [turn("user", "p")], "chosen": [turn("assistant", "c")], "rejected": [turn("assistant", "r")]}
    rows = [{"text": "x"}, {"prompt": "p", "completion": "c"}, chat, pair]
    called = '\n[{"name": "f"}]'
    expected = {
        "row": ["x", "p\nc", f"s\nq\n{called}\nt\na", "p\nc\nr"],
        "prompt": ["x", "p", "s\nq\nt", "p"],
        "completion": ["x", "c", f"{called}\na", "c"],
    }
    for on, texts in expected.items():
        assert [compared_text({"id": "1", **row}, on) for row in rows] == texts


def test_empty_sides_are_not_near_each_other():
    texts, order = ["", "", "a b c", "a b c"], np.arange(4)
    for on, kept in (("row", [True, False, True, False]), ("completion", [True, True, True, False])):
        config = NearDedup(on=on, words=2)
        assert resolve(search(texts, config), config, order).kept.tolist() == kept


def test_texts_are_read_when_wanted_and_mostly_once():
    texts, _ = planted(8, originals=60)
    lonely, reads = [f"{number} " * 9 for number in range(50)], list[int]()

    class OnDemand(list):
        def __getitem__(self, row):
            reads.append(row)
            return super().__getitem__(row)

    index = sign(texts + lonely, 5, 128, 42)
    find_pairs(index, OnDemand(texts + lonely), NearDedup(), search_order(index))
    assert reads == sorted(set(reads)) and 50 < len(reads) <= len(texts)
