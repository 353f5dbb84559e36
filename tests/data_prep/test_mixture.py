"""Several data sets as one: exact shares, one order per seed, no row twice in one pass."""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.config import Mixture
from data_prep.errors import DataError
from data_prep.mixture import draw, mix
from data_prep.rows import SPLITS, read_rows, read_stats, write_rows
from data_prep.shares import rows_of_parts, share_out
from data_prep.splits import with_ids


def folder(path: Path, count: int, prefix: str = "", evaluation: int = 3) -> Path:
    for split, size in zip(SPLITS, (count, evaluation, evaluation), strict=True):
        write_rows(path, split, with_ids(({"text": f"{prefix}{split}{n}"} for n in range(size)), path.name))
    return path


def mixture(parts: dict, **settings: object) -> Mixture:
    return Mixture.model_validate({"parts": parts, **settings})


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {name: folder(tmp_path / name, count, name) for name, count in (("a", 100), ("b", 40), ("c", 10))}


def train(out: Path) -> list[dict]:
    return read_rows(out, "train")


def passes_of(rows: list[dict]) -> Counter[tuple[str, str]]:
    """How often each row was taken, by data set and id without its pass."""
    return Counter((row["source"], row["id"].partition("~")[0]) for row in rows)


def test_weights_give_exact_shares_and_passes_are_whole(folders: dict[str, Path], tmp_path: Path) -> None:
    config = mixture({"a": {"weight": 0.5}, "b": {"weight": 0.3}, "c": {"weight": 0.2}}, rows=150)
    stats = mix(folders, config, tmp_path / "out")
    rows = train(tmp_path / "out")
    assert Counter(row["source"] for row in rows) == {"a": 75, "b": 45, "c": 30}
    taken = passes_of(rows)
    assert [sorted(set(taken[key] for key in taken if key[0] == name)) for name in "abc"] == [[1], [1, 2], [3]]
    assert sum(taken[key] == 2 for key in taken if key[0] == "b") == 5
    assert len({row["id"] for row in rows}) == 150
    assert {row["id"].partition("~")[2] for row in rows if row["source"] == "c"} == {"", "2", "3"}
    originals = {row["text"] for name in "abc" for row in read_rows(folders[name], "train")}
    assert {row["text"] for row in rows} <= originals
    assert stats == read_stats(tmp_path / "out") and stats["splits"] == {"train": 150, "validation": 9, "test": 9}
    assert stats["mixture"]["b"] == {
        "available": 40,
        "rows": 45,
        "weight": 0.3,
        "epochs_asked": None,
        "share_asked": 0.3,
        "share": 0.3,
        "epochs": 1.125,
    }


