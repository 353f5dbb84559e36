"""A dataset folder becomes token arrays on disk and an audit that a person can read."""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import CHAT, CHATML, NO_END, PAIR, THINKING, build, chatml
from pydantic import ValidationError

from data_prep.errors import DataError
from data_prep.rows import write_rows
from data_prep.tokens.audit import find_problem, preview_pieces
from data_prep.tokens.config import TokensConfig
from data_prep.tokens.masks import encode
from data_prep.tokens.prepare import load_prepared, prepare
from data_prep.tokens.template import render

LONG_PROMPT = {"id": "long-1", "source": "far", "prompt": "word " * 300, "completion": "yes"}
LONG_ANSWER = {"id": "long-2", "source": "far", "prompt": "say", "completion": "word " * 300}
NO_ANSWER = {"id": "mute-1", "source": "s", "messages": [{"role": "user", "content": "Hi"}]}


def folder_of(tmp_path: Path, train: list[dict], validation: list[dict] | None = None) -> Path:
    """A dataset folder with these rows."""
    folder = tmp_path / "data"
    write_rows(folder, "train", train)
    if validation:
        write_rows(folder, "validation", validation)
    return folder


def run(tmp_path: Path, rows: list[dict], tokenizer: Any = None, **settings: Any) -> dict[str, float]:
    """Prepare training rows in `tmp_path / "out"`."""
    config = TokensConfig(**settings)
    return prepare(folder_of(tmp_path, rows), tokenizer or chatml(CHATML), tmp_path / "out", config)


def audit(tmp_path: Path) -> dict[str, Any]:
    """The audit that `run` wrote."""
    return json.loads((tmp_path / "out" / "audit.json").read_text("utf-8"))


def test_arrays_hold_what_render_and_encode_say(tmp_path: Path) -> None:
    metrics = prepare(
        folder_of(tmp_path, [CHAT, PAIR], [PAIR]), chatml(CHATML), out := tmp_path / "out", TokensConfig()
    )
    train, validation = load_prepared(out, "train"), load_prepared(out, "validation")
    assert {name: str(train.features[name]) for name in train.column_names} == {
        "input_ids": "List(Value('int32'))",
        "labels": "List(Value('int32'))",
        "id": "Value('string')",
    }
    assert train["id"][:] == ["c-1", "p-1"]
    expected = encode(chatml(CHATML), render(chatml(CHATML), PAIR), 1024)
    assert train[1] == validation[0] == {"input_ids": expected.input_ids, "labels": expected.labels, "id": "p-1"}
    assert (metrics["rows"], metrics["train_rows"], metrics["validation_rows"]) == (3, 2, 1)
    assert metrics["tokens"] == sum(len(row["input_ids"]) for row in [*train, *validation])
    assert metrics["supervised_tokens"] == sum(
        label != -100 for row in [*train, *validation] for label in row["labels"]
    )
    assert train.cache_files  # memory-mapped


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    def digests(name: str) -> dict[str, str]:
        out = tmp_path / name
        prepare(folder_of(tmp_path, [CHAT, PAIR]), chatml(CHATML), out, TokensConfig())
        files = sorted(path for path in out.rglob("*") if path.is_file())
        return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    first = digests("one")
    assert first == digests("two") == digests("one")
    assert set(first) == {
        "audit.json",
        "train/data-00000-of-00001.arrow",
        "train/dataset_info.json",
        "train/state.json",
    }


def test_the_audit_counts_by_source_and_shows_pieces(tmp_path: Path) -> None:
    run(tmp_path, [CHAT, {**PAIR, "source": "other"}], preview_rows=1)
    report = audit(tmp_path)
    assert (report["template"], report["end_of_turn"]) == ("chat", "<|im_end|>")
    train = report["splits"]["train"]
    assert {name: counts["rows"] for name, counts in train["sources"].items()} == {"s": 1, "other": 1}
    assert sum(counts["tokens"] for counts in train["sources"].values()) == train["tokens"]
    assert list(train["lengths"]) == ["p50", "p90", "p95", "p99", "max"]
    [shown] = train["preview"]
    assert shown["round_trip"]
    assert "".join(piece["text"] for piece in shown["pieces"]) == render(chatml(CHATML), CHAT).text
    supervised = [piece["text"] for piece in shown["pieces"] if piece["supervised"]]
    assert supervised == ["Hello there<|im_end|>", "Paris<|im_end|>"]


def test_the_preview_of_a_cut_row_stops_at_its_last_token() -> None:
    rendered = render(chatml(CHATML), {**PAIR, "completion": "Paris 😀 of course"})
    whole = encode(chatml(CHATML), rendered, 1000)
    inside_the_emoji = (
        next(place for place, span in enumerate(whole.offsets) if rendered.text[slice(*span)] == "😀") + 1
    )
    pieces = preview_pieces(rendered, encode(chatml(CHATML), rendered, inside_the_emoji))
    assert pieces[-1] == {"text": "Paris 😀", "supervised": True}
    assert rendered.text.startswith("".join(piece["text"] for piece in pieces))


