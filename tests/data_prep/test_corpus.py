"""Rows for pretraining: whole documents with their ends, as data sets on disk."""

import json
from pathlib import Path

import pytest

from data_prep.errors import DataError
from data_prep.rows import write_rows
from data_prep.tokens.corpus import prepare_corpus
from data_prep.tokens.corpus_config import CorpusConfig
from data_prep.tokens.vocabulary.config import SpecialTokens, VocabularyConfig
from data_prep.tokens.vocabulary.train import train_tokenizer

TEXTS = [f"Text number {n} says <|endoftext|> and {'goes on ' * (n % 7)}." for n in range(40)]


def tokenizer(**special: object):
    return train_tokenizer(TEXTS, VocabularyConfig(vocab_size=300, special=SpecialTokens.model_validate(special)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, texts in (("train", TEXTS[:30]), ("validation", TEXTS[30:])):
        write_rows(tmp_path / "rows", split, ({"id": f"{split}{n}", "text": text} for n, text in enumerate(texts)))
    return tmp_path / "rows"


def rows_of(out: Path, split: str = "train") -> list[dict]:
    from datasets import load_from_disk

    return list(load_from_disk(str(out / split)))  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("packing", ["concatenate", "best_fit", "none"])
def test_documents_stand_between_their_tokens(folder: Path, tmp_path: Path, packing: str) -> None:
    """A special token that somebody typed into a text is text: only ours start and end a document."""
    words = tokenizer(bos="<s>")
    config = CorpusConfig.model_validate({"max_length": 64, "packing": packing})
    totals = prepare_corpus(folder, words, tmp_path / "out", config)
    found: dict[str, list[int]] = {}
    for row in rows_of(tmp_path / "out"):
        place = 0
        for name, length in zip(row["documents"], row["lengths"], strict=True):
            found.setdefault(name, []).extend(row["input_ids"][place : place + length])
            place += length
    if packing != "best_fit":  # the longest documents are packed in pieces of any order
        assert [words.decode(found[f"train{n}"]) for n in range(30)] == [
            f"<s>{text}<|endoftext|>" for text in TEXTS[:30]
        ]
    for ids in found.values():
        assert ids.count(words.eos_token_id) == 1 and ids.count(words.bos_token_id) == 1
    assert totals["documents"] == 40 and totals["train_rows"] + totals["validation_rows"] == totals["rows"]
    pieces = sum(len(row["lengths"]) for split in ("train", "validation") for row in rows_of(tmp_path / "out", split))
    assert totals["supervised_tokens"] == totals["tokens"] - pieces


def test_without_a_beginning_token_the_end_token_starts(folder: Path, tmp_path: Path) -> None:
    words = tokenizer()
    prepare_corpus(folder, words, tmp_path / "a", CorpusConfig(packing="none"))
    prepare_corpus(folder, words, tmp_path / "b", CorpusConfig(packing="none", document_start=False))
    with_start, without = rows_of(tmp_path / "a")[0]["input_ids"], rows_of(tmp_path / "b")[0]["input_ids"]
    assert with_start == [words.eos_token_id, *without]


def test_equal_input_gives_equal_bytes(folder: Path, tmp_path: Path) -> None:
    words = tokenizer(mask="[M]")
    for objective in ("causal", "masked"):
        for out in ("a", "b"):
            config = CorpusConfig.model_validate({"objective": objective, "max_length": 32})
            prepare_corpus(folder, words, tmp_path / objective / out, config, seed=3)
        for file in sorted((tmp_path / objective / "a").rglob("*.*")):
            other = tmp_path / objective / "b" / file.relative_to(tmp_path / objective / "a")
            assert file.read_bytes() == other.read_bytes(), file


def test_masked_rows_are_wrapped_and_copied(folder: Path, tmp_path: Path) -> None:
    words = tokenizer(cls="[CLS]", sep="[SEP]", mask="[M]")
    prepare_corpus(folder, words, tmp_path / "out", CorpusConfig(objective="masked", max_length=256, copies=3))
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 90
    for row in rows:
        assert row["input_ids"][0] == words.cls_token_id and row["input_ids"][-1] == words.sep_token_id
        assert row["labels"][0] == row["labels"][-1] == -100
    hidden = {tuple(row["labels"]) for row in rows if row["documents"] == ["train6"]}
    assert len(hidden) == 3


def test_gaps_end_with_the_end_token(folder: Path, tmp_path: Path) -> None:
    words = tokenizer(sentinels=40)
    prepare_corpus(folder, words, tmp_path / "out", CorpusConfig(objective="denoising", max_length=128, copies=1))
    for row in rows_of(tmp_path / "out"):
        assert row["input_ids"][-1] == row["labels"][-1] == words.eos_token_id
        assert words.convert_tokens_to_ids("<extra_id_0>") in row["input_ids"]
    preview = json.loads((tmp_path / "out" / "audit.json").read_text())["splits"]["train"]["preview"]
    assert [piece["supervised"] for piece in preview[0]["pieces"]] == [False, True]


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tokenizer: has no mask token; choose one that has a mask token"):
        prepare_corpus(folder, tokenizer(), tmp_path / "a", CorpusConfig(objective="masked"))
    with pytest.raises(DataError, match=r"have up to 51 gaps; set special.sentinels=52 in the stage of kind tokenizer"):
        prepare_corpus(folder, tokenizer(), tmp_path / "b", CorpusConfig(objective="denoising"))
    write_rows(tmp_path / "chat", "train", [{"id": "x", "prompt": "Say", "completion": "so"}])
    with pytest.raises(DataError, match="row x: is a prompt_completion row, and pretraining reads text"):
        prepare_corpus(tmp_path / "chat", tokenizer(), tmp_path / "c", CorpusConfig())
    words = tokenizer()
    prepare_corpus(tmp_path / "chat", words, tmp_path / "d", CorpusConfig(rows="all"))
    assert words.decode(rows_of(tmp_path / "d")[0]["input_ids"]) == "<|endoftext|>Say\nso<|endoftext|>"
    with pytest.raises(DataError, match="has no training rows"):
        prepare_corpus(tmp_path / "nothing", words, tmp_path / "e", CorpusConfig())


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="packing: has no meaning with objective=masked; remove it"):
        CorpusConfig(objective="masked", packing="best_fit")
    with pytest.raises(ValueError, match="copies: has no meaning with objective=causal"):
        CorpusConfig(copies=2)