def test_a_later_pass_follows_an_earlier_one_and_every_stretch_has_the_shares(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    config = mixture({"a": {"epochs": 3.0}, "b": {"epochs": 7.5}, "c": {"epochs": 30.0}})
    mix(folders, config, tmp_path / "out")
    rows = train(tmp_path / "out")
    assert Counter(row["source"] for row in rows) == {"a": 300, "b": 300, "c": 300}
    for name in "abc":
        numbers = [int(row["id"].partition("~")[2] or 1) for row in rows if row["source"] == name]
        assert numbers == sorted(numbers)
    for start in range(0, 900, 300):
        stretch = Counter(row["source"] for row in rows[start : start + 300])
        assert all(70 <= stretch[name] <= 130 for name in "abc")
    first, second = ([row["id"] for row in rows if row["source"] == "c"][at : at + 10] for at in (0, 10))
    assert [one.partition("~")[0] for one in first] != [two.partition("~")[0] for two in second]


def test_the_seed_decides_and_the_order_of_the_parts_does_not(folders: dict[str, Path], tmp_path: Path) -> None:
    parts = {"a": {"weight": 2.0}, "b": {"weight": 1.0}, "c": {"epochs": 0.5}}
    made = {}
    for name, (seed, order) in {"one": (0, 1), "two": (0, -1), "three": (1, 1)}.items():
        names = list(parts)[::order]
        config = mixture({part: parts[part] for part in names}, rows=65, seed=seed)
        mix({part: folders[part] for part in names}, config, tmp_path / name)
        made[name] = [(tmp_path / name / f"{split}.jsonl").read_bytes() for split in SPLITS]
    assert made["one"] == made["two"]
    assert made["one"][0] != made["three"][0] and made["one"][1:] == made["three"][1:]
    texts = [{row["text"] for row in train(tmp_path / name)} for name in ("one", "three")]
    assert texts[0] != texts[1]


def test_stopping_is_what_interleaving_data_sets_does(folders: dict[str, Path], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    parts = {name: {"weight": weight} for name, weight in weights.items()}
    for stop in ("first_exhausted", "all_exhausted"):
        mix(folders, mixture(parts, stop=stop), tmp_path / stop)
        mine = Counter(row["source"] for row in train(tmp_path / stop))
        sets = [datasets.Dataset.from_list(read_rows(folders[name], "train")) for name in weights]
        theirs = Counter[str]()
        for seed in range(20):
            made = datasets.interleave_datasets(
                sets, probabilities=list(weights.values()), seed=seed, stopping_strategy=stop
            )
            theirs.update(made["source"])
        for name, weight in weights.items():
            # Five standard errors of a share of all their rows.
            error = 5 * (weight * (1 - weight) / theirs.total()) ** 0.5
            assert abs(mine[name] / mine.total() - theirs[name] / theirs.total()) < error + 1 / mine.total()
    first, last = (passes_of(train(tmp_path / stop)) for stop in ("first_exhausted", "all_exhausted"))
    assert max(first.values()) == 1 and sum(key[0] == "c" for key in first) == 10
    assert {key[0]: min(last[each] for each in last if each[0] == key[0]) for key in last} == {"a": 1, "b": 1, "c": 4}
    assert len(last) == 150


def test_validation_and_test_are_united_and_equal_rows_stand_there_once(tmp_path: Path) -> None:
    folders = {name: folder(tmp_path / name, 5, "" if name != "c" else "c", 4) for name in "abc"}
    stats = mix(folders, mixture({"a": {"epochs": 3.0}, "b": {"epochs": 1.0}, "c": {}}), tmp_path / "out")
    for split in ("validation", "test"):
        ids = [row["id"] for row in read_rows(tmp_path / "out", split)]
        assert ids == sorted(set(ids)) and len(ids) == 8
    assert stats["repeated"] == 8 and stats["shared_ids"] == 5
    ids = [row["id"] for row in train(tmp_path / "out")]
    assert len(set(ids)) == 25 and sum("@b" in identity for identity in ids) == 5
    assert not any("@b" in row["id"] for row in train(tmp_path / "out") if row["source"] != "b")


def test_rows_of_one_id_that_differ_are_both_kept(tmp_path: Path) -> None:
    for name, row in (("a", {"text": "p"}), ("b", {"prompt": "p", "completion": ""})):
        write_rows(tmp_path / name, "train", with_ids([row], name))
        write_rows(tmp_path / name, "test", with_ids([row], name))
    mix({name: tmp_path / name for name in "ab"}, mixture({"a": {}, "b": {}}), tmp_path / "out")
    assert [row["id"].partition("@")[2] for row in read_rows(tmp_path / "out", "test")] == ["", "b"]


weights = st.dictionaries(st.sampled_from("abcdef"), st.fractions(Fraction(1, 100), 50), min_size=1)


@given(weights, st.integers(0, 10_000))
def test_shares_are_exact_and_within_one_row(parts: dict[str, Fraction], total: int) -> None:
    counts = share_out(total, parts, {})
    assert sum(counts.values()) == total
    for name, weight in parts.items():
        assert abs(counts[name] - total * weight / sum(parts.values())) < 1
    assert counts == share_out(total, dict(reversed(parts.items())), {})


@given(weights, st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 300)), st.integers(0, 500))
def test_what_a_part_cannot_take_goes_to_the_others(parts: dict, room: dict[str, int], total: int) -> None:
    try:
        counts = share_out(total, parts, room)
    except DataError as error:
        assert all(name in room for name in parts) and sum(room[name] for name in parts) < total
        assert "raise their epochs" in str(error)
        return
    assert sum(counts.values()) == total and all(counts[name] <= room.get(name, total) for name in parts)
    free = [name for name in parts if counts[name] < room.get(name, total)]
    for one in free:
        for other in free:
            assert abs(counts[one] / parts[one] - counts[other] / parts[other]) <= 1 / parts[one] + 1 / parts[other]


