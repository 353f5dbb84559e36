"""Masks of templates without `{% generation %}` marks, against pieces that are written down here by hand."""

from collections.abc import Callable
from typing import Any

import pytest
from chat_tokenizers import CHATML, LLAMA2, TEXTS, ZEPHYR, build
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.tokens.choose import shipped
from data_prep.tokens.config import CHAT_TEMPLATES
from data_prep.tokens.masks import IGNORED, encode
from data_prep.tokens.template import render

Pieces = list[tuple[str, bool]]
"""What a row reads like, and whether each piece is learned."""

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Mistral 7B Instruct v0.2: no system turn.
MISTRAL2 = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def chatml_pieces(turns: list[dict[str, str]]) -> Pieces:
    pieces: Pieces = []
    for turn in turns:
        learned = turn["role"] == "assistant"
        pieces += [(f"<|im_start|>{turn['role']}\n", False), (turn["content"] + "<|im_end|>", learned), ("\n", False)]
    return pieces


def smollm2_pieces(turns: list[dict[str, str]]) -> Pieces:
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    lead = [] if turns[0]["role"] == "system" else [{"role": "system", "content": default}]
    return chatml_pieces(lead + turns)


def zephyr_pieces(turns: list[dict[str, str]]) -> Pieces:
    pieces: Pieces = []
    for turn in turns:
        learned = turn["role"] == "assistant"
        pieces += [(f"<|{turn['role']}|>\n", False), (turn["content"] + "</s>", learned), ("\n", False)]
    return pieces


def llama2_pieces(turns: list[dict[str, str]]) -> Pieces:
    system = turns[0]["content"] if turns[0]["role"] == "system" else None
    pieces: Pieces = []
    for at, turn in enumerate(turns[1:] if system is not None else turns):
        lead = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if at == 0 and system is not None else ""
        if turn["role"] == "user":
            pieces.append((f"<s>[INST] {(lead + turn['content']).strip()} [/INST]", False))
        else:
            pieces.append((f" {turn['content'].strip()} </s>", True))
    return pieces


def shipped_llama2_pieces(turns: list[dict[str, str]]) -> Pieces:
    """The same, but only the question is trimmed: the system text stays as it is."""
    system = turns[0]["content"] if turns[0]["role"] == "system" else None
    pieces: Pieces = []
    for at, turn in enumerate(turns[1:] if system is not None else turns):
        lead = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if at == 0 and system is not None else ""
        if turn["role"] == "user":
            pieces.append((f"<s>[INST] {lead}{turn['content'].strip()} [/INST]", False))
        else:
            pieces.append((f" {turn['content'].strip()} </s>", True))
    return pieces


def mistral2_pieces(turns: list[dict[str, str]]) -> Pieces:
    pieces: Pieces = [("<s>", False)]
    for turn in turns:
        user = turn["role"] == "user"
        pieces.append((f"[INST] {turn['content']} [/INST]", False) if user else (turn["content"] + "</s>", True))
    return pieces


def shipped_mistral_pieces(turns: list[dict[str, str]]) -> Pieces:
    system = turns[0]["content"] + "\n\n" if turns[0]["role"] == "system" else ""
    pieces: Pieces = [("<s>", False)]
    for at, turn in enumerate(turns[1:] if system else turns):
        if turn["role"] == "user":
            pieces.append((f"[INST] {system if at == 0 else ''}{turn['content']}[/INST]", False))
        else:
            pieces.append((f" {turn['content'].strip()}</s>", True))
    return pieces


def llama3_pieces(turns: list[dict[str, str]]) -> Pieces:
    pieces: Pieces = [("<s>", False)]
    for turn in turns:
        pieces.append((f"<|start_header_id|>{turn['role']}<|end_header_id|>\n\n", False))
        pieces.append((turn["content"].strip() + "<|eot_id|>", turn["role"] == "assistant"))
    return pieces


def gemma_pieces(turns: list[dict[str, str]]) -> Pieces:
    pieces: Pieces = [("<s>", False)]
    for turn in turns:
        learned = turn["role"] == "assistant"
        pieces.append((f"<start_of_turn>{'model' if learned else 'user'}\n", False))
        pieces += [(turn["content"].strip() + "<end_of_turn>", learned), ("\n", False)]
    return pieces


def phi3_pieces(turns: list[dict[str, str]]) -> Pieces:
    pieces: Pieces = []
    for turn in turns:
        learned = turn["role"] == "assistant"
        pieces += [(f"<|{turn['role']}|>\n", False), (turn["content"] + "<|end|>", learned), ("\n", False)]
    return pieces


# template, pieces by hand, whether it takes a system turn
EXPECTED: dict[str, tuple[str, Callable[[list[dict[str, str]]], Pieces], bool]] = {
    "SmolLM2": (SMOLLM2, smollm2_pieces, True),
    "Llama 2": (LLAMA2, llama2_pieces, True),
    "Mistral": (MISTRAL2, mistral2_pieces, False),
    "Zephyr": (ZEPHYR, zephyr_pieces, True),
    "ChatML": (CHATML, chatml_pieces, True),
    "shipped chatml": (shipped("chatml"), chatml_pieces, True),
    "shipped llama2": (shipped("llama2"), shipped_llama2_pieces, True),
    "shipped llama3": (shipped("llama3"), llama3_pieces, True),
    "shipped mistral": (shipped("mistral"), shipped_mistral_pieces, True),
    "shipped zephyr": (shipped("zephyr"), zephyr_pieces, True),
    "shipped gemma": (shipped("gemma"), gemma_pieces, False),
    "shipped phi3": (shipped("phi3"), phi3_pieces, True),
}
SPECIAL = tuple(dict.fromkeys(["<|im_start|>", "<|im_end|>", *(t for names in CHAT_TEMPLATES.values() for t in names)]))


@st.composite
def turns(draw: st.DrawFn, system: bool) -> list[dict[str, str]]:
    """One to three exchanges, perhaps behind a system turn."""
    found = [{"role": "system", "content": draw(TEXTS)}] if system and draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        found += [{"role": "user", "content": draw(TEXTS)}, {"role": "assistant", "content": draw(TEXTS)}]
    return found


def expected_labels(tokenizer: Any, pieces: Pieces) -> tuple[list[int], list[int]]:
    """Ids and labels by transformers' own offsets and the pieces: learned where all characters are."""
    text = "".join(piece for piece, _ in pieces)
    learned = [mark for piece, mark in pieces for _ in piece]
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = found["input_ids"], found["offset_mapping"]
    marks = [all(learned[first:last]) for first, last in spans]
    return ids, [token if mark else IGNORED for token, mark in zip(ids, marks, strict=True)]


@pytest.mark.parametrize("name", EXPECTED)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_text_and_mask_are_as_written_by_hand(name: str, data: st.DataObject) -> None:
    template, pieces_of, system = EXPECTED[name]
    tokenizer = build(template, "<s>", "</s>", SPECIAL)
    messages = data.draw(turns(system))
    pieces = pieces_of(messages)
    rendered = render(tokenizer, {"id": "r", "messages": messages})
    assert rendered.text == "".join(piece for piece, _ in pieces)
    encoded = encode(tokenizer, rendered, 10_000)
    assert (encoded.input_ids, encoded.labels) == expected_labels(tokenizer, pieces)


def test_every_shipped_template_is_expected() -> None:
    assert {f"shipped {name}" for name in CHAT_TEMPLATES} <= set(EXPECTED)
