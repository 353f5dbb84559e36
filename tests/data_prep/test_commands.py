"""`python -m data_prep`: what a user types, sees and gets; wrong lines end with one line and exit 2 or 3."""

import gzip
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from data_prep.commands.cli import COMMANDS, USAGE, main
from data_prep.rows import write_rows

STEPS = "steps=[normalise,empty,exact_dedup,near_dedup,length]"
LONG = "the council said that the bridge over the river will close for six weeks while engineers replace its deck"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Forty different texts, one of them twice, one nearly."""
    lines = [f"{LONG} number {n} {n * n} {n * 7} because of the {n}th of all storms in town {n + 3}" for n in range(40)]
    lines += [lines[0], lines[1] + " again", "caf\u0065\u0301"]
    path = tmp_path / "texts.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def curate(texts: Path, out: Path, *more: str) -> int:
    return main([f"input={texts}", f"output={out}", STEPS, *more])


def test_files_are_curated_alone(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate(texts, tmp_path / "out", "steps.near_dedup=null") == 2  # a list and single settings do not mix
    capsys.readouterr()
    assert curate(texts, tmp_path / "out") == 0
    shown = capsys.readouterr().out
    assert "exact_dedup" in shown and "rows.jsonl, ledger.parquet" in shown.replace("\n", "")
    kept = lines(tmp_path / "out/rows.jsonl")
    assert len(kept) == 41 and "caf\u00e9" in {row["text"] for row in kept}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".input",
        "funnel.json",
        "ledger.parquet",
        "measured",
        "rows.jsonl",
        "stats.json",
        "what_if.json",
    ]
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert curate(texts, tmp_path / "out") == 0  # again: the same
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before


def test_why_tells_every_reason(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curate(texts, tmp_path / "out")
    ledger = parquet.read_table(tmp_path / "out/ledger.parquet").to_pylist()
    dropped = next(row for row in ledger if row["dropped_by"] == "near_dedup")
    capsys.readouterr()
    assert main(["why", dropped["id"], f"in={tmp_path}"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{dropped['id']}  rows/train  dropped by near_dedup")
    assert "  - near_dedup: similarity 0.9" in told and f"duplicate_of: {dropped['duplicate_of']}" in told
    assert main(["why", "zzz", f"in={tmp_path}"]) == 3
    assert "zzz: no row of the ledgers under" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["why", "zzz", f"in={tmp_path / 'empty'}"]) == 3
    assert "holds no ledger.parquet; give in=FOLDER" in capsys.readouterr().err


def test_rethreshold_decides_again_and_measures_nothing(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curate(texts, tmp_path / "out")
    again = ["rethreshold", str(tmp_path / "out"), f"output={tmp_path / 'again'}"]
    assert main([*again, "steps.near_dedup.threshold=1.0", "steps.length.min_text_words=2"]) == 0
    assert len(lines(tmp_path / "again/rows.jsonl")) == 41  # the near copy is back, the one word is gone
    capsys.readouterr()
    assert main([*again, "steps.near_dedup.words=3"]) == 2
    assert "steps.near_dedup.words: 3 changes what is measured (it was 5)" in capsys.readouterr().err
    assert main([*again, "steps.toxicity={}"]) == 2
    assert "steps.toxicity: was not measured; run `python -m data_prep input=" in capsys.readouterr().err
    assert main([*again, "steps.near_dedup.threshold=0.6"]) in (2, 3)
    assert "search_from" in capsys.readouterr().err
    assert main(["rethreshold", str(tmp_path), "output=x"]) == 3
    assert "holds no measured job; give the output folder of" in capsys.readouterr().err


def test_the_steps_may_be_set_one_by_one(texts: Path, tmp_path: Path) -> None:
    settings = ["steps.exact_dedup=null", "steps.language=null", "steps.length.max_text_words=20"]
    assert main([f"input={texts}", f"output={tmp_path / 'out'}", *settings]) == 0
    assert len(lines(tmp_path / "out/rows.jsonl")) == 1


def test_decontamination_needs_an_evaluation(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [f"input={texts}", f"output={tmp_path / 'out'}", "steps=[decontamination]"]
    assert main(line) == 2
    assert capsys.readouterr().err.startswith(
        "error: against: missing, but the step decontamination is on; set against"
    )
    item = {"prompt": f"{LONG} number 7 49 49 because of the 7th of all storms in town 10", "completion": "yes it will"}
    evaluation = tmp_path / "eval.jsonl"
    evaluation.write_text("".join(json.dumps(each) + "\n" for each in [item, {"prompt": "b", "completion": "c"}]))
    assert main([*line, f"against={evaluation}"]) == 0
    ledger = parquet.read_table(tmp_path / "out/ledger.parquet").to_pylist()
    dropped = [row for row in ledger if not row["kept"]]
    assert any("number 7" in row["decontamination_text"] for row in dropped)


def test_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        write_rows(
            tmp_path / name, "train", [{"id": f"{name}{n}", "source": name, "text": f"{name} {n}"} for n in range(9)]
        )
    sources = [f"sources.{name}={tmp_path / name}" for name in "ab"]
    assert main(["mix", *sources, "parts.a.epochs=2", f"output={tmp_path / 'out'}"]) == 0
    rows = lines(tmp_path / "out/train.jsonl")
    assert sum(row["source"] == "a" for row in rows) == 18 and len(rows) == 27
    capsys.readouterr()
    assert main(["mix", *sources, "parts.c.epochs=2", f"output={tmp_path / 'out'}"]) == 2
    assert "parts.c: no such source; add sources.c=FOLDER, or remove it" in capsys.readouterr().err
    assert main(["mix", f"sources.x={tmp_path}", f"output={tmp_path / 'out'}"]) == 3
    assert "holds no train.jsonl; give a dataset folder" in capsys.readouterr().err


def test_train_quality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, tail in (("good", "a careful account of the harvest"), ("bad", "click here to win big prizes now")):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{tail} {n} {n * 3}" for n in range(300)))
    out = tmp_path / "model"
    command = [
        "train-quality",
        f"positive={tmp_path / 'good.txt'}",
        f"negative={tmp_path / 'bad.txt'}",
        f"output={out}",
    ]
    assert main(command) == 0
    assert "AUC 1.000 (95 % interval" in capsys.readouterr().out
    used = [f"steps.classifiers.quality.model={out}", "steps.classifiers.quality.min_score=0.5", "steps.language=null"]
    assert main([f"input={tmp_path / '*.txt'}", f"output={tmp_path / 'scored'}", *used]) == 0
    assert {row["text"][:7] for row in lines(tmp_path / "scored/rows.jsonl")} == {"a caref"}
    assert main(["train-quality", f"positive={tmp_path / 'good.txt'}", f"output={out}"]) == 2
    assert "give files in positive and negative, or in labelled" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (["inptu=x", "output=y"], 2, "inptu: unknown key (value 'x'); did you mean input?"),
        (["input=x"], 2, "output: missing; set it"),
        (["input=x", "output=y", "steps=[dedup]"], 2, "no step 'dedup'; did you mean near_dedup?"),
        (["curat", "input=x"], 2, "curat: no such command; did you mean curate?"),
        (["input=/nope.jsonl", "output={tmp}"], 3, "/nope.jsonl: does not exist; give a local path"),
        (["input=x", "output=y", "engine=spark"], 2, "engine: {'kind': 'spark'} is not allowed"),
        (["input=x", "output=y", "data.role=eval"], 2, "data.role: not for a curation alone; remove it"),
        (["input=x", "output=y", "steps.language.alow=[en]"], 2, "steps.language.alow: unknown key"),
        (["rows.jsonl", "output=y"], 2, "rows.jsonl: no such command"),
        (["input=x", "output=y", "steps=[exact_dedup"], 2, "cannot be read"),
    ],
)
def test_wrong_lines(line: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([each.replace("{tmp}", str(tmp_path)) for each in line]) == code
    told = capsys.readouterr().err
    assert said in told and told.startswith("error: ") and "Traceback" not in told


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    assert capsys.readouterr().out == 2 * USAGE
    assert all(f"python -m data_prep {name}" in USAGE for name in COMMANDS if name != "curate")
