"""Loading out of core: the same bytes as in memory, in memory that does not grow."""

import gzip
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.config import DatasetConfig, Splits
from data_prep.errors import DataError
from data_prep.load import load
from data_prep.rows import SPLITS, iterate_rows, read_range, read_rows, row_ranges, write_rows, write_splits
from data_prep.splits import by_split, with_ids
from data_prep.spool import Spool, spill_folder

texts = st.text(max_size=5)
some_rows = st.lists(
    st.one_of(
        st.fixed_dictionaries({"text": texts}),
        st.fixed_dictionaries({"text": texts}, optional={"meta": st.integers(0, 3)}),
    ),
    min_size=1,
    max_size=30,
)


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@settings(max_examples=50, deadline=None)
@given(some_rows)
def test_a_load_writes_what_the_definition_says(tmp_path_factory: pytest.TempPathFactory, rows: list[dict]) -> None:
    folder = tmp_path_factory.mktemp("load")
    splits = Splits(train=0.6, validation=0.2, test=0.2)
    config = DatasetConfig(source=str(jsonl(folder / "a.jsonl", rows)), splits=splits, format="text")
    defined = by_split(with_ids([{"text": row["text"]} for row in rows], "naïve"), splits)
    try:
        load("naïve", config, folder / "out", None)
    except DataError:
        assert not defined["train"]
        return
    for split in SPLITS:
        write_rows(folder / "defined", split, defined[split])
        file = f"{split}.jsonl"
        assert (folder / "out" / file).read_bytes() == (folder / "defined" / file).read_bytes()


def test_equal_ids_are_numbered_by_content(tmp_path: Path) -> None:
    """Rows that differ only in what is carried along share an id; their numbers follow from what is carried."""
    rows = [{"text": "same", "url": f"é{number % 12}"} for number in range(25)] + [{"text": "other", "url": "u"}]
    defined = with_ids(({"text": row["text"], "meta": {"url": row["url"]}} for row in rows), "d")
    for order in (rows, rows[::-1]):
        config = DatasetConfig(source=str(jsonl(tmp_path / "a.jsonl", order)), keep=["url"], role="eval")
        load("d", config, tmp_path / "out", None)
        assert read_rows(tmp_path / "out", "test") == defined


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text("01ab-", min_size=1, max_size=6), st.integers(0, 9)), max_size=60))
def test_a_spool_sorts_in_buckets_of_any_size(tmp_path_factory: pytest.TempPathFactory, pairs: list) -> None:
    defined: dict[str, Counter[bytes]] = {}
    for key, number in pairs:
        defined.setdefault(key, Counter())[b"%d\ttab" % number] += 1
    for size in (1, 40, 10_000):
        spool = Spool(tmp_path_factory.mktemp("spool") / "s", bucket_bytes=size)
        for key, number in pairs:
            spool.add(key, b"%d\ttab" % number)
        assert list(spool.groups()) == sorted(defined.items())


def test_one_prompt_with_many_answers_is_cut_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", bucket_bytes=200)
    keys = [f"abcdef01-{number:08x}" for number in range(300)]
    for key in random.Random(0).sample(keys, len(keys)):
        spool.add(key, b"{}")
    assert [key for key, _ in spool.groups()] == keys
    assert not [path for path in (tmp_path / "s").rglob("*") if path.is_file()]


def test_nothing_is_left_behind_by_a_load_that_fails(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "t"}] * 5 + [{"text": 3}])
    with pytest.raises(DataError, match=r"a\.jsonl:6: text is a number, not text"):
        load("d", DatasetConfig(source=str(path)), tmp_path / "out", None)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out" / ".spill" / "rows").mkdir(parents=True)  # a run that was killed
    load("d", DatasetConfig(source=str(path), on_error="skip"), tmp_path / "out", None)
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == [
        "stats.json",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]
    with pytest.raises(KeyError), spill_folder(tmp_path / "mine"):
        raise KeyError
    with pytest.raises(KeyError), write_splits(tmp_path / "mine") as write:
        write("train", b"{}")
        raise KeyError
    assert not list((tmp_path / "mine").iterdir())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=20), st.integers(1, 300))
def test_ranges_cover_a_split_in_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int
) -> None:
    folder = tmp_path_factory.mktemp("ranges")
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    write_rows(folder, "train", rows)
    ranges = row_ranges(folder, "train", size)
    assert [row for start, end in ranges for row in read_range(folder, "train", start, end)] == rows
    assert list(iterate_rows(folder, "train")) == rows and row_ranges(folder, "test", size) == []
    assert all(end - start >= size for start, end in ranges[:-1])
    assert [start for start, _ in ranges[1:]] == [end for _, end in ranges[:-1]]


PEAK = """
import sys
from pathlib import Path
from data_prep.config import DatasetConfig, Mixture
from data_prep.load import load
from data_prep.mixture import mix

what, source, out = sys.argv[1:]
if what == "load":
    load("d", DatasetConfig(source=source), Path(out), None)
else:
    parts = {"parts": {"a": {"epochs": 1.5}, "b": {"epochs": 1.0}}}
    mix({"a": Path(source), "b": Path(source)}, Mixture.model_validate(parts), Path(out))
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


def peak_megabytes(what: str, source: Path, out: Path) -> float:
    """VmHWM: unlike ru_maxrss it does not begin with the memory of the parent."""
    found = subprocess.run(
        [sys.executable, "-c", PEAK, what, str(source), str(out)], capture_output=True, text=True, check=True
    )
    return int(found.stdout) / 1024


def write_file(path: Path, count: int) -> None:
    draw = random.Random(1)
    words = [f"{draw.getrandbits(32):x}" for _ in range(5000)]
    rows = ({"text": " ".join(draw.choices(words, k=60)) + str(number)} for number in range(count))
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2000)
        return
    with gzip.open(path, "wt", compresslevel=1) if path.suffix == ".gz" else path.open("w") as file:
        if path.suffix == ".json":
            file.write("[" + ",\n".join(map(json.dumps, rows)) + "]")
        elif path.suffix == ".csv":
            file.writelines(["text\n", *(f'"{row["text"]}"\n' for row in rows)])
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
def test_ten_times_the_rows_need_no_more_memory(tmp_path: Path, kind: str) -> None:
    count = 15_000  # 8 MB, so that the held lines are full at both sizes
    for factor in (1, 10):
        write_file(tmp_path / f"{factor}.{kind}", factor * count)
    peaks = [
        peak_megabytes("load", tmp_path / f"{factor}.{kind}", tmp_path / f"out{factor}{kind}") for factor in (1, 10)
    ]
    assert peaks[1] <= 1.1 * peaks[0], peaks


@pytest.mark.slow
def test_a_mixture_of_ten_times_the_rows_needs_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for factor in (1, 10):
        write_file(tmp_path / f"{factor}.jsonl", factor * 15_000)
        load("d", DatasetConfig(source=str(tmp_path / f"{factor}.jsonl")), tmp_path / f"d{factor}", None)
        peaks.append(peak_megabytes("mix", tmp_path / f"d{factor}", tmp_path / f"m{factor}"))
    assert peaks[1] <= 1.1 * peaks[0], peaks