def test_a_prompt_that_leaves_no_room_is_named_or_dropped(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(tmp_path, [PAIR, LONG_PROMPT], max_length=64)
    assert str(caught.value).startswith("row long-1: ")
    assert "stages.sft.max_length is 64: no supervised token is left" in str(caught.value)
    assert "raise stages.sft.max_length to more than" in str(caught.value)
    assert "or set stages.sft.on_too_long=drop" in str(caught.value)
    metrics = run(tmp_path, [PAIR, LONG_PROMPT], max_length=64, on_too_long="drop")
    assert (metrics["rows"], metrics["dropped_rows"]) == (1, 1)
    train = audit(tmp_path)["splits"]["train"]
    assert train["dropped"] == {"too_long": 1}
    assert train["sources"]["far"] == {"dropped_rows": 1}


def test_the_length_an_error_asks_for_is_enough(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"to more than (\d+)") as caught:
        run(tmp_path, [LONG_PROMPT], max_length=64)
    needed = int(str(caught.value).split("to more than ")[1].split()[0])
    with pytest.raises(DataError, match="row long-1"):
        run(tmp_path, [LONG_PROMPT], max_length=needed, max_truncated_share=1.0)
    assert run(tmp_path, [LONG_PROMPT], max_length=needed + 1, max_truncated_share=1.0)["supervised_tokens"] == 1


def test_a_row_without_an_answer_is_named_or_dropped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row mute-1: has no supervised token .*stages.sft.on_no_supervision=drop"):
        run(tmp_path, [PAIR, NO_ANSWER])
    run(tmp_path, [PAIR, NO_ANSWER], on_no_supervision="drop")
    assert audit(tmp_path)["splits"]["train"]["dropped"] == {"no_supervision": 1}


def test_a_row_the_template_cannot_mask_is_named_or_dropped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row c-1: the chat template rewrites assistant turn 1"):
        run(tmp_path, [PAIR, CHAT], chatml(THINKING))
    run(tmp_path, [PAIR, CHAT], chatml(THINKING), on_template_error="drop")
    assert audit(tmp_path)["splits"]["train"]["dropped"] == {"template_error": 1}


def test_an_end_token_without_loss_is_a_problem() -> None:
    encoded = replace(encode(chatml(CHATML), render(chatml(CHATML), PAIR), 100), unsupervised_ends=1)
    problem = find_problem(PAIR, encoded, 100)
    assert problem is not None
    assert problem[0] == "template_error"
    assert problem[1].startswith("row p-1: the end-of-turn token is not supervised in 1 turn(s)")


def test_a_template_that_fits_no_row_fails_even_when_rows_may_be_dropped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the chat template cannot be trained on: it ends an answer with"):
        run(tmp_path, [PAIR], chatml(NO_END), on_template_error="drop")


def test_dropping_every_row_fails(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train: all 1 rows were dropped \(\{'no_supervision': 1\}\)"):
        run(tmp_path, [NO_ANSWER], on_no_supervision="drop")
    with pytest.raises(DataError, match="has no training rows; check the splits"):
        prepare(tmp_path / "nothing", chatml(CHATML), tmp_path / "out", TokensConfig())


def test_too_much_truncation_fails_with_share_threshold_and_lengths(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(tmp_path, [PAIR, LONG_ANSWER], max_length=64)
    text = str(caught.value)
    train = audit(tmp_path)["splits"]["train"]
    assert train["truncated_rows"] == 1
    assert 0.8 < train["truncated_supervised_share"] < 1
    assert text.startswith(f"train: {train['truncated_supervised_share']:.1%} of the supervised tokens are lost")
    assert "stages.sft.max_length=64, more than max_truncated_share=5.0%" in text
    assert f"p50 {train['lengths']['p50']}" in text
    assert f"max {train['lengths']['max']} tokens); raise stages.sft.max_length or filter by length" in text
    assert run(tmp_path, [PAIR, LONG_ANSWER], max_length=64, max_truncated_share=1.0)["truncated_rows"] == 1
    assert max(len(row) for row in load_prepared(tmp_path / "out", "train")["input_ids"]) == 64


def test_text_rows_need_no_trainable_chat_template(tmp_path: Path) -> None:
    metrics = run(tmp_path, [{"id": "t", "source": "s", "text": "Once upon a time"}], chatml(NO_END))
    assert metrics["supervised_tokens"] == metrics["tokens"]
    assert audit(tmp_path)["end_of_turn"] == "<|im_end|>"


def test_plain_tokenizers_are_prepared_without_a_chat_template(tmp_path: Path) -> None:
    run(tmp_path, [PAIR], tokenizer := build(None, "<s>", "</s>", ()))
    [row] = load_prepared(tmp_path / "out", "train")
    assert tokenizer.decode(row["input_ids"]) == "<s>Capital of France?\nParis</s>"
    assert row["input_ids"].count(tokenizer.bos_token_id) == 1


def test_settings_are_strict() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        TokensConfig(max_length=1)
    with pytest.raises(ValidationError, match="'fail' or 'drop'"):
        TokensConfig(on_too_long="cut")  # type: ignore[arg-type]


def test_short_rows_are_quick(tmp_path: Path) -> None:
    rows = [{**PAIR, "id": f"p-{number}", "prompt": f"What is {number}?"} for number in range(2000)]
    run(tmp_path, rows[:10])
    started = time.perf_counter()
    run(tmp_path, rows)
    assert 2000 / (time.perf_counter() - started) > 50  # a guard only: the aim is 1000, a busy machine may be slow


@pytest.mark.slow
def test_trl_trains_on_the_arrays_as_they_are(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    run(tmp_path, [CHAT, PAIR])
    tokenizer = chatml(CHATML)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    settings = SFTConfig(
        output_dir=str(tmp_path / "trained"),
        max_steps=1,
        report_to=[],
        use_cpu=True,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    rows = load_prepared(tmp_path / "out", "train").remove_columns("id")
    trainer = SFTTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    expected = {tuple(row["labels"]) for row in rows}
    width = batch["labels"].shape[1]
    padded = {labels + (-100,) * (width - len(labels)) for labels in expected}
    assert {tuple(labels) for labels in batch["labels"].tolist()} == padded
    assert trainer.train().training_loss > 0
