"""Ids and splits depend on content and seed alone."""

import hashlib
import random
import subprocess
import sys

from hypothesis import example, given
from hypothesis import strategies as st

from data_prep.config import Splits
from data_prep.splits import by_split, row_id, split_of, with_ids

texts = st.text(max_size=12)
rows = st.one_of(
    st.fixed_dictionaries({"text": texts}),
    st.fixed_dictionaries({"prompt": texts, "completion": texts}),
    st.builds(
        lambda q, a: {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}, texts, texts
    ),
)


@example([{"text": "p"}, {"prompt": "p", "completion": ""}], random.Random(1))
@given(st.lists(rows, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(some: list[dict], draw: random.Random) -> None:
    shuffled = list(some)
    draw.shuffle(shuffled)
    assert with_ids(shuffled, "d") == with_ids(some, "d")


@given(st.lists(rows, max_size=20))
def test_other_rows_do_not_move_a_row(some: list[dict]) -> None:
    probe = {"prompt": "fixed", "completion": "row"}
    assert row_id(probe) in {row["id"] for row in with_ids([*some, probe], "d")}


@given(texts, texts, texts, st.integers(0, 5))
def test_equal_prompts_share_the_split(prompt: str, one: str, other: str, seed: int) -> None:
    splits = Splits(train=0.34, validation=0.33, test=0.33, seed=seed)
    ids = [row_id({"prompt": prompt, "completion": answer}) for answer in (one, other)]
    assert split_of(ids[0], splits) == split_of(ids[1], splits)
    assert (ids[0] == ids[1]) == (one == other)


def test_chats_that_begin_alike_share_the_first_half() -> None:
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    short, long, other = (
        [user, answer],
        [user, answer, user, {**answer, "content": "b"}],
        [user, {**answer, "content": "c"}],
    )
    ids = {row_id({"messages": chat}) for chat in (short, long, other)} | {row_id({"messages": short, "tools": [{}]})}
    assert len(ids) == 4
    assert len({identity.split("-")[0] for identity in ids}) == 1


def test_ids_are_the_documented_hashes_and_repeats_are_numbered() -> None:
    half = [hashlib.sha256(text.encode()).hexdigest()[:8] for text in ("p", "c", "")]
    made = with_ids([{"prompt": "p", "completion": "c"}] * 3 + [{"text": "p"}], "d")
    expected = [f"{half[0]}-{half[1]}{repeat}" for repeat in ("", "#2", "#3")] + [f"{half[0]}-{half[2]}"]
    assert sorted(row["id"] for row in made) == sorted(expected)
    assert {split_of(row["id"], Splits()) for row in made} == {split_of(made[0]["id"], Splits())}


def test_ids_and_splits_are_the_same_in_another_process() -> None:
    code = (
        "from data_prep.splits import *; from data_prep.config import Splits; i = row_id({'text': 'é'});"
        "print(i, split_of(i, Splits(seed=3)))"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    identity = row_id({"text": "é"})
    assert made == {f"{identity} {split_of(identity, Splits(seed=3))}\n"}


def test_the_fractions_are_right_within_the_statistical_error() -> None:
    named = with_ids(({"text": str(number)} for number in range(10_000)), "d")
    splits = Splits(train=0.7, validation=0.2, test=0.1)
    sizes = {name: len(part) for name, part in by_split(named, splits).items()}
    for name, share in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
        # Five standard errors of a binomial share.
        assert abs(sizes[name] / 10_000 - share) < 5 * (share * (1 - share) / 10_000) ** 0.5
    moved = by_split(named, splits.model_copy(update={"seed": 1}))
    both = {row["id"] for row in moved["train"]} & {row["id"] for row in by_split(named, splits)["train"]}
    assert abs(len(both) / 10_000 - 0.49) < 0.03  # the seeds are independent


@given(texts)
def test_a_share_of_nothing_gets_nothing(text: str) -> None:
    identity = row_id({"text": text})
    assert split_of(identity, Splits(train=1.0, validation=0.0, test=0.0)) == "train"
    assert split_of(identity, Splits(train=0.0, validation=0.0, test=1.0)) == "test"
    assert split_of(identity, Splits(train=0.5, validation=0.5, test=0.0)) != "test"