def test_the_largest_remainders_get_the_last_rows() -> None:
    # 10 rows by 46 : 27 : 27 are 4.6, 2.7, 2.7.
    shares = {"a": Fraction(46), "b": Fraction(27), "c": Fraction(27)}
    assert share_out(10, shares, {}) == {"a": 4, "b": 3, "c": 3}
    assert share_out(2, dict.fromkeys("cba", Fraction(1)), {}) == {"a": 1, "b": 1, "c": 0}


def test_a_cap_and_fixed_epochs(tmp_path: Path) -> None:
    config = mixture({"a": {"weight": 1.0, "epochs": 0.5}, "b": {"weight": 1.0}, "c": {"epochs": 2.0}}, rows=200)
    assert rows_of_parts(config, {"a": 100, "b": 100, "c": 10}) == {"a": 50, "b": 130, "c": 20}


def test_places_are_spread_evenly() -> None:
    numbers = sorted(draw(3, "a", f"{n:08x}", 1) / 2**64 for n in range(5000))
    # Kolmogorov–Smirnov: 1.95/sqrt(n) is passed once in a thousand times.
    assert max(abs(number - at / 5000) for at, number in enumerate(numbers)) < 1.95 / 5000**0.5


@pytest.mark.parametrize(
    ("parts", "settings", "said"),
    [
        ({"a": {"weight": 1.0}}, {}, "the weight of a needs a total: set either rows or stop"),
        ({"a": {"weight": 1.0}}, {"rows": 3, "stop": "all_exhausted"}, "set either rows or stop"),
        ({"a": {"epochs": 1.0}}, {"rows": 3}, "rows and stop share out by weights, but no part has one"),
        ({"a": {"weight": 1.0, "epochs": 1.0}}, {"stop": "all_exhausted"}, "needs rows instead of stop"),
        ({}, {}, "at least 1 item"),
    ],
)
def test_shares_that_cannot_be_meant_are_refused(parts: dict, settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mixture(parts, **settings)


def test_trouble_with_the_data_sets_is_told(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"mixture\.parts: c is not both a part and a data set; they are a, b, c"):
        mix(folders, mixture({"a": {}, "b": {}}), out)
    with pytest.raises(DataError, match=r"mixture\.rows: the parts with epochs alone have 140 of 120"):
        mix(folders, mixture({"a": {}, "b": {"epochs": 1.0}, "c": {"weight": 1.0}}, rows=120), out)
    folder(tmp_path / "empty", 0)
    with pytest.raises(DataError, match=r"mixture: empty has no training rows; take it out of the parts"):
        mix({"empty": tmp_path / "empty"}, mixture({"empty": {}}), out)
    write_rows(tmp_path / "pairs", "train", with_ids([{"prompt": "q", "chosen": "a", "rejected": "b"}], "pairs"))
    both = {"a": folders["a"], "pairs": tmp_path / "pairs"}
    with pytest.raises(DataError, match=r"a has plain rows, pairs has preference rows|pairs has preference rows"):
        mix(both, mixture({"a": {}, "pairs": {}}), out)
    write_rows(tmp_path / "mixed", "train", [{"id": "b", "text": "1"}, {"id": "a", "text": "2"}])
    with pytest.raises(
        DataError, match=r"train is not sorted by id \(a after b\); mix data sets that come from loading"
    ):
        mix({"mixed": tmp_path / "mixed"}, mixture({"mixed": {}}), out)
    (tmp_path / "mixed" / "train.jsonl").write_text(json.dumps({"text": "t", "id": "a"}) + "\n")
    with pytest.raises(DataError, match=r"a row of train does not begin with its id; load the data again"):
        mix({"mixed": tmp_path / "mixed"}, mixture({"mixed": {}}), out)
    assert not out.exists()
