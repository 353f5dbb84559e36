"""Where rows come from, and what is said about files that are missing, damaged or of another kind."""

import csv
import gzip
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from data_prep.errors import DataError
from data_prep.hub import read_hub
from data_prep.readers import read_file
from data_prep.sources import resolve_files

ROWS = [{"text": "first line\nof two, \u2028 with a separator"}, {"text": "日本語 “quoted”"}]


def rows_of(path: Path) -> list[dict]:
    return [record.row for record in read_file(path)]


def errors_of(path: Path) -> list[tuple[int, str]]:
    return [(record.line, record.error) for record in read_file(path) if record.error]


def jsonl(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_every_kind(folder: Path) -> list[Path]:
    table = pa.Table.from_pylist(ROWS)
    (folder / "a.jsonl").write_bytes(jsonl(ROWS))
    (folder / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl(ROWS).replace(b"\n", b"\r\n\r\n"))
    (folder / "lines.json").write_bytes(jsonl(ROWS))
    (folder / "array.json").write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(jsonl(ROWS[:1])) + gzip.compress(jsonl(ROWS[1:])))
    with pa.output_stream(str(folder / "a.jsonl.zst"), compression="zstd") as stream:
        stream.write(jsonl(ROWS))
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (folder / name).open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows(
                [["", "text"], *([i, r["text"]] for i, r in enumerate(ROWS))]
            )
    parquet.write_table(table, folder / "a.parquet")
    (folder / "b.parquet.gz").write_bytes(gzip.compress((folder / "a.parquet").read_bytes()))
    with ipc.new_stream(str(folder / "stream.arrow"), table.schema) as writer:
        writer.write_table(table)
    with ipc.new_file(str(folder / "file.arrow"), table.schema) as writer:
        writer.write_table(table)
    return sorted(folder.iterdir())


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    files = write_every_kind(tmp_path)
    assert len(files) == 12
    for path in files:
        assert rows_of(path) == ROWS, path.name


def test_a_txt_file_holds_one_document_per_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\u2028still two\r\n", encoding="utf-8")
    assert rows_of(tmp_path / "a.txt") == [{"text": "one"}, {"text": "two\u2028still two"}]


def test_broken_lines_are_told_with_their_number(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(
        b'{"text": "a" "b"}\n\n[1]\n{"text": "\xff"}\n{"text": "\x00"}\n' + b"[" * 100_000 + b'\n{"text": "x"}'
    )
    found = errors_of(path)
    assert found[:4] == [
        (1, "broken JSON (Expecting ',' delimiter at column 14)"),
        (3, "the row is a JSON array, not an object"),
        (4, "invalid UTF-8 at byte 11"),
        (5, "NUL byte (binary data, or UTF-16: save the file as UTF-8)"),
    ]
    assert found[4][0] == 6 and found[4][1].startswith("broken JSON")
    assert len(rows_of(path)) == 6


def test_csv_trouble_is_told_per_row_and_long_fields_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f'a,b\n1\n"2"x,3\n\n4,{"y" * 200_000}\n', encoding="utf-8")
    assert errors_of(path) == [
        (2, "broken CSV (1 fields, but the header has 2)"),
        (3, "broken CSV (',' expected after '\"')"),
    ]
    assert len(rows_of(path)[-1]["b"]) == 200_000
    path.write_text('a,b\n1,"2\n3,4\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.csv:3: a quote is never closed; fix the file"):
        rows_of(path)
    path.write_text("a,a\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.csv:1: the header repeats a column name \(a, a\); rename it"):
        rows_of(path)


def test_a_broken_array_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('[\n{"a": 1},\n{"a": }\n]')
    with pytest.raises(DataError, match=r"data\.json:3: broken JSON \(Expecting value at column 7\); fix it"):
        rows_of(path)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "stream.arrow", "file.arrow"])
def test_a_truncated_file_is_one_clear_error(tmp_path: Path, name: str) -> None:
    write_every_kind(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        DataError, match=rf"{name}: cannot be read \(.+\); it is damaged or incomplete: fetch it"
    ) as caught:
        rows_of(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name}: holds no rows; take it out of the source"):
        rows_of(tmp_path / name)


def test_paths_and_globs_give_sorted_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "odd[1].jsonl"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.jsonl").write_text("{}\n")
    assert [path.name for path in resolve_files(f"{tmp_path}/[ab].jsonl")] == ["a.jsonl", "b.jsonl"]
    assert len(resolve_files(f"{tmp_path}/**/*.jsonl")) == 4
    assert resolve_files(f"{tmp_path}/odd[1].jsonl") == [tmp_path / "odd[1].jsonl"]


def test_missing_sources_are_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    (tmp_path / "notes.docx").write_text("x")
    for source, said in {
        f"{tmp_path}/trian.jsonl": r"trian\.jsonl: does not exist; did you mean train\.jsonl\?",
        f"{tmp_path}/zzz.csv": r"zzz\.csv: does not exist; give a local path or glob, package://NAME/PATH, or a Hub id",
        f"{tmp_path}/nowhere/a.csv": r"does not exist, nor does the folder nowhere",
        f"{tmp_path}/*.csv": r"\*\.csv: no file matches this glob",
        f"{tmp_path}": r"a folder, not a file; use a glob, e\.g\. .*/\*\.jsonl",
        f"{tmp_path}/notes.docx": r"notes\.docx: unknown kind of file; allowed are \.jsonl, \.json",
        "squad": "squad: does not exist; ",
        "package://no_such_package_here/a.jsonl": "is not installed; pip install --no-deps no_such_package_here",
        "package://data_prep/samples/instruction.jsonl": r"did you mean instructions\.jsonl\?",
        "package://data_prep/../secrets.jsonl": "not of the form package://NAME/PATH",
        "package://json": "not of the form package://NAME/PATH",
    }.items():
        with pytest.raises(DataError, match=said):
            resolve_files(source)


def test_package_files_are_found_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "hostile_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "a.jsonl").write_text("{}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve_files("package://hostile_package/a.jsonl") == [package / "a.jsonl"]
    assert resolve_files("package://hostile_package/*.jsonl") == [package / "a.jsonl"]
    assert "hostile_package" not in sys.modules


def test_a_hub_id_has_no_files_and_its_trouble_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    assert resolve_files("org/some-data.v2") == []
    asked: list[dict] = []

    def offline(source: str, **options: object) -> None:
        asked.append(options)
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(
        DataError, match=r"org/x: cannot be loaded from the Hub \(ConnectionError: Couldn't reach the Hub\)"
    ):
        read_hub("org/x", "v1", "en", "train")
    assert asked == [{"name": "en", "split": "train", "revision": "v1"}]


def test_a_hub_data_set_with_several_splits_needs_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    one = datasets.Dataset.from_list([{"text": "a"}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(train=one))
    assert [record.row for record in read_hub("org/x", None, None, None)] == [{"text": "a"}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(train=one, test=one))
    with pytest.raises(DataError, match=r"org/x: has the splits train, test; name one in data\.NAME\.split"):
        read_hub("org/x", None, None, None)
