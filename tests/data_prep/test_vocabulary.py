"""Tokenizers: equal to plain `tokenizers`, whole after decoding, and the same bytes every time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from data_prep.errors import DataError
from data_prep.tokens.vocabulary.config import ExtensionConfig, SpecialTokens, VocabularyConfig
from data_prep.tokens.vocabulary.extend import new_tokens
from data_prep.tokens.vocabulary.train import train_tokenizer

TEXTS = [
    f"{who} {what} the {thing}, {number} times.\n"
    for number, who in enumerate(["The cook", "A sailor", "Ünal", "Nobody"] * 20)
    for what in ("paints", "unpaints", "repaints")
    for thing in ("house", "houses", "boathouse")
]
ALGORITHMS = ["byte", "char", "word", "wordpiece", "bpe", "unigram"]


def plain(algorithm: str, size: int) -> Tokenizer:
    """The same tokenizer by the library alone."""
    special = ["<|pad|>", "<|endoftext|>", "<|unk|>"]
    bytes_of = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    common = {"vocab_size": size, "show_progress": False}
    if algorithm in ("bpe", "unigram"):
        tokenizer = Tokenizer(models.BPE() if algorithm == "bpe" else models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe = trainers.BpeTrainer(min_frequency=2, special_tokens=special[:2], **common, **bytes_of)
        trainer = (
            bpe if algorithm == "bpe" else trainers.UnigramTrainer(special_tokens=special[:2], **common, **bytes_of)
        )
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token="<|unk|>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        trainer = trainers.WordLevelTrainer(min_frequency=2, special_tokens=special, **common)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


@pytest.mark.parametrize("algorithm", ["char", "bpe", "unigram"])
def test_tokens_equal_those_of_the_plain_library(algorithm: str) -> None:
    ours = train_tokenizer(TEXTS, VocabularyConfig(algorithm=algorithm, vocab_size=400))
    theirs = plain(algorithm, 400)
    for text in ("The sailor repaints houses, 3 times.", "Unknown £ words & boathouses"):
        assert ours.tokenize(text) == theirs.encode(text).tokens
    assert ours.get_vocab() == theirs.get_vocab() or algorithm == "unigram"
    assert set(ours.get_vocab()) == set(theirs.get_vocab())


def test_wordpiece_learns_and_reads_as_the_library_and_as_bert(tmp_path: Path) -> None:
    """The library's own trainer breaks ties differently from run to run, so that a few pieces may differ."""
    from transformers import BertTokenizer

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=120,
        min_frequency=2,
        special_tokens=["[PAD]", "[SEP]", "[UNK]", "[CLS]", "[MASK]"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    special = SpecialTokens(pad="[PAD]", eos="[SEP]", unk="[UNK]", cls="[CLS]", sep="[SEP]", mask="[MASK]")
    ours = train_tokenizer(TEXTS, VocabularyConfig(algorithm="wordpiece", vocab_size=120, special=special))
    assert len(ours) == tokenizer.get_vocab_size()
    assert len(set(ours.get_vocab()) & set(tokenizer.get_vocab())) > 0.8 * len(ours)
    bert = BertTokenizer(ours.get_vocab(), do_lower_case=False)
    for text in ("The sailor repaints houses, 3 times.", "Unknown £ words & boathouses"):
        assert ours(text)["input_ids"] == bert(text)["input_ids"]


def test_words_and_bytes_by_hand() -> None:
    words = train_tokenizer(["a cat, a dog"] * 3, VocabularyConfig(algorithm="word"))
    assert words.tokenize("a cat,  a cow") == ["a", " cat", ",", "<|unk|>", " a", "<|unk|>"]
    raw = train_tokenizer(["x"], VocabularyConfig(algorithm="byte"))
    assert len(raw) == 256 + 2 and len(raw("né", add_special_tokens=False)["input_ids"]) == 3


EXACT = {
    (algorithm, alphabet): train_tokenizer(
        TEXTS, VocabularyConfig(algorithm=algorithm, alphabet=alphabet, vocab_size=400)
    )
    for algorithm, alphabet in [("byte", "bytes"), ("bpe", "bytes"), ("unigram", "bytes")]
}


@pytest.mark.parametrize("key", EXACT, ids=str)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back_from_a_tokenizer_over_bytes(key: tuple[str, str], text: str) -> None:
    tokenizer = EXACT[key]
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("algorithm", "alphabet"), [("char", "bytes"), ("bpe", "characters"), ("unigram", "characters")]
)
def test_known_characters_come_back(algorithm: str, alphabet: str) -> None:
    config = VocabularyConfig(algorithm=algorithm, alphabet=alphabet, vocab_size=300, min_frequency=1)
    tokenizer = train_tokenizer(TEXTS, config)
    for text in (TEXTS[0], "housesail  A\nN", " the cook"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_process_trains_the_same_bytes(algorithm: str, tmp_path: Path) -> None:
    rows = tmp_path / "texts.json"
    rows.write_text(json.dumps(TEXTS), encoding="utf-8")
    code = (
        "import json, sys; from data_prep.tokens.vocabulary.config import VocabularyConfig as C\n"
        "from data_prep.tokens.vocabulary.train import train_tokenizer as t\n"
        "t(json.load(open(sys.argv[1])), C(algorithm=sys.argv[2], vocab_size=400)).save_pretrained(sys.argv[3])"
    )
    subprocess.run([sys.executable, "-c", code, str(rows), algorithm, str(tmp_path / "other")], check=True)
    train_tokenizer(TEXTS, VocabularyConfig(algorithm=algorithm, vocab_size=400)).save_pretrained(tmp_path / "here")
    for file in (tmp_path / "here").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes(), file.name


def test_special_tokens_stand_where_they_should(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    special = SpecialTokens(pad="[PAD]", eos="[SEP]", unk="[UNK]", cls="[CLS]", sep="[SEP]", mask="[MASK]", sentinels=2)
    train_tokenizer(TEXTS, VocabularyConfig(algorithm="wordpiece", special=special, max_length=77)).save_pretrained(
        tmp_path
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_ids_to_tokens(range(7)) == [
        "[PAD]", "[SEP]", "[UNK]", "[CLS]", "[MASK]", "<extra_id_0>", "<extra_id_1>",
    ]  # fmt: skip
    assert tokenizer.model_max_length == 77
    assert tokenizer.convert_ids_to_tokens(tokenizer("the houses")["input_ids"])[::3][0] == "[CLS]"
    assert tokenizer("the")["input_ids"][-1] == tokenizer.sep_token_id


def test_the_chat_template_ends_turns_with_the_end_token() -> None:
    tokenizer = train_tokenizer(TEXTS, VocabularyConfig(chat_template="chatml"))
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\n"
    assert tokenizer.eos_token == "<|im_end|>" and len(tokenizer.tokenize("<|im_end|>")) == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"algorithm": "word", "special": {"unk": None}}, "word over characters needs an unknown token"),
        ({"special": {"cls": "[CLS]"}}, "cls and sep go together"),
        ({"special": {"more": ["a", "a"]}}, "names a token twice"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        VocabularyConfig.model_validate(settings)


def test_bad_input_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tokenizer: there is no text to train on"):
        train_tokenizer(["", ""], VocabularyConfig())
    with pytest.raises(DataError, match="chat_template 'chatlm': neither a file nor `chatml`"):
        train_tokenizer(TEXTS, VocabularyConfig(chat_template="chatlm"))


def test_learned_words_are_those_that_save_the_most_tokens() -> None:
    tokenizer = train_tokenizer(["x"], VocabularyConfig(algorithm="byte"))
    texts = ["gradient descent"] * 6 + ["descent"] * 9 + ["rare"]
    config = ExtensionConfig(tokens=["<tool>"], learn=2)
    assert new_tokens(tokenizer, texts, config) == [
        "<tool>",
        "descent",
        "gradient",
    ]  # 15·(8 - 2) and 6·(9 - 2) tokens saved
    with pytest.raises(DataError, match="only 2 words occur 5 times and would save tokens, not 3"):
        new_tokens(tokenizer, texts, ExtensionConfig(learn=3))
    tokenizer.add_tokens(["<tool>"])
    with pytest.raises(DataError, match="add.tokens: '<tool>' is a token already"):
        new_tokens(tokenizer, texts, config)
