"""Rows that are too long, and other bad input, are read in bounded memory and explained."""

import gzip
import json
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.load import load
from data_prep.readers import read_file
from data_prep.rows import read_rows

LIMIT = 2000
TOO_LONG = " bytes long, above max_row_bytes 2,000 (usually glued or binary data)"


def found(path: Path) -> tuple[list[object], list[tuple[int, str]]]:
    records = list(read_file(path, LIMIT))
    return (
        [record.row.get("text") for record in records if not record.error],
        [(record.line, record.error.split(" ", 1)[1]) for record in records if record.error],
    )


def write_long(path: Path, texts: list[str]) -> None:
    table = pa.Table.from_pylist([{"text": text} for text in texts])
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        parquet.write_table(table, path)
    elif kind == "arrow":
        with ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        lines = {
            "jsonl": [json.dumps({"text": text}) for text in texts],
            "txt": texts,
            "csv": ["text", *(f'"{text}"' for text in texts)],
            "tsv": ["text", *texts],
        }[kind]
        content = "".join(line + "\n" for line in lines).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "txt", "csv", "tsv", "parquet", "arrow"])
def test_a_row_that_is_too_long_is_left_out_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    write_long(path, ["one", "x" * 5000, "two", "y" * 3000])
    texts, errors = found(path)
    assert texts == ["one", "two"]
    first = 1 if kind in ("csv", "tsv") else 0
    assert [line for line, _ in errors] == [2 + first, 4 + first]
    assert all(error == TOO_LONG.strip() for _, error in errors)


def test_the_limit_is_the_length_of_the_line(tmp_path: Path) -> None:
    for ending in (b"\n", b"\r\n", b""):
        (tmp_path / "a.txt").write_bytes(b"x" * LIMIT + ending)
        assert found(tmp_path / "a.txt") == (["x" * LIMIT], [])
        (tmp_path / "a.txt").write_bytes(b"x" * (LIMIT + 2) + ending)
        assert found(tmp_path / "a.txt")[0] == []


def test_csv_goes_on_after_a_long_line_inside_quotes(tmp_path: Path) -> None:
    long = "z" * 5000
    (tmp_path / "a.csv").write_text(f'text,n\none,1\n"{long}\nmore",2\n"first\n{long}",3\n"{long}",4\ntwo,5\n')
    texts, errors = found(tmp_path / "a.csv")
    assert texts[0] == "one" and texts[-1] == "two" and len(texts) == 2
    assert all("above max_row_bytes" in error for _, error in errors) and errors
    (tmp_path / "b.csv").write_text('text\n"' + "open\n" * 1000)
    with pytest.raises(DataError, match=r"a quote is never closed; fix the file, or raise max_row_bytes$"):
        found(tmp_path / "b.csv")


def test_csv_line_ends_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('text,n\rone,1\r\n"two\r\nlines\rhere\u2028",2\n'.encode())
    assert found(tmp_path / "a.csv") == (["one", "two\r\nlines\rhere\u2028"], [])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), min_size=1, max_size=8), st.booleans())
def test_an_array_is_read_as_json_reads_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict], pretty: bool
) -> None:
    import data_prep.json_arrays as arrays

    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1 if pretty else None), encoding="utf-8")
    usual = arrays._CHUNK_BYTES
    try:
        for size in (1, 7, usual):
            arrays._CHUNK_BYTES = size
            assert [record.row for record in read_file(path)] == rows
    finally:
        arrays._CHUNK_BYTES = usual


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"a": 1},\n {"a": 2}', r"a\.json:2: broken JSON \(Expecting ',' delimiter at column 10\); fix it"),
        (b'[{"a": 1}\n {"a": 2}]', r"a\.json:2: broken JSON \(Expecting ',' delimiter at column 2\)"),
        (b'[{"a": 1}]\n{', r"a\.json:2: broken JSON \(Extra data at column 1\)"),
        (b'[{"a": 1},]', r"a\.json:1: broken JSON \(Expecting value at column 11\)"),
        (b'[{"a": "\xff"}]', r"a\.json: invalid UTF-8 at byte 9; save the file as UTF-8"),
        (b"[" * 100_000, r"a\.json: broken JSON \(nested too deeply\); fix the file"),
        (
            b'[{"a": "' + b"x" * 2_000_000,
            r"Unterminated string starting at; or an element .* above max_row_bytes 2,000",
        ),
    ],
)
def test_a_broken_array_names_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=said):
        found(tmp_path / "a.json")


def test_elements_of_other_types_and_right_to_left_text_are_read(tmp_path: Path) -> None:
    text = "\u202eمرحبا\u200c\u200d \u2066abc\u2069"
    (tmp_path / "a.json").write_text(json.dumps([{"text": text}, 3, None, "x", [1]], ensure_ascii=False), "utf-8")
    texts, errors = found(tmp_path / "a.json")
    assert texts == [text]
    assert [line for line, _ in errors] == [2, 3, 4, 5]
    assert errors[0][1] == "row is a JSON number, not an object"


def test_every_bad_line_is_counted_and_the_good_ones_load(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good"}',
        b'{"text": "nul \x00"}',
        b'{"text": "\xff"}',
        b'{"text": "' + b"x" * 9000 + b'"}',
        b'{"text": 3}',
        b"3",
        b"[" * 100_000,
        b'{"text": ' + b'{"a":' * 5000,
        b'{"text": "\\ud800"}',
        '{"text": "\u200f\u05e9\u05dc\u05d5\u05dd\u200b"}'.encode(),
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    config = DatasetConfig(source=str(tmp_path / "a.jsonl"), role="eval", on_error="skip", max_row_bytes=8000)
    stats = load("d", config, tmp_path / "out", None)
    assert (stats["read"], stats["broken"], stats["rows"]) == (10, 8, 2)
    assert sorted(example["line"] for example in stats["broken_examples"]) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert {row["text"] for row in read_rows(tmp_path / "out", "test")} == {
        "good",
        "\u200f\u05e9\u05dc\u05d5\u05dd\u200b",
    }
    with pytest.raises(DataError, match=r"a\.jsonl:2: NUL byte .*; fix the line, or set data\.d\.on_error=skip"):
        load("d", config.model_copy(update={"on_error": "fail"}), tmp_path / "no", None)


def test_a_line_of_100_mb_is_never_held(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(b'{"text": "')
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"text": "good"}\n')
    code = (
        "import sys; from pathlib import Path; from data_prep.readers import read_file;"
        "print([(r.row, r.error) for r in read_file(Path(sys.argv[1]), 2**20)])"
    )

    def at_most_300_mb() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (300 * 2**20, 300 * 2**20))

    command = [sys.executable, "-c", code, str(tmp_path / "a.jsonl.gz")]
    made = subprocess.run(command, capture_output=True, text=True, preexec_fn=at_most_300_mb)
    long = "104,857,612 bytes long, above max_row_bytes 1,048,576 (usually glued or binary data)"
    assert made.stdout.strip() == str([({}, long), ({"text": "good"}, "")]), made.stderr
