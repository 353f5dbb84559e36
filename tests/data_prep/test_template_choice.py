"""A chat template from outside: shipped, TRL's, or a file; what the tokenizer lacks is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import CHAT, CHATML, PAIR, THINKING, build, chatml
from test_masks_trl import FAMILIES as TRL_FAMILIES
from test_masks_trl import template, tokenizer_of

from data_prep.errors import DataError
from data_prep.rows import write_rows
from data_prep.tokens.choose import CHOSEN, choose_chat_template, fingerprint, shipped, take_chosen, training_variant
from data_prep.tokens.config import CHAT_TEMPLATES, TokensConfig
from data_prep.tokens.prepare import load_prepared, prepare
from data_prep.tokens.template import render


def bare(*special: str, bos: str | None = "<s>") -> Any:
    """A tokenizer without a chat template; not shared, because a choice changes it."""
    build.cache_clear()
    return build(None, bos, "</s>", special)


def prepared(tmp_path: Path, tokenizer: Any, chosen: str, rows: list[dict[str, Any]] | None = None) -> Path:
    write_rows(tmp_path / "data", "train", rows or [CHAT])
    prepare(tmp_path / "data", tokenizer, tmp_path / "out", TokensConfig(chat_template=chosen))
    return tmp_path / "out"


def test_the_shipped_templates_are_those_that_are_named() -> None:
    folder = Path(shipped.__code__.co_filename).parent / "chat_templates"
    assert {file.stem for file in folder.iterdir()} == set(CHAT_TEMPLATES)


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_a_tokenizer_without_a_template_is_trained_with_a_shipped_one(name: str, tmp_path: Path) -> None:
    tokenizer = bare(*CHAT_TEMPLATES[name])
    out = prepared(tmp_path, tokenizer, name)
    assert tokenizer.chat_template is None  # the caller's tokenizer stays
    assert (out / CHOSEN).read_text("utf-8") == shipped(name)
    take_chosen(tokenizer, out)
    rendered = render(tokenizer, CHAT)
    answers = [rendered.text[start:end].strip() for start, end in rendered.supervised]
    assert [answer.startswith(said) for answer, said in zip(answers, ["Hello there", "Paris"], strict=True)] == [
        True
    ] * 2
    assert tokenizer.decode(load_prepared(out, "train")[0]["input_ids"]) == rendered.text
    audit = json.loads((out / "audit.json").read_text("utf-8"))
    assert audit["template"] == "chat"
    assert {finding["status"] for finding in audit["probes"] if finding["name"] != "one beginning token"} == {"passed"}


def test_without_a_choice_the_error_says_how(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, bare(), "own")
    assert str(caught.value) == (
        "row c-1: messages need a chat template and the plain template has no roles; use template=chat, and for a "
        "tokenizer without a chat template choose one: "
        "stages.sft.chat_template=chatml|llama2|llama3|mistral|zephyr|gemma|phi3|PATH"
    )


@pytest.mark.parametrize(
    ("tokenizer", "chosen", "expected"),
    [
        (
            bare(),
            "chatml",
            "stages.sft.chat_template=chatml: the tokenizer has no <|im_start|>, <|im_end|>; choose llama2 or mistral or"
            " zephyr, whose tokens it has, or add the tokens with a stage of kind tokenizer",
        ),
        (bare(bos=None), "llama2", "the tokenizer has no beginning token (bos); choose zephyr, whose tokens it has"),
        (
            bare(),
            "chatlm",
            "stages.sft.chat_template: chatlm is no readable text (FileNotFoundError); allowed are own, trl, chatml,",
        ),
        (chatml(THINKING), "trl", "chat_template=trl: TRL has no training variant of this tokenizer's chat template"),
        (
            bare(),
            "trl",
            "chat_template=trl: TRL has no training variant of this tokenizer's chat template; it has those",
        ),
    ],
)
def test_a_choice_that_cannot_be_is_named(tokenizer: Any, chosen: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        choose_chat_template(tokenizer, chosen)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_is_taken_and_its_content_counts(tmp_path: Path) -> None:
    (file := tmp_path / "mine.jinja").write_text(CHATML, encoding="utf-8")
    out = prepared(tmp_path, bare("<|im_start|>", "<|im_end|>"), str(file))
    assert (out / CHOSEN).read_text("utf-8") == CHATML
    (moved := tmp_path / "moved.jinja").write_text(CHATML, encoding="utf-8")
    assert fingerprint(str(file)) == fingerprint(str(moved)) != fingerprint("chatml") == "chatml"
    moved.write_text(CHATML + " ", encoding="utf-8")
    assert fingerprint(str(file)) != fingerprint(str(moved))


@pytest.mark.parametrize("name", TRL_FAMILIES)
def test_trl_variants_are_found_by_the_original_and_by_themselves(name: str) -> None:
    assert training_variant(template(name)) == training_variant(template(name, "_training")) != template(name)


def test_a_rewriting_template_learns_every_answer_with_trls_variant(tmp_path: Path) -> None:
    """Qwen3 drops earlier thinking blocks; the variant does not, and is not what the model is served with."""
    with pytest.raises(DataError, match="rewrites assistant turn 1 once later messages follow"):
        prepared(tmp_path, tokenizer_of("qwen3"), "own")
    out = prepared(tmp_path, tokenizer_of("qwen3"), "trl")
    assert not (out / CHOSEN).exists()
    row = load_prepared(out, "train")[0]
    theirs = tokenizer_of("qwen3").apply_chat_template(
        CHAT["messages"],
        chat_template=template("qwen3", "_training"),
        return_assistant_tokens_mask=True,
        return_dict=True,
    )
    assert row["input_ids"] == theirs["input_ids"]
    assert [int(label != -100) for label in row["labels"]] == theirs["assistant_masks"]


def test_named_variants_count_by_their_default() -> None:
    tokenizer = bare("<|im_start|>", "<|im_end|>")
    tokenizer.chat_template = {"default": CHATML, "tool_use": "{{ 'other' }}"}
    choose_chat_template(tokenizer, "own")
    assert tokenizer.chat_template == CHATML


def test_pairs_are_chats_once_a_template_is_chosen(tmp_path: Path) -> None:
    out = prepared(tmp_path, bare(), "zephyr", [PAIR])
    assert bare().decode(load_prepared(out, "train")[0]["input_ids"]).startswith("<|user|>\nCapital of France?</s>")
