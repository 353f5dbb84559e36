"""What a user can hand in wrong: each is one line that names the thing, or a number that says what happened."""

import json
from pathlib import Path
from typing import Any

import pytest

from eval.commands.cli import main
from eval.compare import compare, summarise
from eval.config import StatisticsConfig
from eval.predictions import note_policy, write_predictions

METRICS = ["rouge", "bleu", "exact_match", "f1", "label", "toxicity"]


@pytest.fixture(scope="module")
def saved(model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def refused(saved: Path, out: Path, rows: bytes, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one line about a file of rows that cannot be used."""
    file = out / "rows.jsonl"
    file.write_bytes(rows)
    given = [f"model={saved}", "tasks=[a]", f"data.a.source={file}", f"output={out / 'out'}", "template=plain"]
    assert main([*given, "generation.max_new_tokens=4", "statistics.resamples=100", *more]) == 3
    bars_and_error = capsys.readouterr().err.strip().splitlines()
    told = [line for line in bars_and_error if line.startswith("error: ")]
    assert len(told) == 1 and bars_and_error[-1] == told[0]
    return told[0]


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


GOOD = {"prompt": "the old", "completion": "mill"}


@pytest.mark.parametrize("reference", ["", "   "])
def test_an_empty_reference(reference: str, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(saved, tmp_path, lines(GOOD, {"prompt": "the river", "completion": reference}), capsys)
    assert "the answer is empty, so there is nothing to score; drop the row" in told or "reference 1: missing" in told


def test_no_reference_at_all(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(saved, tmp_path, lines({"prompt": "the river"}), capsys)
    assert "data.a: no format fits (columns: prompt)" in told and "prompt_completion (prompt, completion)" in told


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_references_in_another_encoding(
    encoding: str, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines({"prompt": "Käse", "completion": "Mühle"}).decode().encode(encoding)
    told = refused(saved, tmp_path, rows, capsys)
    assert "UTF-8" in told and str(tmp_path / "rows.jsonl") in told


def test_a_prompt_beyond_the_context_is_not_cut(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines(GOOD, {"prompt": "z" * 40, "completion": "mill"})
    assert "tokens, the model reads 32; shorten the rows" in refused(saved, tmp_path, rows, capsys)
    told = refused(saved, tmp_path, rows, capsys, "perplexity=null")
    assert "tokens and 4 new ones exceed the model's context of 32; shorten the rows" in told


def test_a_text_beyond_the_context_is_read_in_windows(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(lines({"text": "z" * 100}))
    given = [f"model={saved}", "tasks=[a]", f"data.a.source={tmp_path / 'rows.jsonl'}", f"output={tmp_path / 'out'}"]
    assert main([*given, "statistics.resamples=100"]) == 0
    row = json.loads((tmp_path / "out/model/a/a.perplexity.jsonl").read_text(encoding="utf-8"))
    assert row["tokens"] == 100 and row["bytes"] == 100


def test_texts_without_a_letter(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(saved, tmp_path, lines({"text": ""}, {"text": "", "id": "b"}), capsys)
    assert "all 2 texts are empty, so there is nothing to score" in told or "all 1 texts are empty" in told


def test_logits_that_are_no_numbers(
    model: Any, tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import copy

    import torch

    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.lm_head.weight[5] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    tokenizer.save_pretrained(tmp_path / "broken")
    told = refused(tmp_path / "broken", tmp_path, lines(GOOD), capsys)
    assert "its log-likelihood is nan, the model's logits are not finite; check the weights" in told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("settings.a={kind: choice, shotz: 1}", "settings.a.shotz: unknown key (value 1); did you mean shots?"),
        ("settings.a={kind: cloz}", "settings.a"),
        ("metrics.a=[rogue]", "'rogue' is no metric; allowed are rouge, bleu"),
        ("data.a.colums={}", "data.a.colums: unknown key (value {}); did you mean columns?"),
    ],
)
def test_a_task_with_unknown_fields(
    override: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["model=x", "tasks=[a]", "data.a.source=rows.jsonl", f"output={tmp_path}", override]
    assert main(given) == 2
    assert message in capsys.readouterr().err


def answers(folder: Path, outputs: list[str]) -> Path:
    rows = [
        {"id": f"{n}", "prompt": f"q{n}", "output": text, "reference": "the old mill", "finish_reason": "stop",
         "tokens": 1}
        for n, text in enumerate(outputs)
    ]  # fmt: skip
    write_predictions(folder, "x", "generation", rows)
    note_policy(folder, "x", {"generation": "g"}, "generation", "k")
    return folder


def test_empty_generations_score_nothing_and_are_counted(tmp_path: Path) -> None:
    empty, some = answers(tmp_path / "a", [""] * 12), answers(tmp_path / "b", ["the old mill"] * 12)
    values = summarise(empty, {"x": METRICS})
    assert values["variety/x"]["empty"] == 1
    for task in ("rouge/x", "bleu/x", "exact/x", "f1/x", "label/x", "toxicity/x"):
        scores = {name: value for name, value in values[task].items() if name != "no_label"}
        assert set(scores.values()) == {0.0}, task
    found = compare(empty, some, StatisticsConfig(resamples=1000), {"x": METRICS})
    assert found["rouge/x"]["rougeL"]["verdict"] == found["bleu/x"]["chrf"]["verdict"] == "better"
