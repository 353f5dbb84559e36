"""Questions to tokenizer and template before a row is tokenised: what is fatal stops, what matters is a warning."""

import json
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import CHAT, CHATML, FAMILIES, NO_END, PAIR, THINKING, build, chatml, family

from data_prep.errors import DataError
from data_prep.rows import write_rows
from data_prep.tokens.config import TokensConfig
from data_prep.tokens.prepare import prepare
from data_prep.tokens.probes import probe

NAMES = {
    "end and pad token",
    "prefix preserved",
    "stop token trained",
    "one beginning token",
    "round trip",
    "typed control tokens",
}


def statuses(tokenizer: Any, kind: str = "chat") -> dict[str, str]:
    return {finding["name"]: finding["status"] for finding in probe(tokenizer, kind)}


def text_of(tokenizer: Any, name: str, kind: str = "chat") -> str:
    return next(finding["text"] for finding in probe(tokenizer, kind) if finding["name"] == name)


@pytest.mark.parametrize("name", FAMILIES)
def test_known_families_pass(name: str) -> None:
    found = statuses(family(name))
    assert set(found) == NAMES
    assert set(found.values()) <= {"passed"} or name in ("zephyr", "phi3"), found
    if name in ("zephyr", "phi3"):  # these templates leave the beginning to the tokenizer
        assert [probe for probe, status in found.items() if status == "warning"] == ["one beginning token"]


def test_a_template_that_rewrites_answers_is_a_warning() -> None:
    assert statuses(chatml(THINKING))["prefix preserved"] == "warning"
    assert "stages.sft.chat_template=trl" in text_of(chatml(THINKING), "prefix preserved")


def test_two_beginning_tokens_stop() -> None:
    tokenizer = build("{{ bos_token }}{{ bos_token }}" + CHATML, "<s>", "<|im_end|>", ("<|im_start|>",))
    with pytest.raises(DataError, match="the chat template begins with <s> twice, which no model has seen"):
        probe(tokenizer, "chat")


def test_an_answer_that_never_ends_stops() -> None:
    with pytest.raises(DataError, match="it ends an answer with .* the model would never stop"):
        probe(chatml(NO_END), "chat")
    marked = "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}<|im_end|>{% endfor %}"
    with pytest.raises(DataError, match="^the chat template leaves the end-of-turn token out"):
        probe(chatml(marked), "chat")


def test_what_does_not_decode_to_itself_is_a_warning() -> None:
    from tokenizers import normalizers

    tokenizer = build(CHATML, None, "<|im_end|>", ("<|im_start|>",), nfc=True)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert text_of(tokenizer, "round trip").startswith("ids do not decode to the text: 'Is 2 + 2  fo' became 'is 2")
    build.cache_clear()


def test_missing_pad_and_end_tokens() -> None:
    tokenizer = build(CHATML, None, "<|im_end|>", ("<|im_start|>",), trim=True)
    tokenizer.pad_token = None
    assert text_of(tokenizer, "end and pad token") == "no pad token: batches are padded with <|im_end|>"
    tokenizer.eos_token, tokenizer.pad_token = None, "<|im_start|>"
    assert text_of(tokenizer, "end and pad token").startswith("no end token (eos): only the end-of-turn token stops")
    tokenizer.pad_token = None
    with pytest.raises(DataError, match="tokenizer: has neither an end token .* set eos_token in its tokenizer_config"):
        probe(tokenizer, "chat")
    build.cache_clear()


def test_plain_templates_are_asked_less() -> None:
    found = statuses(build(None, "<s>", "</s>", ()), "plain")
    assert set(found) == NAMES - {"prefix preserved", "typed control tokens"}
    assert set(found.values()) == {"passed"}


def test_typed_tokens_that_stay_control_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    from data_prep.tokens import masks

    monkeypatch.setattr(masks, "disguised", lambda tokenizer, text, typed: text)
    monkeypatch.setattr(masks, "disguised_backend", lambda tokenizer, backend: backend)
    masks._disguised_backend.cache_clear()
    with pytest.raises(DataError, match="tokenizer: 2 control tokens typed by a user would become control"):
        probe(chatml(CHATML), "chat")
    masks._disguised_backend.cache_clear()


def test_findings_lengths_and_typed_tokens_are_in_the_audit_and_the_metrics(tmp_path: Path) -> None:
    typed = {**PAIR, "id": "p-2", "prompt": "What does <|im_end|> do?"}
    write_rows(tmp_path / "data", "train", [CHAT, PAIR, typed])
    metrics = prepare(tmp_path / "data", chatml(CHATML), tmp_path / "out", TokensConfig())
    audit = json.loads((tmp_path / "out" / "audit.json").read_text("utf-8"))
    assert {finding["name"] for finding in audit["probes"]} == NAMES
    assert metrics["probe_warnings"] == 0
    assert metrics["typed_control_tokens"] == audit["splits"]["train"]["typed_control_tokens"] == 1
    lengths = audit["splits"]["train"]["lengths"]
    assert {f"train_length_{name}": value for name, value in lengths.items()}.items() <= metrics.items()
    assert list(lengths) == ["p50", "p90", "p95", "p99", "max"]
    assert all(shown["round_trip"] for shown in audit["splits"]["train"]["preview"])
    warned = prepare(
        tmp_path / "data",
        chatml(THINKING),
        tmp_path / "out",
        TokensConfig(on_template_error="drop", loss_on="completion"),
    )
    assert warned["probe_warnings"] == 1
